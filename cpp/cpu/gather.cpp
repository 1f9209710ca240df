// The gather kernel: whole rows where they are contiguous, element by element elsewhere.
#include <algorithm>
#include <cstring>

#include "cpu/index_operand.hpp"
#include "runtime/text.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kX, kIdx, kY };

constexpr std::int64_t kTaskBytes = 1 << 15;

// Copies n elements whose indices are idx[i * idx_stride]; false and `bad` where one is out of
// range.
template <class T, class I>
bool pick(const T* x, std::int64_t k_stride, std::int64_t x_stride, const Places places,
          const I* idx, std::int64_t idx_stride, T* y, std::int64_t y_stride, std::int64_t n,
          std::int64_t& bad) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t place = places.of(idx[i * idx_stride]);
    if (place < 0) {
      bad = idx[i * idx_stride];
      return false;
    }
    y[i * y_stride] = x[i * x_stride + place * k_stride];
  }
  return true;
}

template <class T>
void spread(const T* x, std::int64_t x_stride, T* y, std::int64_t y_stride, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i * y_stride] = x[i * x_stride];
}

class GatherKernel final : public HostKernel {
 public:
  GatherKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool),
        p_(dispatch.params_as<GatherParams>()),
        indices_(dispatch, kIdx, p_.x_k, p_.wrap != 0),
        size_(schema::dtype_size(dispatch.operands[kY].dtype)) {
    if (p_.x_dtype != p_.y_dtype) {
      throw Error(ErrorCode::kInvalidProgram,
                  text("dispatch ", dispatch.index, " (", dispatch.name,
                       "): operands x and y of kernel gather have different dtypes; compile the "
                       "model again"));
    }
    rows_ = std::int64_t{p_.y_a} * p_.y_b * p_.y_r;
    const std::int64_t row_bytes = std::int64_t{p_.y_c} * size_;
    rows_per_task_ = std::max<std::int64_t>(1, kTaskBytes / std::max<std::int64_t>(1, row_bytes));
    whole_rows_ = p_.idx_sc == 0 || p_.y_c == 1;
    contiguous_ = whole_rows_ && (p_.y_c == 1 || (p_.x_sc == 1 && p_.y_sc == 1));
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* /*scratch*/) const override {
    IndexFault fault;
    const auto task = [&](std::int64_t index, int /*worker*/) {
      const std::int64_t end = std::min((index + 1) * rows_per_task_, rows_);
      switch (size_) {
        case 8:
          run_rows<std::uint64_t>(operands, index * rows_per_task_, end, fault);
          break;
        case 4:
          run_rows<std::uint32_t>(operands, index * rows_per_task_, end, fault);
          break;
        case 2:
          run_rows<std::uint16_t>(operands, index * rows_per_task_, end, fault);
          break;
        default:
          run_rows<std::uint8_t>(operands, index * rows_per_task_, end, fault);
      }
    };
    pool_.parallel_for(ceil_div(rows_, rows_per_task_), task);
    fault.raise(indices_);
  }

 private:
  template <class T>
  void run_rows(std::span<std::byte* const> operands, std::int64_t row, std::int64_t end,
                IndexFault& fault) const {
    const T* x = reinterpret_cast<const T*>(operands[kX]);
    T* y = reinterpret_cast<T*>(operands[kY]);
    const std::byte* idx = operands[kIdx];
    while (row < end) {
      const std::int64_t r = row % p_.y_r;
      const std::int64_t b = row / p_.y_r % p_.y_b;
      const std::int64_t a = row / p_.y_r / p_.y_b;
      const std::int64_t n = std::min<std::int64_t>(p_.y_r - r, end - row);
      const T* from = x + a * p_.x_sa + b * p_.x_sb;
      T* to = y + a * p_.y_sa + b * p_.y_sb + r * p_.y_sr;
      const std::int64_t at = a * p_.idx_sa + b * p_.idx_sb + r * p_.idx_sr;
      std::int64_t bad = 0;
      if (!run_block(from, idx, at, to, n, bad)) fault.note(bad);
      row += n;
    }
  }

  template <class T>
  bool pick_run(const T* x, std::int64_t x_stride, const std::byte* idx, std::int64_t at,
                std::int64_t idx_stride, T* y, std::int64_t y_stride, std::int64_t n,
                std::int64_t& bad) const {
    const Places places = indices_.places();
    if (indices_.wide()) {
      return pick(x, p_.x_sk, x_stride, places, reinterpret_cast<const std::int64_t*>(idx) + at,
                  idx_stride, y, y_stride, n, bad);
    }
    return pick(x, p_.x_sk, x_stride, places, reinterpret_cast<const std::int32_t*>(idx) + at,
                idx_stride, y, y_stride, n, bad);
  }

  // n values of r from one (a, b).
  template <class T>
  bool run_block(const T* x, const std::byte* idx, std::int64_t at, T* y, std::int64_t n,
                 std::int64_t& bad) const {
    if (p_.y_c == 1) return pick_run(x, 0, idx, at, p_.idx_sr, y, p_.y_sr, n, bad);
    for (std::int64_t r = 0; r < n; ++r, at += p_.idx_sr, y += p_.y_sr) {
      if (!whole_rows_) {
        if (!pick_run(x, p_.x_sc, idx, at, p_.idx_sc, y, p_.y_sc, p_.y_c, bad)) return false;
        continue;
      }
      const std::int64_t index = indices_.value(idx, at);
      const std::int64_t place = indices_.places().of(index);
      if (place < 0) {
        bad = index;
        return false;
      }
      const T* row = x + place * p_.x_sk;
      if (contiguous_) {
        std::memcpy(y, row, p_.y_c * sizeof(T));
      } else {
        spread(row, p_.x_sc, y, p_.y_sc, p_.y_c);
      }
    }
    return true;
  }

  ThreadPool& pool_;
  const GatherParams p_;
  IndexOperand indices_;
  std::int64_t size_;
  std::int64_t rows_ = 0;
  std::int64_t rows_per_task_ = 1;
  bool whole_rows_ = false;  // one index serves all of c
  bool contiguous_ = false;
};

}  // namespace

std::unique_ptr<HostKernel> make_gather(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<GatherKernel>(dispatch, context);
}

}  // namespace npu::cpu
