// Verification of a dispatch against its kernel record: operands, fields, rules, launch grid,
// overlaps.
#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

#include "runtime/apart.hpp"
#include "runtime/kernel_params.hpp"
#include "runtime/verify_view.hpp"

namespace npu {
namespace {

struct Axis {
  std::uint64_t stride;
  std::uint64_t size;
};

// Whether no two elements of the view share memory: each axis steps over all that the axes inside
// it reach.
bool distinct_elements(const schema::Operand& operand) {
  std::array<Axis, schema::kMaxRank> axes;
  axes.fill({std::numeric_limits<std::uint64_t>::max(), 1});  // unused ones sort to the end
  std::size_t rank = 0;
  for (std::uint32_t i = 0; i < operand.rank; ++i) {
    if (operand.shape[i] == 0) return true;
    if (operand.shape[i] > 1) {
      axes[rank++] = {static_cast<std::uint64_t>(operand.strides[i]), operand.shape[i]};
    }
  }
  std::sort(axes.begin(), axes.end(),
            [](const Axis& a, const Axis& b) { return a.stride < b.stride; });
  std::uint64_t reach = 0;  // of the axes so far; fits, since the view lies in its buffer
  for (std::size_t i = 0; i < rank; ++i) {
    if (axes[i].stride <= reach) return false;
    reach += (axes[i].size - 1) * axes[i].stride;
  }
  return true;
}

bool same_view(const schema::Operand& a, const schema::Operand& b) {
  if (a.dtype != b.dtype || a.rank != b.rank) return false;
  for (std::uint32_t i = 0; i < a.rank; ++i) {
    if (a.shape[i] != b.shape[i]) return false;
    if (a.shape[i] > 1 && a.strides[i] != b.strides[i]) return false;
  }
  return true;
}

bool may_be_in_place(const KernelInfo& kernel, std::uint32_t input, std::uint32_t output) {
  for (std::size_t i = 0; i + 1 < kernel.inplace.size(); i += 2) {
    if (kernel.inplace[i] == input && kernel.inplace[i + 1] == output) return true;
  }
  return false;
}

// ", x.n=1, y.n=2": the values of the names that a rule reads.
std::string rule_values(std::string_view rule, const KernelInfo& kernel,
                        std::span<const schema::Operand> operands,
                        std::span<const std::byte> fields) {
  std::string out;
  const auto value_of = [&](std::string_view name) {
    for (std::size_t k = 0; k < operands.size(); ++k) {
      const OperandInfo& info = kernel.operands[k];
      for (std::size_t axis = 0; axis < info.axes.size(); ++axis) {
        if (text(info.name, ".", info.axes[axis]) == name) {
          out += text(", ", name, "=", operands[k].shape[axis]);
        }
      }
    }
    std::size_t at = 0;
    for (const FieldInfo& field : kernel.fields) {
      if (field.name == name && field.count == 1) {
        std::uint32_t bits = 0;
        std::copy_n(fields.begin() + static_cast<std::ptrdiff_t>(at), sizeof bits,
                    reinterpret_cast<std::byte*>(&bits));
        out += text(", ", name, "=", bits);
      }
      at += std::size_t{4} * field.count;
    }
  };
  const auto in_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.';
  };
  for (std::size_t i = 0; i < rule.size();) {
    std::size_t end = i;
    while (end < rule.size() && in_name(rule[end])) ++end;
    if (end > i) value_of(rule.substr(i, end - i));
    i = end + 1;
  }
  return out;
}

}  // namespace

