// The scatter kernel: every thread owns columns of y and walks all updates of them in order.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cpu/index_operand.hpp"
#include "runtime/text.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kIdx, kSrc, kY };

constexpr int kTasksPerThread = 1;
// Columns are not split into runs shorter than this.
constexpr std::int64_t kBlockBytes = 512;

// Elements of a storage type as the type that they are combined in.
template <class T>
struct Stored {
  using Wide = std::conditional_t<std::is_same_v<T, float>, float, std::int64_t>;
  static Wide load(const T* p) { return static_cast<Wide>(*p); }
  static void store(T* p, Wide v) { *p = static_cast<T>(v); }
};
struct Half {
  std::uint16_t bits;
};
struct BFloat {
  std::uint16_t bits;
};
struct Bool {
  std::uint8_t bits;
};
template <>
struct Stored<Half> {
  using Wide = float;
  static float load(const Half* p) { return f16_to_f32(p->bits); }
  static void store(Half* p, float v) { p->bits = f32_to_f16(v); }
};
template <>
struct Stored<BFloat> {
  using Wide = float;
  static float load(const BFloat* p) { return bf16_to_f32(p->bits); }
  static void store(BFloat* p, float v) { p->bits = f32_to_bf16(v); }
};
template <>
struct Stored<Bool> {
  using Wide = std::int64_t;
  static std::int64_t load(const Bool* p) { return p->bits != 0 ? 1 : 0; }
  static void store(Bool* p, std::int64_t v) { p->bits = v != 0 ? 1 : 0; }
};

// NaN wins, as in PyTorch; integer sums and products wrap.
template <std::uint32_t kOp>
float combine(float old, float value) {
  if constexpr (kOp == NPU_SCATTER_ADD) return old + value;
  if constexpr (kOp == NPU_SCATTER_MUL) return old * value;
  if constexpr (kOp == NPU_SCATTER_AMAX) return old > value || old != old ? old : value;
  if constexpr (kOp == NPU_SCATTER_AMIN) return old < value || old != old ? old : value;
  return value;
}
template <std::uint32_t kOp>
std::int64_t combine(std::int64_t old, std::int64_t value) {
  const auto a = static_cast<std::uint64_t>(old);
  const auto b = static_cast<std::uint64_t>(value);
  if constexpr (kOp == NPU_SCATTER_ADD) return static_cast<std::int64_t>(a + b);
  if constexpr (kOp == NPU_SCATTER_MUL) return static_cast<std::int64_t>(a * b);
  if constexpr (kOp == NPU_SCATTER_AMAX) return std::max(old, value);
  if constexpr (kOp == NPU_SCATTER_AMIN) return std::min(old, value);
  return value;
}

// y[i] op= src[i] for n elements.
template <class Y, class S, std::uint32_t kOp>
void update(std::byte* y, std::int64_t y_stride, const std::byte* src, std::int64_t src_stride,
            std::int64_t n) {
  Y* to = reinterpret_cast<Y*>(y);
  const S* from = reinterpret_cast<const S*>(src);
  using Wide = typename Stored<Y>::Wide;
  if constexpr (kOp == NPU_SCATTER_SET && std::is_same_v<Y, S>) {
    if (y_stride == 1 && src_stride == 1) {
      std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(Y));
      return;
    }
  }
  if (y_stride == 1 && src_stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) {
      const auto value = static_cast<Wide>(Stored<S>::load(from + i));
      Stored<Y>::store(to + i, combine<kOp>(Stored<Y>::load(to + i), value));
    }
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const auto value = static_cast<Wide>(Stored<S>::load(from + i * src_stride));
    Y* place = to + i * y_stride;
    Stored<Y>::store(place, combine<kOp>(Stored<Y>::load(place), value));
  }
}

// One element for each of n indices: y[i * y_stride + place * k_stride] op= src[i * src_stride].
// False and `bad` where an index is out of range.
template <class Y, class S, std::uint32_t kOp, class I>
bool walk_indices(const Places places, const I* idx, std::int64_t idx_stride, std::byte* y,
                  std::int64_t y_stride, std::int64_t k_stride, const std::byte* src,
                  std::int64_t src_stride, std::int64_t n, std::int64_t& bad) {
  Y* to = reinterpret_cast<Y*>(y);
  const S* from = reinterpret_cast<const S*>(src);
  using Wide = typename Stored<Y>::Wide;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t at = places.of(idx[i * idx_stride]);
    if (at < 0) {
      bad = idx[i * idx_stride];
      return false;
    }
    Y* place = to + i * y_stride + at * k_stride;
    const auto value = static_cast<Wide>(Stored<S>::load(from + i * src_stride));
    Stored<Y>::store(place, combine<kOp>(Stored<Y>::load(place), value));
  }
  return true;
}

