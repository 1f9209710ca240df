// Panels filled from weight rows where they lie, each just before it is used: from the storage type
// or from int8.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dtype.hpp"
#include "kernel_table.hpp"
#include "panels.hpp"

namespace npu::cpu {

class RowPanels {
 public:
  RowPanels(const KernelTable& table, const GemmKernels& gemm, DType dtype, bool int8_weights,
            std::int64_t k);

  std::int64_t scratch_bytes() const { return scratch_bytes_; }

  // One panel of `columns` rows: row j at w + j * stride_n, its elements stride_k apart (in
  // elements of the storage type, or int8). The rest of the panel is zero.
  void pack(const void* w, std::int64_t stride_n, std::int64_t stride_k, std::int64_t columns,
            std::byte* panel, std::byte* scratch) const;

 private:
  void pack_chunk(const std::byte* w, std::int64_t row_bytes, std::int64_t columns, std::int64_t k,
                  std::int64_t k_padded, std::byte* panel) const;
  void gather(const std::byte* w, std::int64_t stride_n, std::int64_t stride_k,
              std::int64_t columns, std::int64_t k, std::byte* rows) const;

  const KernelTable& t_;
  const GemmKernels& g_;
  DType dtype_;
  bool int8_;
  std::int64_t k_, k_padded_, chunk_, row_bytes_, scratch_bytes_;
};

}  // namespace npu::cpu