void Verifier::check_operand_records() {
  const auto operands = program_.operands();
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const schema::Operand& o = operands[i];
    if (o.access >= schema::kAccessCount)
      fail(Kind::kOperands, i, "access ", +o.access, " is unknown");
    if (std::any_of(std::begin(o.reserved), std::end(o.reserved), [](auto r) { return r != 0; })) {
      fail(Kind::kOperands, i, "reserved is not 0");
    }
    if (o.tensor != schema::kNone && o.tensor >= program_.tensors().size()) {
      fail(Kind::kOperands, i, "tensor is ", o.tensor, ", there are ", program_.tensors().size());
    }
    if (o.buffer != schema::kNone) {
      check_view(Kind::kOperands, i, o, o.shape);
      continue;
    }
    const auto zero = [](auto value) { return value == 0; };
    if (o.offset != 0 || o.rank != 0 || o.dtype != 0 ||
        !std::all_of(std::begin(o.shape), std::end(o.shape), zero) ||
        !std::all_of(std::begin(o.strides), std::end(o.strides), zero)) {
      fail(Kind::kOperands, i, "an absent operand has no dtype, shape, strides or offset");
    }
  }
}

void Verifier::check_kernel(std::uint32_t index, const KernelInfo& kernel) {
  const schema::Dispatch& d = program_.dispatches()[index];
  if (d.operand_count != kernel.operands.size()) {
    fail(Kind::kDispatches, index, "kernel ", kernel.name, " has ", kernel.operands.size(),
         " operands, not ", d.operand_count);
  }
  check_range(Kind::kDispatches, index, d.operand_first, d.operand_count,
              program_.operands().size(), "operands");
  if (d.field_size != kernel.field_bytes || d.field_offset % 4 != 0) {
    fail(Kind::kDispatches, index, "kernel ", kernel.name, " has a field block of ",
         kernel.field_bytes, " bytes at a multiple of 4, not ", d.field_size, " at ",
         d.field_offset);
  }
  check_range(Kind::kDispatches, index, d.field_offset, d.field_size, program_.fields().size(),
              "field bytes");
  if (d.source != schema::kNone && d.source >= program_.sources().size()) {
    fail(Kind::kDispatches, index, "source is ", d.source, ", there are ",
         program_.sources().size());
  }
  std::uint8_t type = 0;  // what T stands for
  for (std::uint32_t k = 0; k < d.operand_count; ++k) {
    check_operand(index, kernel, k);
    const schema::Operand& operand = program_.operands_of(d)[k];
    if (kernel.operands[k].dtype != "T" || operand.buffer == schema::kNone) continue;
    if (type != 0 && operand.dtype != type) {
      fail(Kind::kDispatches, index, "operand ", kernel.operands[k].name, " is ",
           schema::find_dtype(operand.dtype)->name, " beside ", schema::find_dtype(type)->name,
           ", kernel ", kernel.name, " takes one dtype");
    }
    type = operand.dtype;
  }
  check_rules(index, kernel);
}

void Verifier::check_operand(std::uint32_t index, const KernelInfo& kernel, std::uint32_t operand) {
  const schema::Operand& o = program_.operands_of(program_.dispatches()[index])[operand];
  const OperandInfo& info = kernel.operands[operand];
  const auto refuse = [&](const auto&... reason) {
    fail(Kind::kDispatches, index, "operand ", info.name, " of kernel ", kernel.name, " ",
         reason...);
  };
  if ((o.access == static_cast<std::uint8_t>(schema::Access::kWrite)) != info.write) {
    refuse("is ", info.write ? "written" : "read", ", its access says otherwise");
  }
  if (o.buffer == schema::kNone) {
    if (!info.optional) refuse("is missing");
    return;
  }
  if (o.rank != info.rank) refuse("has rank ", info.rank, ", not ", +o.rank);
  const schema::DTypeInfo& dtype = *schema::find_dtype(o.dtype);
  if (info.dtype == "T") {
    if (std::find(kernel.types.begin(), kernel.types.end(), o.dtype) == kernel.types.end()) {
      refuse("cannot be ", dtype.name);
    }
  } else if (info.dtype != "any" && info.dtype != dtype.short_name) {
    refuse("is ", info.dtype, ", not ", dtype.short_name);
  }
  if (info.write && !distinct_elements(o)) refuse("writes elements that share memory");
}

