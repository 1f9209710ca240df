// Verifier templates over the records that show a view of a buffer: tensors and operands.
#pragma once

#include "runtime/sat_int.hpp"
#include "runtime/verify.hpp"

namespace npu {

inline SatInt element_count(const std::uint32_t* shape, std::uint32_t rank) {
  SatInt count(1);
  for (std::uint32_t i = 0; i < rank; ++i) count = count * SatInt(shape[i]);
  return count;
}

// Elements from the first to one past the last that a view touches; strides are not negative.
inline SatInt element_span(const std::uint32_t* shape, const std::int64_t* strides,
                           std::uint32_t rank) {
  SatInt last(0);
  for (std::uint32_t i = 0; i < rank; ++i) {
    if (shape[i] == 0) return SatInt(0);
    last = last + SatInt(shape[i] - std::int64_t{1}) * SatInt(strides[i]);
  }
  return last + SatInt(1);
}

template <class Record>
std::uint64_t Verifier::view_end(Kind section, std::uint64_t index, const Record& record,
                                 const std::uint32_t (&shape)[schema::kMaxRank]) const {
  const std::uint64_t size = program_.buffers()[record.buffer].size;
  const std::uint32_t item = schema::dtype_size(record.dtype);
  const SatInt span = element_span(shape, record.strides, record.rank) * SatInt(item);
  if (record.offset > size || static_cast<std::uint64_t>(span.value()) > size - record.offset) {
    fail(section, index, "offset ", record.offset, " and ", span.value(),
         " bytes of elements leave buffer ", record.buffer, " (", buffer_name(record.buffer),
         ") of ", size, " bytes");
  }
  return span.value() == 0 ? 0 : record.offset + static_cast<std::uint64_t>(span.value());
}

template <class Record>
void Verifier::check_view(Kind section, std::uint64_t index, const Record& record,
                          const std::uint32_t (&shape)[schema::kMaxRank]) {
  if (record.buffer >= program_.buffers().size()) {
    fail(section, index, "buffer is ", record.buffer, ", there are ", program_.buffers().size());
  }
  const schema::DTypeInfo* dtype = schema::find_dtype(record.dtype);
  if (dtype == nullptr) fail(section, index, "dtype ", +record.dtype, " is unknown");
  if (record.rank > schema::kMaxRank) {
    fail(section, index, "rank is ", +record.rank, ", at most ", schema::kMaxRank, " are allowed");
  }
  for (std::uint32_t i = 0; i < schema::kMaxRank; ++i) {
    if (i >= record.rank) {
      if (shape[i] != 0 || record.strides[i] != 0) {
        fail(section, index, "axis ", i, " is behind rank ", +record.rank, " and not 0");
      }
      continue;
    }
    if (shape[i] > schema::kMaxDim) {
      fail(section, index, "axis ", i, " has ", shape[i], " elements, the limit is ",
           schema::kMaxDim);
    }
    if (record.strides[i] < 0) {
      fail(section, index, "stride of axis ", i, " is ", record.strides[i],
           ", it must not be negative");
    }
  }
  const SatInt count = element_count(shape, record.rank);
  if (count > SatInt(schema::kMaxElements)) {
    fail(section, index, count.value(), " elements, the limit is ", schema::kMaxElements);
  }
  if (record.offset % dtype->size != 0) {
    fail(section, index, "offset ", record.offset, " is not aligned to ", dtype->name, " (",
         dtype->size, " bytes)");
  }
  const std::uint64_t end = view_end(section, index, record, shape);
  std::uint64_t& extent = uses_[record.buffer].extent;
  if (end > extent) extent = end;
}

}  // namespace npu
