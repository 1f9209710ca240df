// The attention kernel: blocks of queries against blocks of keys, with an online softmax between
// two matrix products.
//
// The queries of all heads that share a head of keys and values are rows of one matrix. Many rows
// multiply keys that have been packed into panels (the GEMM kernels' format); the few rows of a
// decode step read keys where they are, and then long rows of keys are split between threads.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cpu/attention_tiles.hpp"
#include "cpu/host_kernels.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/kernels/panels.hpp"
#include "cpu/packed_weights.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kQ, kK, kV, kMask, kY };

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
// Up to here, packing the keys costs more than it saves.
constexpr std::int64_t kMaxUnpackedRows = 8;
// Scores of a block of rows and keys, and the keys and values behind them, stay in L2.
constexpr std::int64_t kKeys = 128;
constexpr std::int64_t kMaxBlockRows = 64;
// Keys worth a task of their own.
constexpr std::int64_t kSplitKeys = 256;
constexpr std::int64_t kPanelsPerTask = 8;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

// float16 on AMX is split into pairs of bfloat16, which infinities do not survive.
const KernelTable& product_table(DType dtype) {
  const Isa isa = active_isa();
  return kernel_table(dtype == DType::f16 ? std::min(isa, Isa::avx512_bf16) : isa);
}

// Rows [first, first + rows) of one batch and head of keys: row r is query r % m of the group's
// head r / m.
struct RowBlock {
  std::int64_t b, kv_head, first, rows;
};

// The state of one block of rows; all in scratch memory of one worker.
struct Block {
  float* scores;   // [rows][score_ld_]
  float* mask;     // the same, where there is a mask
  float* sums;     // [rows][sum_ld_]
  float* largest;  // per row
  float* total;
  float* factor;
  std::byte* queries;   // as the products want them
  std::byte* gathered;  // a block of keys or values, or a query, whose elements lie apart
};

class AttentionKernel final : public HostKernel {
 public:
  AttentionKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : p_(dispatch.params_as<AttentionParams>()),
        dtype_(library_dtype(dispatch, kQ)),
        size_(static_cast<std::int64_t>(dtype_size(dtype_))),
        pool_(context.pool),
        tiles_(context.tiles),
        loops_(attention_tiles(active_isa())),
        table_(product_table(dtype_)),
        gemm_(table_.gemm[static_cast<std::size_t>(dtype_)]),
        group_(p_.q_h / p_.k_h),
        group_rows_(group_ * p_.q_m),
        groups_(std::int64_t{p_.k_b} * p_.k_h),
        unpacked_(group_rows_ <= kMaxUnpackedRows) {
    if (p_.mask_n != 0) choose_mask(dispatch);
    const std::int64_t threads = pool_.threads();
    blocks_ = ceil_div(group_rows_, kMaxBlockRows);
    if (unpacked_ && groups_ < threads) {
      splits_ = std::clamp<std::int64_t>(ceil_div(2 * threads, groups_), 1,
                                         std::max<std::int64_t>(1, p_.k_n / kSplitKeys));
    }
    block_rows_ = ceil_div(group_rows_, blocks_);
    plan_memory();
  }

