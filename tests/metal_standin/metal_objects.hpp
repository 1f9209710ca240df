// The Metal objects of the stand-in.
#pragma once

#include <Metal/Metal.hpp>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "metal_standin/objc_runtime.hpp"
#include "reference/shader_table.hpp"
#include "runtime/kernels.hpp"

namespace npu::standin {

// Arguments that a compute encoder has room for.
constexpr std::size_t kMaxArguments = 31;
// Of offsets into constant address space, on the most demanding Mac.
constexpr std::size_t kConstantAlignment = 32;
constexpr std::size_t kMaxInlineBytes = 4096;
constexpr std::size_t kPageBytes = 4096;

// An object that commands use. They may not outlive it, whoever holds references.
struct Resource : Object {
  std::atomic<std::int64_t> in_commands{0};
};

struct Buffer : Resource {
  ~Buffer();
  std::byte* data = nullptr;
  std::size_t length = 0;
  bool is_private = false;
  bool owned = false;  // else the host's pages
};

// One kernel function of a library, as its text declares it.
struct Declaration {
  std::string name;
  std::vector<bool> constant;  // per argument: in constant address space
  const reference::EntryPoint* entry = nullptr;
  const KernelInfo* kernel = nullptr;
  const std::uint32_t* threadgroup = nullptr;  // threads of a group, as its record says
  // Of a kernel that was generated for an elementwise program: its text from there on, and how many
  // elements a thread does. The interpreter stands in for it.
  std::string generated;
  std::uint32_t lanes = 1;
};

// Values of function constants by index.
using Constants = std::map<std::uint64_t, std::uint32_t>;

struct Pipeline : Resource {
  Declaration declaration;
  Constants constants;
  std::uint64_t max_threads = 0;
};

struct Argument {
  Buffer* buffer = nullptr;
  std::size_t offset = 0;
  std::vector<std::byte> bytes;  // instead of a buffer
  bool bound() const { return buffer != nullptr || !bytes.empty(); }
};

// What an encoder records. `run` is empty for a barrier.
struct Command {
  std::function<void()> run;
  std::string kernel;
};

// The commands of one encoder.
struct Pass {
  bool concurrent = false;
  std::vector<Command> commands;
};

class Gpu;

struct Queue : Object {
  explicit Queue(std::shared_ptr<Gpu> g) : gpu(std::move(g)) {}
  std::shared_ptr<Gpu> gpu;
};

struct CommandBuffer : Object {
  explicit CommandBuffer(std::shared_ptr<Gpu> g, bool r) : gpu(std::move(g)), retains(r) {}
  ~CommandBuffer();
  // Commands use the resource from now until they have run.
  void use(Resource* resource);

  std::shared_ptr<Gpu> gpu;
  bool retains;
  Object* open_encoder = nullptr;
  std::vector<Pass> passes;
  std::vector<Resource*> used;

  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  MTL::CommandBufferStatus status = MTL::CommandBufferStatusNotEnqueued;
  bool waited_for = false;
  Object* error = nullptr;
  double begin = 0;  // seconds
  double end = 0;
};

struct Encoder : Object {
  Encoder(CommandBuffer* c, bool concurrent);
  ~Encoder();
  void check_open(const char* message) const;
  void dispatch(MTL::Size groups, MTL::Size threads);

  CommandBuffer* commands;
  bool ended = false;
  Pipeline* pipeline = nullptr;
  Argument arguments[kMaxArguments];
};

// Waits until all that was committed has run.
void drain_gpu();

// The system's GPU, or null where settings say that there is none. One reference is the caller's.
Object* new_system_device();

// The kernels that a library's text declares. Throws npu::Error for one that the build lacks.
std::vector<Declaration> declarations(const std::string& text);
// Types of the function constants that a text declares, by index.
std::map<std::uint64_t, std::string> declared_constants(const std::string& text);

// For the classes of resources.
bool resource_in_use(id object);

// Libraries, functions, pipeline states and archives; the device's class exists.
void define_pipelines();
// Pipelines that were compiled rather than found in an archive, since the last reset.
std::uint64_t compilations();
void reset_compilations();

// Ends a command buffer that has been committed.
void finish(CommandBuffer& commands, Object* error);

}  // namespace npu::standin
