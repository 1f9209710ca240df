// The masked_softmax kernel: row by row.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "cpu/host_kernels.hpp"
#include "cpu/row_space.hpp"

namespace npu::cpu {
namespace {

// Values of the mask widened, and of the row summed, at a time.
constexpr std::int64_t kChunk = 4096;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

class MaskedSoftmaxKernel final : public HostKernel {
 public:
  MaskedSoftmaxKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), tiles_(context.tiles), rows_(context.rows), space_(dispatch, 3) {
    const auto& p = dispatch.params_as<MaskedSoftmaxParams>();
    const schema::Operand& mask = dispatch.operands[1];
    scale_ = p.scale;
    safe_ = p.safe != 0;
    n_ = p.x_k;
    x_stride_ = p.x_sk;
    mask_stride_ = p.mask_sk;
    y_stride_ = p.y_sk;
    load_ = tiles_.load[dispatch.operands[0].dtype];
    store_ = tiles_.store[dispatch.operands[2].dtype];
    if (mask.buffer != schema::kNone) {
      keeps_ = mask.dtype == NPU_DTYPE_B8;
      mask_size_ = static_cast<std::int64_t>(schema::dtype_size(mask.dtype));
      load_mask_ = keeps_ ? tiles_.load[mask.dtype] : rows_.load_float[mask.dtype];
      mask_in_place_ = mask.dtype == NPU_DTYPE_F32 && mask_stride_ == 1;
    }
    space_.plan(pool_.threads(), 2 * n_);
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(worker_floats() * pool_.threads()) * sizeof(float);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    space_.run(pool_, operands,
               [&](const RowSpace::Pointers& at, std::int64_t /*rows*/, int worker) {
                 run_row(at, reinterpret_cast<float*>(scratch) + worker * worker_floats());
               });
  }

 private:
  // A row of values and a chunk of the mask.
  std::int64_t worker_floats() const { return round_up(n_, 16) + kChunk; }

  void run_row(const RowSpace::Pointers& at, float* row) const {
    load_(bits(row), at[0], x_stride_, n_);
    apply_mask(at[1], row);
    const float shift = tiles_.fold[static_cast<std::size_t>(Combine::kMax)](row, n_);
    if (safe_ && shift == -std::numeric_limits<float>::infinity()) {
      std::fill_n(row, n_, 0.0f);
    } else {
      float sum = 0.0f;
      for (std::int64_t i = 0; i < n_; i += kChunk) {
        sum += tiles_.exp_sum(row + i, shift, std::min(kChunk, n_ - i));
      }
      tiles_.scale(row, 1.0f / sum, n_);
    }
    store_(at[2], bits(row), y_stride_, n_);
  }

  void apply_mask(const std::byte* mask, float* row) const {
    if (mask == nullptr) {
      rows_.scale_and_add(row, scale_, nullptr, n_);
      return;
    }
    float* values = row + round_up(n_, 16);
    for (std::int64_t i = 0; i < n_; i += kChunk) {
      const std::int64_t n = std::min(kChunk, n_ - i);
      const std::byte* from = mask + i * mask_stride_ * mask_size_;
      const float* terms = values;
      if (mask_in_place_) {
        terms = reinterpret_cast<const float*>(from);
      } else {
        load_mask_(bits(values), from, mask_stride_, n);
      }
      if (keeps_) {
        rows_.scale_and_keep(row + i, scale_, bits(values), n);
      } else {
        rows_.scale_and_add(row + i, scale_, terms, n);
      }
    }
  }

  ThreadPool& pool_;
  const TileKernels& tiles_;
  const RowKernels& rows_;
  RowSpace space_;
  float scale_ = 1.0f;
  bool safe_ = false;
  bool keeps_ = false;  // the mask is a bool
  bool mask_in_place_ = false;
  std::int64_t n_ = 0, x_stride_ = 0, mask_stride_ = 0, y_stride_ = 0, mask_size_ = 0;
  RunLoad load_ = nullptr, load_mask_ = nullptr;
  RunStore store_ = nullptr;
};

}  // namespace

std::unique_ptr<HostKernel> make_masked_softmax(const DispatchInfo& dispatch,
                                                const CpuContext& context) {
  return std::make_unique<MaskedSoftmaxKernel>(dispatch, context);
}

}  // namespace npu::cpu