template <class Y, class S, std::uint32_t kOp>
bool walk(const Places places, bool wide, const std::byte* idx, std::int64_t at,
          std::int64_t idx_stride, std::byte* y, std::int64_t y_stride, std::int64_t k_stride,
          const std::byte* src, std::int64_t src_stride, std::int64_t n, std::int64_t& bad) {
  if (wide) {
    return walk_indices<Y, S, kOp>(places, reinterpret_cast<const std::int64_t*>(idx) + at,
                                   idx_stride, y, y_stride, k_stride, src, src_stride, n, bad);
  }
  return walk_indices<Y, S, kOp>(places, reinterpret_cast<const std::int32_t*>(idx) + at,
                                 idx_stride, y, y_stride, k_stride, src, src_stride, n, bad);
}

// For one pair of dtypes and one way to combine: a run of elements at one index, and elements with
// an index each.
struct Update {
  void (*run)(std::byte*, std::int64_t, const std::byte*, std::int64_t, std::int64_t) = nullptr;
  bool (*walk)(Places, bool, const std::byte*, std::int64_t, std::int64_t, std::byte*, std::int64_t,
               std::int64_t, const std::byte*, std::int64_t, std::int64_t, std::int64_t&) = nullptr;
};

template <class Y, class S, std::uint32_t kOp>
constexpr Update kUpdate{&update<Y, S, kOp>, &walk<Y, S, kOp>};

template <class Y, class S>
Update update_for(std::uint32_t op) {
  switch (op) {
    case NPU_SCATTER_ADD:
      return kUpdate<Y, S, NPU_SCATTER_ADD>;
    case NPU_SCATTER_MUL:
      return kUpdate<Y, S, NPU_SCATTER_MUL>;
    case NPU_SCATTER_AMAX:
      return kUpdate<Y, S, NPU_SCATTER_AMAX>;
    case NPU_SCATTER_AMIN:
      return kUpdate<Y, S, NPU_SCATTER_AMIN>;
    default:
      return kUpdate<Y, S, NPU_SCATTER_SET>;
  }
}

// Nothing where floats meet integers, or the dtype is none that the NPU computes in.
template <class Y>
Update update_from(std::uint32_t src, std::uint32_t op) {
  if constexpr (std::is_same_v<typename Stored<Y>::Wide, float>) {
    switch (src) {
      case NPU_DTYPE_F32:
        return update_for<Y, float>(op);
      case NPU_DTYPE_F16:
        return update_for<Y, Half>(op);
      case NPU_DTYPE_BF16:
        return update_for<Y, BFloat>(op);
      default:
        return {};
    }
  } else {
    switch (src) {
      case NPU_DTYPE_I64:
        return update_for<Y, std::int64_t>(op);
      case NPU_DTYPE_I32:
        return update_for<Y, std::int32_t>(op);
      case NPU_DTYPE_I16:
        return update_for<Y, std::int16_t>(op);
      case NPU_DTYPE_I8:
        return update_for<Y, std::int8_t>(op);
      case NPU_DTYPE_U8:
        return update_for<Y, std::uint8_t>(op);
      case NPU_DTYPE_B8:
        return update_for<Y, Bool>(op);
      default:
        return {};
    }
  }
}

Update choose_update(std::uint32_t y, std::uint32_t src, std::uint32_t op) {
  switch (y) {
    case NPU_DTYPE_F32:
      return update_from<float>(src, op);
    case NPU_DTYPE_F16:
      return update_from<Half>(src, op);
    case NPU_DTYPE_BF16:
      return update_from<BFloat>(src, op);
    case NPU_DTYPE_I64:
      return update_from<std::int64_t>(src, op);
    case NPU_DTYPE_I32:
      return update_from<std::int32_t>(src, op);
    case NPU_DTYPE_I16:
      return update_from<std::int16_t>(src, op);
    case NPU_DTYPE_I8:
      return update_from<std::int8_t>(src, op);
    case NPU_DTYPE_U8:
      return update_from<std::uint8_t>(src, op);
    case NPU_DTYPE_B8:
      return update_from<Bool>(src, op);
    default:
      return {};
  }
}

