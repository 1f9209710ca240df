// npu_bench_metal [--json]: host cost of a dispatch in cpp/metal. The stand-in forgets commands as
// they come; what its messages cost is measured by themselves and taken off.
// npu_bench_metal --once DISPATCHES: a single run, for instructions.py to count.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "benchmarks.hpp"
#include "runtime/device.hpp"
#include "runtime/text.hpp"

extern "C" npu::Device* npu_standin_make_device();
extern "C" const char* npu_standin_set(const char* key, const char* value);
// Sends the messages of so many dispatches, and nothing else.
extern "C" void npu_standin_send_dispatches(std::uint64_t dispatches);

namespace {

std::size_t allocations = 0;

}  // namespace

// Counted, and given to the C library.
void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* const memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace npu::bench {
namespace {

constexpr std::size_t kSamples = 300;

// A chain of dispatches, ready to run.
struct Chain {
  Chain(Device& device, std::uint32_t dispatches)
      : program(Program::from_bytes(synthetic_program(dispatches))),
        executable(device.load(program)),
        binding(executable->bind({})) {
    const auto size = program->buffers()[0].size;
    const BufferPtr inputs[] = {device.allocate(size)};
    const BufferPtr outputs[] = {device.allocate(size)};
    call = executable->prepare(binding, 0, inputs, outputs);
  }

  std::shared_ptr<const Program> program;
  std::unique_ptr<Executable> executable;
  std::shared_ptr<const Binding> binding;
  std::unique_ptr<Call> call;
};

// Returns how often a run allocates, the stand-in's own objects included.
std::size_t bench(Report& report, Device& device, std::uint32_t dispatches) {
  const Chain chain(device, dispatches);
  const double scale = 1e9 / dispatches;
  const std::string what = text(dispatches, " dispatches");
  Result run = summarize_times(text("run, ", what), "ns per dispatch",
                               time_calls(kSamples, [&] { chain.call->run(nullptr); }), scale);
  Result messages = summarize_times(
      text("its messages alone, ", what), "ns per dispatch",
      time_calls(kSamples, [&] { npu_standin_send_dispatches(dispatches); }), scale);
  Result own = run;
  own.name = text("cpp/metal without its messages, ", what);
  own.median -= messages.median;
  own.best -= messages.best;
  own.mad += messages.mad;
  report.add(std::move(run));
  report.add(std::move(messages));
  report.add(std::move(own));
  const std::size_t before = allocations;
  chain.call->run(nullptr);
  return allocations - before;
}

std::unique_ptr<Device> make_device() {
  std::unique_ptr<Device> device(npu_standin_make_device());
  npu_standin_set("encode_only", "1");
  return device;
}

void run_once(const char* dispatches) {
  const std::unique_ptr<Device> device = make_device();
  const Chain chain(*device, static_cast<std::uint32_t>(std::stoul(dispatches)));
  chain.call->run(nullptr);
}

void run(bool json) {
  const std::unique_ptr<Device> device = make_device();
  Report report;
  const std::size_t few = bench(report, *device, 172);
  const std::size_t many = bench(report, *device, 2000);
  json ? report.print_json() : report.print_table();
  if (few != many) {
    throw Error(ErrorCode::kInternal, text("172 dispatches allocate ", few, " times, 2000 ", many,
                                           ": a dispatch must allocate nothing"));
  }
}

}  // namespace
}  // namespace npu::bench

int main(int argc, char** argv) {
  try {
    if (argc > 2 && std::strcmp(argv[1], "--once") == 0) {
      npu::bench::run_once(argv[2]);
    } else {
      npu::bench::run(argc > 1 && std::strcmp(argv[1], "--json") == 0);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "npu_bench_metal: %s\n", error.what());
    return 1;
  }
  return 0;
}
