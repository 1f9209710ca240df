// POSIX file mapping.
#include "runtime/file_map.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "runtime/error.hpp"
#include "runtime/text.hpp"

namespace npu {
namespace {

class File {
 public:
  explicit File(const std::filesystem::path& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const noexcept { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& reason) {
  throw Error(ErrorCode::kIo, text(path.string(), ": cannot be read: ", reason));
}

std::string system_reason() { return std::generic_category().message(errno); }

}  // namespace

FileMap::FileMap(const std::filesystem::path& path) {
  const File file(path);
  if (file.fd() < 0) fail(path, system_reason());
  struct stat status{};
  if (::fstat(file.fd(), &status) != 0) fail(path, system_reason());
  if (!S_ISREG(status.st_mode)) fail(path, "not a regular file");
  if (status.st_size == 0) return;  // an empty file has no pages to map
  const auto size = static_cast<std::size_t>(status.st_size);
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (memory == MAP_FAILED) fail(path, system_reason());
  bytes_ = {static_cast<const std::byte*>(memory), size};
}

FileMap::~FileMap() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace npu