class ScatterKernel final : public HostKernel {
 public:
  ScatterKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool),
        p_(dispatch.params_as<ScatterParams>()),
        indices_(dispatch, kIdx, p_.y_k, p_.wrap != 0),
        update_(choose_update(p_.y_dtype, p_.src_dtype, p_.op)),
        src_size_(schema::dtype_size(dispatch.operands[kSrc].dtype)),
        y_size_(schema::dtype_size(dispatch.operands[kY].dtype)) {
    if (update_.run == nullptr) {
      throw Error(ErrorCode::kInvalidProgram,
                  text("dispatch ", dispatch.index, " (", dispatch.name,
                       "): operands src and y of kernel scatter have dtypes that do not go "
                       "together; compile the model again"));
    }
    // A task owns some columns of one (a, b): all of them, unless there are few tasks then.
    const std::int64_t outer = std::max<std::int64_t>(1, std::int64_t{p_.y_a} * p_.y_b);
    const std::int64_t wanted = ceil_div(std::int64_t{kTasksPerThread} * pool_.threads(), outer);
    const std::int64_t most = std::int64_t{p_.y_c} * y_size_ / kBlockBytes;
    lanes_ = ceil_div(p_.y_c, std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, most)));
    blocks_ = ceil_div(p_.y_c, lanes_);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* /*scratch*/) const override {
    IndexFault fault;
    const auto task = [&](std::int64_t index, int /*worker*/) {
      const std::int64_t c = index % blocks_ * lanes_;
      const std::int64_t b = index / blocks_ % p_.y_b;
      const std::int64_t a = index / blocks_ / p_.y_b;
      const std::byte* src =
          operands[kSrc] + (a * p_.src_sa + b * p_.src_sb + c * p_.src_sc) * src_size_;
      std::byte* y = operands[kY] + (a * p_.y_sa + b * p_.y_sb + c * p_.y_sc) * y_size_;
      const std::int64_t at = a * p_.idx_sa + b * p_.idx_sb + c * p_.idx_sc;
      run_columns(operands[kIdx], at, src, y, std::min<std::int64_t>(lanes_, p_.y_c - c), fault);
    };
    pool_.parallel_for(std::int64_t{p_.y_a} * p_.y_b * blocks_, task);
    fault.raise(indices_);
  }

 private:
  void run_columns(const std::byte* idx, std::int64_t at, const std::byte* src, std::byte* y,
                   std::int64_t n, IndexFault& fault) const {
    std::int64_t bad = 0;
    if (n == 1) {
      if (!update_.walk(indices_.places(), indices_.wide(), idx, at, p_.idx_sr, y, 0, p_.y_sk, src,
                        p_.src_sr, p_.idx_r, bad)) {
        fault.note(bad);
      }
      return;
    }
    for (std::int64_t r = 0; r < p_.idx_r; ++r, at += p_.idx_sr, src += p_.src_sr * src_size_) {
      if (p_.idx_sc != 0) {
        if (!update_.walk(indices_.places(), indices_.wide(), idx, at, p_.idx_sc, y, p_.y_sc,
                          p_.y_sk, src, p_.src_sc, n, bad)) {
          fault.note(bad);
          return;
        }
        continue;
      }
      const std::int64_t index = indices_.value(idx, at);
      const std::int64_t place = indices_.places().of(index);
      if (place < 0) {
        fault.note(index);
        return;
      }
      update_.run(y + place * p_.y_sk * y_size_, p_.y_sc, src, p_.src_sc, n);
    }
  }

  ThreadPool& pool_;
  const ScatterParams p_;
  IndexOperand indices_;
  Update update_;
  std::int64_t src_size_;
  std::int64_t y_size_;
  std::int64_t lanes_ = 1;
  std::int64_t blocks_ = 1;
};

}  // namespace

std::unique_ptr<HostKernel> make_scatter(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<ScatterKernel>(dispatch, context);
}

}  // namespace npu::cpu
