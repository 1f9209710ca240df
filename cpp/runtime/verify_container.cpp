// Verification of the file as a whole: header, version, size, checksum, section table.
#include <algorithm>
#include <cstring>

#include "runtime/crc32.hpp"
#include "runtime/verify.hpp"

namespace npu {
namespace {

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(ErrorCode::kInvalidProgram, text(parts...));
}

void check_version(const schema::Header& header) {
  const std::string found = text("version ", header.version_major, ".", header.version_minor);
  const std::string ours = text(schema::kVersionMajor, ".", schema::kVersionMinor);
  if (header.version_major > schema::kVersionMajor ||
      (header.version_major == schema::kVersionMajor &&
       header.version_minor > schema::kVersionMinor)) {
    throw Error(ErrorCode::kUnsupportedVersion,
                text("header: ", found, " is newer than this reader, which opens up to ", ours,
                     "; update npu-sim or compile the model with this version"));
  }
  if (header.version_major < schema::kVersionMajor) {
    throw Error(ErrorCode::kUnsupportedVersion,
                text("header: ", found, " is of an older major version than this reader's ", ours,
                     "; compile the model again"));
  }
}

void check_header(std::span<const std::byte> bytes, const schema::Header& header) {
  if (std::memcmp(header.magic, schema::kMagic, sizeof header.magic) != 0) {
    fail("header: not a .npubin file (wrong magic bytes)");
  }
  check_version(header);
  if (header.file_size != bytes.size()) {
    fail("header: the file should have ", header.file_size, " bytes and has ", bytes.size(),
         ", it is ", bytes.size() < header.file_size ? "truncated" : "too long",
         "; get or compile it again");
  }
  if (header.flags != 0 || std::any_of(std::begin(header.reserved), std::end(header.reserved),
                                       [](auto r) { return r; })) {
    fail("header: flags and reserved fields must be 0");
  }
  const std::uint32_t checksum = file_checksum(bytes);
  if (checksum != header.checksum) {
    fail("header: the checksum is ", checksum, " and should be ", header.checksum,
         ", the file is damaged; get or compile it again");
  }
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

// Sections follow each other without holes: what lies between two is the zero padding up to the
// alignment.
void check_gap(std::span<const std::byte> bytes, std::string_view section, std::uint64_t end,
               std::uint64_t next) {
  const std::uint64_t expected =
      (end + schema::kAlignment - 1) / schema::kAlignment * schema::kAlignment;
  if (next != expected) {
    fail("section table: ", section, " starts at offset ", next,
         ", but the aligned end of what precedes it is ", expected);
  }
  if (!all_zero(bytes.subspan(end, next - end))) {
    fail("section table: the padding before ", section, " is not zero");
  }
}

}  // namespace

std::uint32_t file_checksum(std::span<const std::byte> bytes) noexcept {
  // The whole file, in which the checksum itself counts as 0.
  schema::Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  header.checksum = 0;
  const std::uint32_t before = crc32(std::as_bytes(std::span(&header, 1)));
  return crc32(bytes.subspan(sizeof header), before);
}

void verify_container(std::span<const std::byte> bytes,
                      std::span<const std::byte> (&sections)[schema::kSectionKindCount]) {
  if (bytes.size() < sizeof(schema::Header)) {
    fail("header: a .npubin file has at least ", sizeof(schema::Header), " bytes, this one has ",
         bytes.size(), ", it is truncated");
  }
  if (bytes.size() > schema::kMaxFileBytes) {
    fail("header: ", bytes.size(), " bytes are more than the limit of ", schema::kMaxFileBytes);
  }
  const auto& header = *reinterpret_cast<const schema::Header*>(bytes.data());
  check_header(bytes, header);

  if (header.section_count > schema::kSectionKindCount) {
    fail("header: section_count is ", header.section_count, ", at most ", schema::kSectionKindCount,
         " kinds exist");
  }
  std::uint64_t end = sizeof header + header.section_count * sizeof(schema::Section);
  if (end > bytes.size())
    fail("section table: it does not fit the file of ", bytes.size(), " bytes");
  const std::span<const schema::Section> table{
      reinterpret_cast<const schema::Section*>(bytes.data() + sizeof header), header.section_count};

  std::uint64_t next_kind = 0;
  for (const schema::Section& section : table) {
    if (section.kind >= schema::kSectionKindCount) {
      fail("section table: kind ", section.kind, " is unknown");
    }
    const std::string_view name = schema::kSectionKindNames[section.kind];
    if (section.kind < next_kind) fail("section table: ", name, " comes twice or out of order");
    next_kind = section.kind + 1;
    const std::uint32_t record_size = schema::kSectionRecordSize[section.kind];
    if (section.record_size != record_size) {
      fail("section table: ", name, " has records of ", section.record_size, " bytes, version ",
           header.version_major, ".", header.version_minor, " has ", record_size);
    }
    if (record_size > 1 && section.count > schema::kMaxRecords) {
      fail("section table: ", name, " has ", section.count, " records, the limit is ",
           schema::kMaxRecords);
    }
    if (section.offset > bytes.size() ||
        section.count > (bytes.size() - section.offset) / record_size) {
      fail("section table: ", name, " (offset ", section.offset, ", ", section.count,
           " records of ", record_size, " bytes) leaves the file of ", bytes.size(), " bytes");
    }
    check_gap(bytes, name, end, section.offset);
    sections[section.kind] = bytes.subspan(section.offset, section.count * record_size);
    end = section.offset + section.count * record_size;
  }
  const std::uint64_t padded =
      (end + schema::kAlignment - 1) / schema::kAlignment * schema::kAlignment;
  if ((bytes.size() != end && bytes.size() != padded) || !all_zero(bytes.subspan(end))) {
    fail("section table: ", bytes.size() - end, " bytes follow the last section");
  }
}

}  // namespace npu