void Verifier::check_rules(std::uint32_t index, const KernelInfo& kernel) {
  const schema::Dispatch& d = program_.dispatches()[index];
  const auto operands = program_.operands_of(d);
  const auto fields = program_.fields_of(d);
  if (const char* rule = kernel.check(operands, fields.data())) {
    fail(Kind::kDispatches, index, kernel.name, ": rule '", rule, "' does not hold",
         rule_values(rule, kernel, operands, fields));
  }
  std::uint64_t grid[3];
  kernel.grid(operands, fields.data(), grid);
  for (int axis = 0; axis < 3; ++axis) {
    if (d.grid[axis] != grid[axis]) {
      fail(Kind::kDispatches, index, "grid axis ", axis, " is ", d.grid[axis], ", kernel ",
           kernel.name, " gives ", grid[axis]);
    }
    if (grid[axis] == 0)
      fail(Kind::kDispatches, index, "the grid is empty, there is nothing to do");
    if (d.threadgroup[axis] != kernel.threadgroup[axis]) {
      fail(Kind::kDispatches, index, "threadgroup axis ", axis, " is ", d.threadgroup[axis],
           ", kernel ", kernel.name, " has ", kernel.threadgroup[axis]);
    }
  }
  const std::uint64_t flops = kernel.flops(operands, fields.data());
  if (d.flops != flops) {
    fail(Kind::kDispatches, index, "flops are ", d.flops, ", kernel ", kernel.name, " gives ",
         flops);
  }
  SatInt bytes(0);
  for (const schema::Operand& o : operands) {
    if (o.buffer == schema::kNone) continue;
    const MemoryRange range = memory_range(o);
    bytes = bytes + SatInt(static_cast<std::int64_t>(range.end - range.begin));
  }
  const SatInt limit = SatInt(static_cast<std::int64_t>(schema::kFreeFlops)) +
                       bytes * SatInt(static_cast<std::int64_t>(schema::kMaxFlopsPerByte));
  if (flops > static_cast<std::uint64_t>(limit.value())) {
    fail(Kind::kDispatches, index, flops, " operations on ", bytes.value(), " bytes, the limit is ",
         limit.value());
  }
  if (kernel.id == NPU_KERNEL_ELEMENTWISE || kernel.id == NPU_KERNEL_MAP_REDUCE) {
    check_instructions(index, kernel);
  }
}

MemoryRange Verifier::memory_range(const schema::Operand& operand) const {
  const schema::Buffer& buffer = program_.buffers()[operand.buffer];
  const bool arena = buffer.kind == static_cast<std::uint32_t>(schema::BufferKind::kArena);
  const std::uint64_t begin = operand.offset + (arena ? buffer.offset : 0);
  const SatInt span = element_span(operand.shape, operand.strides, operand.rank) *
                      SatInt(schema::dtype_size(operand.dtype));
  return {arena ? program_.buffers().size() : memory_of_[operand.buffer], begin,
          begin + static_cast<std::uint64_t>(span.value())};
}

void Verifier::check_overlap(std::uint32_t index, const KernelInfo& kernel) {
  const auto operands = program_.operands_of(program_.dispatches()[index]);
  for (std::uint32_t j = 0; j < operands.size(); ++j) {
    if (!kernel.operands[j].write || operands[j].buffer == schema::kNone) continue;
    const MemoryRange written = memory_range(operands[j]);
    for (std::uint32_t k = 0; k < operands.size(); ++k) {
      if (k == j || operands[k].buffer == schema::kNone) continue;
      const MemoryRange other = memory_range(operands[k]);
      if (other.space != written.space || other.begin >= written.end ||
          written.begin >= other.end) {
        continue;
      }
      if (other.begin == written.begin && may_be_in_place(kernel, k, j) &&
          same_view(operands[k], operands[j])) {
        continue;
      }
      if (provably_apart(operands[j], written.begin, operands[k], other.begin)) continue;
      fail(Kind::kDispatches, index, "operand ", kernel.operands[j].name, " of kernel ",
           kernel.name, " writes over operand ", kernel.operands[k].name);
    }
  }
}

}  // namespace npu
