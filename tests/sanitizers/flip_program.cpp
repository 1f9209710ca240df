// npu_flip FILE [DEVICE...]: flips every byte of a program file, three ways, and opens and runs
// each on the devices. With the stale checksum every flip must be refused; with a repaired checksum
// it must be refused or run to its end. Meant for a build with sanitizers: memory errors abort it.

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device.hpp"
#include "runtime/devices.hpp"
#include "runtime/program.hpp"
#include "runtime/verify.hpp"

namespace {

using Bytes = std::vector<std::byte>;

// Programs whose flipped sizes want more than this are opened but not run.
constexpr std::uint64_t kMaxRunBytes = 64u << 20;

struct Counts {
  long refused = 0, ran = 0, too_large = 0;
};

std::uint64_t memory_of(const npu::Program& program) {
  std::uint64_t bytes = 0;
  for (const auto& entry : program.entry_points()) bytes = std::max(bytes, entry.arena_size);
  for (const auto& buffer : program.buffers()) bytes += buffer.size;
  return bytes;
}

void run(npu::Device& device, const std::shared_ptr<const npu::Program>& program) {
  const auto executable = device.load(program);
  std::vector<npu::BufferPtr> weights;
  const auto allocate = [&](std::uint32_t tensor) {
    return device.allocate(program->buffers()[program->tensors()[tensor].buffer].size);
  };
  for (const auto& weight : program->weights()) weights.push_back(allocate(weight.tensor));
  const auto binding = executable->bind(weights);
  for (std::uint32_t e = 0; e < program->entry_points().size(); ++e) {
    std::vector<npu::BufferPtr> inputs, outputs;
    for (const auto& io : program->inputs_of(program->entry_points()[e])) {
      inputs.push_back(allocate(io.tensor));
    }
    for (const auto& io : program->outputs_of(program->entry_points()[e])) {
      outputs.push_back(io.donor == npu::schema::kNone ? allocate(io.tensor) : inputs[io.donor]);
    }
    executable->run(*binding, e, inputs, outputs, nullptr);
  }
}

// Throws what the reader throws.
void try_file(const Bytes& file, const std::vector<std::unique_ptr<npu::Device>>& devices,
              Counts& counts) {
  try {
    const auto program = npu::Program::from_bytes(file);
    if (memory_of(*program) > kMaxRunBytes) {
      ++counts.too_large;
      return;
    }
    for (const auto& device : devices) run(*device, program);
    ++counts.ran;
  } catch (const npu::Error&) {
    ++counts.refused;
  }
}

void repair_checksum(Bytes& file) {
  const std::uint32_t checksum = npu::file_checksum(file);
  std::memcpy(file.data() + offsetof(npu::schema::Header, checksum), &checksum, sizeof checksum);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: npu_flip FILE [DEVICE...]\n");
    return 2;
  }
  npu::register_cpu_device();
  npu::register_reference_device();
  std::vector<std::unique_ptr<npu::Device>> devices;
  for (int i = 2; i < argc; ++i) devices.push_back(npu::make_device(argv[i]));

  std::ifstream stream(argv[1], std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(stream), {}};
  Bytes file(chars.size());
  std::memcpy(file.data(), chars.data(), chars.size());

  Counts whole;
  try_file(file, devices, whole);
  if (whole.ran != 1) {
    std::fprintf(stderr, "%s does not run as it is\n", argv[1]);
    return 1;
  }
  Counts stale, repaired;
  for (std::size_t at = 0; at < file.size(); ++at) {
    for (const int mask : {0x01, 0x80, 0xff}) {
      Bytes flipped = file;
      flipped[at] ^= static_cast<std::byte>(mask);
      try_file(flipped, {}, stale);
      repair_checksum(flipped);
      try_file(flipped, devices, repaired);
    }
  }
  for (std::size_t size = 0; size < file.size(); ++size) {
    try_file(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)), {}, stale);
  }
  Bytes longer = file;
  longer.push_back(std::byte{0});
  try_file(longer, {}, stale);

  std::printf("{\"bytes\": %zu, \"stale_refused\": %ld, \"stale_accepted\": %ld, ", file.size(),
              stale.refused, stale.ran + stale.too_large);
  std::printf("\"repaired_refused\": %ld, \"repaired_ran\": %ld, \"repaired_too_large\": %ld}\n",
              repaired.refused, repaired.ran, repaired.too_large);
  return stale.ran + stale.too_large == 0 ? 0 : 1;
}
