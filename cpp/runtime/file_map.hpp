// A file mapped read-only.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace npu {

class FileMap {
 public:
  // Throws kIo naming the path and the system's reason.
  explicit FileMap(const std::filesystem::path& path);
  ~FileMap();
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;

  std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace npu
