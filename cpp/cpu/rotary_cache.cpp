// The rotary_cache kernel: queries are split between threads by token; of keys and values each task
// does all tokens of one head, in order, so that the last of several with one slot wins.
#include <algorithm>
#include <cstring>

#include "cpu/index_operand.hpp"
#include "cpu/packed_weights.hpp"
#include "runtime/text.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kQ, kK, kV, kCos, kSin, kSlots, kQOut, kKCache, kVCache };

// Elements that are not worth a second thread.
constexpr std::int64_t kTaskElements = 16384;

struct Token {
  std::int64_t b, t;
};

class RotaryCacheKernel final : public HostKernel {
 public:
  RotaryCacheKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool),
        p_(dispatch.params_as<RotaryCacheParams>()),
        slots_(dispatch, kSlots, p_.k_cache_n, false),
        tokens_(std::int64_t{p_.q_b} * p_.q_t),
        half_(p_.cos_r) {
    const auto dtype = dispatch.operands[kQ].dtype;
    size_ = schema::dtype_size(dtype);
    load_ = context.tiles.load[dtype];
    store_ = context.tiles.store[dtype];
    load_cosine_ = table_load(dispatch, context, kCos);
    load_sine_ = table_load(dispatch, context, kSin);
    cosine_size_ = schema::dtype_size(dispatch.operands[kCos].dtype);
    sine_size_ = schema::dtype_size(dispatch.operands[kSin].dtype);
    const std::int64_t total =
        tokens_ * (std::int64_t{p_.q_h} * p_.q_d + std::int64_t{p_.k_g} * (p_.k_d + p_.v_e));
    parallel_ = total > kTaskElements;
    const auto floats = [&](std::int64_t n) {
      return worker_.add(static_cast<std::size_t>(n) * sizeof(float));
    };
    turn_at_ = floats(2 * half_);
    head_at_ = floats(2 * std::int64_t{p_.q_d});
  }

  std::size_t scratch_bytes() const override {
    return worker_.size() * static_cast<std::size_t>(pool_.threads());
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    check_slots(operands[kSlots]);
    const auto own = [&](int worker) {
      return scratch + static_cast<std::size_t>(worker) * worker_.size();
    };
    if (!parallel_) {
      for (std::int64_t i = 0; i < tokens_; ++i) {
        turn_query(operands, token(i), own(0));
        put(operands, token(i), 0, p_.k_g, own(0));
      }
      return;
    }
    const std::int64_t parts = std::min<std::int64_t>(tokens_, 4 * pool_.threads());
    pool_.parallel_for(parts + p_.k_g, [&](std::int64_t task, int worker) {
      if (task < parts) {
        const std::int64_t end = tokens_ * (task + 1) / parts;
        for (std::int64_t i = tokens_ * task / parts; i < end; ++i) {
          turn_query(operands, token(i), own(worker));
        }
        return;
      }
      const std::int64_t head = task - parts;
      for (std::int64_t i = 0; i < tokens_; ++i) {
        put(operands, token(i), head, head + 1, own(worker));
      }
    });
  }

 private:
  static RunLoad table_load(const DispatchInfo& dispatch, const CpuContext& context,
                            std::size_t operand) {
    const auto dtype = dispatch.operands[operand].dtype;
    if (dtype != NPU_DTYPE_F32 && dtype != NPU_DTYPE_F16 && dtype != NPU_DTYPE_BF16) {
      throw Error(ErrorCode::kInvalidProgram,
                  text("dispatch ", dispatch.index, " (", dispatch.name, "): operand ",
                       dispatch.kernel.operands[operand].name, " of kernel ", dispatch.kernel.name,
                       " has dtype id ", static_cast<int>(dtype),
                       ", it must be floating-point; compile the model again"));
    }
    return context.tiles.load[dtype];
  }

  Token token(std::int64_t index) const { return {index / p_.q_t, index % p_.q_t}; }
  std::int64_t slot(const std::byte* slots, const Token& at) const {
    return slots_.value(slots, at.b * p_.slots_sb + at.t * p_.slots_st);
  }

  // Before anything is written.
  void check_slots(const std::byte* slots) const {
    for (std::int64_t i = 0; i < tokens_; ++i) {
      const std::int64_t row = slot(slots, token(i));
      if (slots_.places().of(row) < 0) slots_.fail(row);
    }
  }

  static std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

  void load_turn(std::span<std::byte* const> operands, const Token& at, float* turn) const {
    load_cosine_(bits(turn), operands[kCos] + (at.b * p_.cos_sb + at.t * p_.cos_st) * cosine_size_,
                 p_.cos_sr, half_);
    load_sine_(bits(turn + half_),
               operands[kSin] + (at.b * p_.sin_sb + at.t * p_.sin_st) * sine_size_, p_.sin_sr,
               half_);
  }

  // One head of p_.q_d elements.
  void rotate(const std::byte* from, std::int64_t from_stride, std::byte* to,
              std::int64_t to_stride, const float* turn, float* head) const {
    const std::int64_t n = p_.q_d;
    load_(bits(head), from, from_stride, n);
    float* turned = head + n;
    const float* cosine = turn;
    const float* sine = turn + half_;
    for (std::int64_t i = 0; i < half_; ++i) {
      turned[i] = head[i] * cosine[i] - head[i + half_] * sine[i];
      turned[i + half_] = head[i + half_] * cosine[i] + head[i] * sine[i];
    }
    std::copy(head + 2 * half_, head + n, turned + 2 * half_);
    store_(to, bits(turned), to_stride, n);
  }

  void turn_query(std::span<std::byte* const> operands, const Token& at, std::byte* own) const {
    float* turn = reinterpret_cast<float*>(own + turn_at_);
    load_turn(operands, at, turn);
    for (std::int64_t h = 0; h < p_.q_h; ++h) {
      rotate(operands[kQ] + (at.b * p_.q_sb + at.t * p_.q_st + h * p_.q_sh) * size_, p_.q_sd,
             operands[kQOut] + (at.b * p_.q_out_sb + at.t * p_.q_out_st + h * p_.q_out_sh) * size_,
             p_.q_out_sd, turn, reinterpret_cast<float*>(own + head_at_));
    }
  }

  // The key and value of a token, heads [first, end).
  void put(std::span<std::byte* const> operands, const Token& at, std::int64_t first,
           std::int64_t end, std::byte* own) const {
    float* turn = reinterpret_cast<float*>(own + turn_at_);
    load_turn(operands, at, turn);
    const std::int64_t row = slot(operands[kSlots], at);
    const std::int64_t cache = p_.k_cache_c == 1 ? 0 : at.b;
    const std::int64_t key = cache * p_.k_cache_sc + row * p_.k_cache_sn;
    const std::int64_t value = cache * p_.v_cache_sc + row * p_.v_cache_sn;
    for (std::int64_t g = first; g < end; ++g) {
      rotate(operands[kK] + (at.b * p_.k_sb + at.t * p_.k_st + g * p_.k_sg) * size_, p_.k_sd,
             operands[kKCache] + (key + g * p_.k_cache_sg) * size_, p_.k_cache_sd, turn,
             reinterpret_cast<float*>(own + head_at_));
      const std::byte* from =
          operands[kV] + (at.b * p_.v_sb + at.t * p_.v_st + g * p_.v_sg) * size_;
      std::byte* to = operands[kVCache] + (value + g * p_.v_cache_sg) * size_;
      if (p_.v_se == 1 && p_.v_cache_se == 1) {
        std::memcpy(to, from, static_cast<std::size_t>(p_.v_e * size_));
        continue;
      }
      for (std::int64_t i = 0; i < p_.v_e; ++i) {
        std::memcpy(to + i * p_.v_cache_se * size_, from + i * p_.v_se * size_,
                    static_cast<std::size_t>(size_));
      }
    }
  }

  ThreadPool& pool_;
  const RotaryCacheParams p_;
  IndexOperand slots_;
  const std::int64_t tokens_;
  const std::int64_t half_;
  std::int64_t size_ = 0, cosine_size_ = 0, sine_size_ = 0;
  RunLoad load_ = nullptr, load_cosine_ = nullptr, load_sine_ = nullptr;
  RunStore store_ = nullptr;
  bool parallel_ = false;
  ScratchLayout worker_;
  std::size_t turn_at_ = 0, head_at_ = 0;
};

}  // namespace

std::unique_ptr<HostKernel> make_rotary_cache(const DispatchInfo& dispatch,
                                              const CpuContext& context) {
  return std::make_unique<RotaryCacheKernel>(dispatch, context);
}

}  // namespace npu::cpu
