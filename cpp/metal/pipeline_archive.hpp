// Compiled pipelines on disk, so that the next start compiles none of them.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "metal/metal_cpp.hpp"

namespace npu::metal {

// Names content, in 32 hexadecimal digits. Whoever makes two contents have one name gains nothing:
// Metal looks functions up in an archive by what they are.
class ContentName {
 public:
  ContentName& add(std::string_view text);
  ContentName& add(std::span<const std::uint32_t> words);
  std::string hex() const;

 private:
  void mix(std::span<const std::byte> bytes);
  std::array<std::uint64_t, 2> state_{0xcbf29ce484222325u, 0x9ae16a3b2f90404fu};
};

// The file of a set of pipelines. Whatever is wrong with it is noted and never an error: the
// pipelines are then compiled.
class PipelineArchive {
 public:
  using Note = std::function<void(const std::string&)>;

  // Opens the file of that name, if there is one, in a folder that need not be there.
  PipelineArchive(MTL::Device& device, std::filesystem::path folder, const std::string& name,
                  Note note);

  // An array of the archive, for descriptors; null where nothing has been stored.
  const NS::Array* found() const { return found_.get(); }

  // Puts these pipelines into the file, in place of what it holds. Old files go where the folder
  // has become too large.
  void store(std::span<const MTL::ComputePipelineDescriptor* const> pipelines);

 private:
  NS::SharedPtr<MTL::BinaryArchive> open(const NS::URL* url, NS::Error** error) const;
  void shrink() const;

  MTL::Device& device_;
  std::filesystem::path folder_;
  std::filesystem::path file_;
  Note note_;
  NS::SharedPtr<NS::Array> found_;
};

}  // namespace npu::metal