  std::size_t scratch_bytes() const override { return memory_.size(); }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    if (!unpacked_) pack_keys(operands[kK], scratch + panels_at_);
    pool_.parallel_for(groups_ * blocks_ * splits_, [&](std::int64_t task, int worker) {
      const std::int64_t split = task % splits_;
      const std::int64_t block = task / splits_ % blocks_;
      const std::int64_t group = task / (splits_ * blocks_);
      const std::int64_t first = group_rows_ * block / blocks_;
      const std::int64_t rows = group_rows_ * (block + 1) / blocks_ - first;
      const RowBlock r{group / p_.k_h, group % p_.k_h, first, rows};
      Block state = worker_block(scratch, worker);
      if (splits_ > 1) use_partial(state, scratch, group, split);
      attend(operands, r, p_.k_n * split / splits_, p_.k_n * (split + 1) / splits_,
             scratch + panels_at_ + group * group_panel_bytes_, state);
      if (splits_ == 1) store(operands[kY], r, state);
    });
    if (splits_ > 1) combine_splits(operands[kY], scratch);
  }

 private:
  void choose_mask(const DispatchInfo& dispatch) {
    const std::uint32_t dtype = p_.mask_dtype;
    keep_mask_ = dtype == NPU_DTYPE_B8;
    if (!keep_mask_ && dtype != NPU_DTYPE_F32 && dtype != NPU_DTYPE_F16 &&
        dtype != NPU_DTYPE_BF16) {
      throw Error(ErrorCode::kInvalidProgram,
                  "dispatch '" + std::string(dispatch.name) + "': a mask of dtype id " +
                      std::to_string(dtype) +
                      " is neither bool nor floating-point; compile the model again");
    }
    load_mask_ = tiles_.load[dtype];
    mask_size_ = static_cast<std::int64_t>(schema::dtype_size(static_cast<std::uint8_t>(dtype)));
  }

  void plan_memory() {
    const std::int64_t d = p_.q_d;
    const std::int64_t keys = std::min<std::int64_t>(kKeys, round_up(p_.k_n, gemm_.nr));
    block_keys_ = std::max<std::int64_t>(round_up(keys, gemm_.nr), 1);
    score_ld_ = round_up(block_keys_, 16) + 16;
    sum_ld_ = round_up(std::max<std::int64_t>(p_.v_d, 1), 16);
    depth_ = unpacked_ ? d : round_up(d, gemm_.k_unit);
    query_size_ = unpacked_ ? 4 : gemm_.a_size;
    query_ld_ = odd_lines(std::max<std::int64_t>(1, depth_ * (unpacked_ ? 1 : gemm_.a_planes)),
                          query_size_);
    const std::int64_t rows = block_rows_ + (unpacked_ ? 0 : gemm_.row_overread);
    scores_at_ = part(rows * score_ld_ * 4);
    mask_at_ = part(p_.mask_n != 0 ? block_rows_ * score_ld_ * 4 : 0);
    sums_at_ = part(block_rows_ * sum_ld_ * 4);
    rows_at_ = part(3 * block_rows_ * 4);
    queries_at_ = part(rows * query_ld_ * query_size_);
    gathered_at_ = part(std::max({d, block_keys_ * (p_.v_sd == 1 ? 0 : std::int64_t{p_.v_d}),
                                  block_keys_ * (p_.k_sd == 1 ? 0 : d)}) *
                        size_);
    worker_bytes_ = worker_.size();
    memory_.add(worker_bytes_ * static_cast<std::size_t>(pool_.threads()));
    panel_bytes_ = panel_bytes(gemm_, depth_);
    panels_ = ceil_div(p_.k_n, gemm_.nr);
    group_panel_bytes_ = unpacked_ ? 0 : panels_ * panel_bytes_;
    panels_at_ = memory_.add(static_cast<std::size_t>(groups_ * group_panel_bytes_));
    partial_floats_ = round_up(group_rows_ * (sum_ld_ + 2), 16);
    partials_at_ = memory_.add(
        splits_ > 1 ? static_cast<std::size_t>(groups_ * splits_ * partial_floats_ * 4) : 0);
  }

  std::size_t part(std::int64_t bytes) { return worker_.add(static_cast<std::size_t>(bytes)); }

  Block worker_block(std::byte* scratch, int worker) const {
    std::byte* base = scratch + static_cast<std::size_t>(worker) * worker_bytes_;
    const auto floats = [&](std::size_t at) { return reinterpret_cast<float*>(base + at); };
    float* rows = floats(rows_at_);
    return {floats(scores_at_), floats(mask_at_),       floats(sums_at_),   rows,
            rows + block_rows_, rows + 2 * block_rows_, base + queries_at_, base + gathered_at_};
  }

  // Keeps sums, maxima and totals where combine_splits() finds them.
  void use_partial(Block& state, std::byte* scratch, std::int64_t group, std::int64_t split) const {
    state.sums = partial(scratch, group, split);
    state.largest = state.sums + group_rows_ * sum_ld_;
    state.total = state.largest + group_rows_;
  }

  float* partial(std::byte* scratch, std::int64_t group, std::int64_t split) const {
    return reinterpret_cast<float*>(scratch + partials_at_) +
           (group * splits_ + split) * partial_floats_;
  }

  void pack_keys(const std::byte* k, std::byte* panels) const {
    const std::int64_t parts = ceil_div(panels_, kPanelsPerTask);
    pool_.parallel_for(groups_ * parts, [&](std::int64_t task, int) {
      const std::int64_t group = task / parts;
      const std::byte* from = k + (group / p_.k_h * p_.k_sb + group % p_.k_h * p_.k_sh) * size_;
      const std::int64_t first = task % parts * kPanelsPerTask;
      for (std::int64_t i = first; i < std::min(first + kPanelsPerTask, panels_); ++i) {
        const std::int64_t key = i * gemm_.nr;
        pack_panel(gemm_, {from, dtype_, p_.k_sn, p_.k_sd}, key,
                   std::min<std::int64_t>(gemm_.nr, p_.k_n - key), p_.q_d, depth_,
                   panels + group * group_panel_bytes_ + i * panel_bytes_);
      }
    });
  }

  // Offset of a row in an operand with the given strides of batch, head and query.
  std::int64_t row_offset(const RowBlock& r, std::int64_t row, std::int64_t sb, std::int64_t sh,
                          std::int64_t sm) const {
    const std::int64_t at = r.first + row;
    const std::int64_t head = r.kv_head * group_ + at / p_.q_m;
    return r.b * sb + head * sh + at % p_.q_m * sm;
  }

  // `rows` x `columns` elements as rows without gaps; in place where they already are.
  const std::byte* gather(const std::byte* from, std::int64_t rows, std::int64_t columns,
                          std::int64_t row_stride, std::int64_t column_stride, std::byte* to,
                          std::int64_t& row_bytes) const {
    row_bytes = row_stride * size_;
    if (column_stride == 1 || columns == 1) return from;
    row_bytes = columns * size_;
    std::byte* at = to;
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j, at += size_) {
        std::memcpy(at, from + (i * row_stride + j * column_stride) * size_,
                    static_cast<std::size_t>(size_));
      }
    }
    return to;
  }

  void load_queries(const std::byte* q, const RowBlock& r, const Block& state) const {
    const auto widen = unpacked_ ? table_.widen_f32[static_cast<std::size_t>(dtype_)] : gemm_.widen;
    const std::int64_t plane = depth_ * query_size_;
    const int planes = unpacked_ ? 1 : gemm_.a_planes;
    for (std::int64_t i = 0; i < r.rows; ++i) {
      std::int64_t unused = 0;
      const std::byte* row = gather(q + row_offset(r, i, p_.q_sb, p_.q_sh, p_.q_sm) * size_, 1,
                                    p_.q_d, 0, p_.q_sd, state.gathered, unused);
      std::byte* to = state.queries + i * query_ld_ * query_size_;
      widen(row, p_.q_d, to, to + plane);
      for (int k = 0; k < planes; ++k) {
        std::memset(to + k * plane + p_.q_d * query_size_, 0,
                    static_cast<std::size_t>((depth_ - p_.q_d) * query_size_));
      }
    }
  }

  // What the mask adds to the block's scores; false where no row sees any of these keys.
  bool load_mask(const std::byte* mask, const RowBlock& r, std::int64_t key, std::int64_t n,
                 const Block& state) const {
    float largest = kMinusInfinity;
    bool nan = false;
    for (std::int64_t i = 0; i < r.rows; ++i) {
      float* to = state.mask + i * score_ld_;
      const std::int64_t at =
          row_offset(r, i, p_.mask_sb, p_.mask_sh, p_.mask_sm) + key * p_.mask_sn;
      load_mask_(bits(to), mask + at * mask_size_, p_.mask_sn, n);
      for (std::int64_t j = 0; j < n; ++j) {
        if (keep_mask_) to[j] = std::bit_cast<std::uint32_t>(to[j]) != 0 ? 0.0f : kMinusInfinity;
        largest = to[j] > largest ? to[j] : largest;
        nan |= to[j] != to[j];
      }
    }
    return nan || largest > kMinusInfinity;
  }

  // Keys that a row sees in a block of n that starts at `key`.
  std::int64_t visible(const RowBlock& r, std::int64_t row, std::int64_t key,
                       std::int64_t n) const {
    if (p_.causal == 0) return n;
    return std::clamp<std::int64_t>((r.first + row) % p_.q_m + 1 - key, 0, n);
  }

  void attend(std::span<std::byte* const> operands, const RowBlock& r, std::int64_t first_key,
              std::int64_t last_key, const std::byte* panels, const Block& state) const {
    std::fill_n(state.largest, r.rows, kMinusInfinity);
    std::fill_n(state.total, r.rows, 0.0f);
    std::fill_n(state.sums, r.rows * sum_ld_, 0.0f);
    load_queries(operands[kQ], r, state);
    const std::byte* k = operands[kK] + (r.b * p_.k_sb + r.kv_head * p_.k_sh) * size_;
    const std::byte* v = operands[kV] + (r.b * p_.v_sb + r.kv_head * p_.v_sh) * size_;
    if (p_.causal != 0) {
      std::int64_t seen = 0;
      for (std::int64_t i = 0; i < r.rows; ++i) {
        seen = std::max(seen, (r.first + i) % p_.q_m + 1);
      }
      last_key = std::min(last_key, seen);
    }
    for (std::int64_t key = first_key; key < last_key; key += block_keys_) {
      const std::int64_t n = std::min(block_keys_, last_key - key);
      if (p_.mask_n != 0 && !load_mask(operands[kMask], r, key, n, state)) continue;
      if (unpacked_) {
        score_in_place(k, r, key, n, state);
      } else {
        score_panels(panels + key / gemm_.nr * panel_bytes_, r, n, state);
      }
      for (std::int64_t i = 0; i < r.rows; ++i) {
        update_row(i, visible(r, i, key, n), n, state);
      }
      std::int64_t row_bytes = 0;
      const std::byte* values =
          gather(v + key * p_.v_sn * size_, n, p_.v_d, p_.v_sn, p_.v_sd, state.gathered, row_bytes);
      loops_.weighted_rows[static_cast<std::size_t>(dtype_)](
          {state.scores, score_ld_, static_cast<int>(r.rows), n, values, row_bytes, p_.v_d,
           state.factor, state.sums, sum_ld_});
    }
  }

  void score_in_place(const std::byte* k, const RowBlock& r, std::int64_t key, std::int64_t n,
                      const Block& state) const {
    std::int64_t row_bytes = 0;
    const std::byte* keys =
        gather(k + key * p_.k_sn * size_, n, p_.q_d, p_.k_sn, p_.k_sd, state.gathered, row_bytes);
    loops_.row_products[static_cast<std::size_t>(dtype_)](
        {reinterpret_cast<const float*>(state.queries), query_ld_, static_cast<int>(r.rows), keys,
         row_bytes, n, p_.q_d, state.scores, score_ld_});
  }

  void score_panels(const std::byte* panels, const RowBlock& r, std::int64_t n,
                    const Block& state) const {
    const std::int64_t tiles = ceil_div(r.rows, gemm_.max_rows);
    const std::int64_t start = 0;
    if (table_.enter != nullptr) table_.enter();
    for (std::int64_t column = 0; column < n; column += gemm_.nr, panels += panel_bytes_) {
      for (std::int64_t tile = 0; tile < tiles; ++tile) {
        const std::int64_t row = r.rows * tile / tiles;
        const std::int64_t rows = r.rows * (tile + 1) / tiles - row;
        gemm_.tile[rows](
            {state.queries + row * query_ld_ * query_size_, query_ld_, &start, 1, depth_, depth_},
            panels, state.scores + row * score_ld_ + column, score_ld_);
      }
    }
    if (table_.leave != nullptr) table_.leave();
  }

  // Scores of one row become exponentials relative to the largest score so far.
  void update_row(std::int64_t row, std::int64_t seen, std::int64_t n, const Block& state) const {
    float* s = state.scores + row * score_ld_;
    const float before = state.largest[row];
    const float* mask = p_.mask_n != 0 ? state.mask + row * score_ld_ : nullptr;
    const float here = seen == 0 ? kMinusInfinity : loops_.scale_scores(s, mask, p_.scale, seen);
    const float largest = before > here ? before : here;
    // While all scores are -inf any finite shift makes their exponentials 0.
    const float shift = largest == kMinusInfinity ? 0.0f : largest;
    const float factor = std::exp(before - shift);
    state.total[row] =
        state.total[row] * factor + (seen == 0 ? 0.0f : loops_.exponentials(s, shift, seen));
    state.largest[row] = largest;
    state.factor[row] = factor;
    std::fill(s + seen, s + n, 0.0f);
  }

  void store(std::byte* y, const RowBlock& r, const Block& state) const {
    const std::uint32_t dtype = dtype_ == DType::f32   ? NPU_DTYPE_F32
                                : dtype_ == DType::f16 ? NPU_DTYPE_F16
                                                       : NPU_DTYPE_BF16;
    for (std::int64_t i = 0; i < r.rows; ++i) {
      float* sums = state.sums + i * sum_ld_;
      // The largest score adds 1, NaN adds NaN: the total is 0 only for a row that saw no key.
      if (state.total[i] == 0.0f) {
        std::fill_n(sums, p_.v_d,
                    p_.empty_is_nan != 0 ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
      } else {
        tiles_.scale(sums, 1.0f / state.total[i], p_.v_d);
      }
      const std::int64_t at = row_offset(r, i, p_.y_sb, p_.y_sh, p_.y_sm);
      tiles_.store[dtype](y + at * size_, bits(sums), p_.y_sd, p_.v_d);
    }
  }

  // Joins what the tasks found for their parts of the keys, into the first part.
  void combine_splits(std::byte* y, std::byte* scratch) const {
    pool_.parallel_for(groups_, [&](std::int64_t group, int) {
      Block all{};
      use_partial(all, scratch, group, 0);
      for (std::int64_t split = 1; split < splits_; ++split) {
        Block part{};
        use_partial(part, scratch, group, split);
        for (std::int64_t row = 0; row < group_rows_; ++row) {
          const float largest = std::max(all.largest[row], part.largest[row]);
          const float shift = largest == kMinusInfinity ? 0.0f : largest;
          const float a = std::exp(all.largest[row] - shift);
          const float b = std::exp(part.largest[row] - shift);
          for (std::int64_t c = 0; c < p_.v_d; ++c) {
            float& sum = all.sums[row * sum_ld_ + c];
            sum = sum * a + part.sums[row * sum_ld_ + c] * b;
          }
          all.total[row] = all.total[row] * a + part.total[row] * b;
          all.largest[row] = largest;
        }
      }
      store(y, {group / p_.k_h, group % p_.k_h, 0, group_rows_}, all);
    });
  }

  const AttentionParams p_;
  const DType dtype_;
  const std::int64_t size_;
  ThreadPool& pool_;
  const TileKernels& tiles_;
  const AttentionTiles& loops_;
  const KernelTable& table_;
  const GemmKernels& gemm_;
  // Heads of queries per head of keys, their rows together, and heads of keys in all batches.
  const std::int64_t group_, group_rows_, groups_;
  const bool unpacked_;
  bool keep_mask_ = false;
  RunLoad load_mask_ = nullptr;
  std::int64_t mask_size_ = 0;
  // Blocks of rows in a group, parts of the keys, rows of the largest block.
  std::int64_t blocks_ = 1, splits_ = 1, block_rows_ = 0;
  std::int64_t block_keys_ = 0, score_ld_ = 0, sum_ld_ = 0;
  std::int64_t depth_ = 0, query_ld_ = 0, query_size_ = 0;
  std::int64_t panels_ = 0, panel_bytes_ = 0, group_panel_bytes_ = 0, partial_floats_ = 0;
  // Scratch memory: one part per worker, then packed keys and partial results.
  ScratchLayout worker_, memory_;
  std::size_t scores_at_ = 0, mask_at_ = 0, sums_at_ = 0, rows_at_ = 0, queries_at_ = 0;
  std::size_t gathered_at_ = 0, worker_bytes_ = 0, panels_at_ = 0, partials_at_ = 0;
};

}  // namespace

std::unique_ptr<HostKernel> make_attention(const DispatchInfo& dispatch,
                                           const CpuContext& context) {
  return std::make_unique<AttentionKernel>(dispatch, context);
}

}  // namespace npu::cpu
