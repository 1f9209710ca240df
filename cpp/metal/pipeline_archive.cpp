// Reads and writes the files of compiled pipelines.
#include "metal/pipeline_archive.hpp"

#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>
#include <vector>

#include "runtime/text.hpp"

namespace npu::metal {
namespace {

namespace fs = std::filesystem;

// python/npu_runtime/device_cache.py knows the files by it.
constexpr const char* kSuffix = ".archive";
// Of all files together; the ones not used for longest go first.
constexpr std::uintmax_t kMostBytes = std::uintmax_t{256} << 20;

const NS::URL* url_of(const fs::path& path) {
  return NS::URL::fileURLWithPath(ns_string(path.string()));
}

}  // namespace

ContentName& ContentName::add(std::string_view text) {
  const std::uint64_t size = text.size();
  mix(std::as_bytes(std::span(&size, 1)));
  mix(std::as_bytes(std::span(text)));
  return *this;
}

ContentName& ContentName::add(std::span<const std::uint32_t> words) {
  const std::uint64_t size = words.size();
  mix(std::as_bytes(std::span(&size, 1)));
  mix(std::as_bytes(words));
  return *this;
}

// FNV-1a from two beginnings.
void ContentName::mix(std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    for (std::uint64_t& state : state_) {
      state = (state ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001b3u;
    }
  }
}

std::string ContentName::hex() const {
  std::string digits;
  for (const std::uint64_t state : state_) {
    for (int shift = 60; shift >= 0; shift -= 4) digits += "0123456789abcdef"[state >> shift & 15];
  }
  return digits;
}

PipelineArchive::PipelineArchive(MTL::Device& device, fs::path folder, const std::string& name,
                                 Note note)
    : device_(device),
      folder_(std::move(folder)),
      file_(folder_ / (name + kSuffix)),
      note_(std::move(note)) {
  std::error_code missing;
  if (!fs::exists(file_, missing)) return;
  NS::Error* error = nullptr;
  const auto archive = open(url_of(file_), &error);
  if (!archive) {
    note_(text(file_.string(),
               " cannot be used, its kernels are compiled anew: ", message_of(error)));
    return;
  }
  found_ = NS::RetainPtr(NS::Array::array(archive.get()));
  // Marks it as used; where that is not allowed it only goes earlier.
  fs::last_write_time(file_, fs::file_time_type::clock::now(), missing);
}

NS::SharedPtr<MTL::BinaryArchive> PipelineArchive::open(const NS::URL* url,
                                                        NS::Error** error) const {
  const auto descriptor = NS::TransferPtr(MTL::BinaryArchiveDescriptor::alloc()->init());
  if (url != nullptr) descriptor->setUrl(url);
  return NS::TransferPtr(device_.newBinaryArchive(descriptor.get(), error));
}

void PipelineArchive::store(std::span<const MTL::ComputePipelineDescriptor* const> pipelines) {
  const auto give_up = [&](const std::string& reason) {
    note_(text("compiled kernels cannot be kept in ", folder_.string(), ": ", reason,
               "; set NPU_SIM_CACHE_DIR to a folder that can be written"));
  };
  std::error_code problem;
  fs::create_directories(folder_, problem);
  if (problem) return give_up(problem.message());
  NS::Error* error = nullptr;
  const auto archive = open(nullptr, &error);
  if (!archive) return give_up(message_of(error));
  for (const MTL::ComputePipelineDescriptor* const pipeline : pipelines) {
    if (!archive->addComputePipelineFunctions(pipeline, &error)) return give_up(message_of(error));
  }
  // Whole or not at all, whatever else reads or writes it.
  const fs::path draft = folder_ / text(".", file_.filename().string(), ".", ::getpid());
  const bool written = archive->serializeToURL(url_of(draft), &error);
  if (written) fs::rename(draft, file_, problem);
  if (!written || problem) {
    std::error_code ignored;
    fs::remove(draft, ignored);
    return give_up(written ? problem.message() : message_of(error));
  }
  shrink();
}

void PipelineArchive::shrink() const {
  struct File {
    fs::path path;
    fs::file_time_type used;
    std::uintmax_t bytes;
  };
  std::vector<File> files;
  std::uintmax_t total = 0;
  std::error_code gone;  // another process may remove files meanwhile
  for (fs::directory_iterator at(folder_, gone), end; !gone && at != end; at.increment(gone)) {
    if (at->path().extension() != kSuffix) continue;
    std::error_code unknown;
    const File file{at->path(), at->last_write_time(unknown), at->file_size(unknown)};
    if (unknown) continue;
    total += file.bytes;
    if (file.path != file_) files.push_back(file);
  }
  std::sort(files.begin(), files.end(),
            [](const File& a, const File& b) { return a.used < b.used; });
  for (const File& file : files) {
    if (total <= kMostBytes) return;
    total -= file.bytes;
    fs::remove(file.path, gone);
  }
}

}  // namespace npu::metal
