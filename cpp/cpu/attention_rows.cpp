// Blocks of rows against blocks of keys, with an online softmax between two matrix products.
#include "cpu/attention_rows.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "cpu/kernels/panels.hpp"

namespace npu::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
// Rows of a block that pass by the same keys: a few tiles of attention_tiles_isa.cpp.
constexpr std::int64_t kRowsTogether = 12;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

int rows_together(const RowBlock& r, std::int64_t first) {
  return static_cast<int>(std::min(kRowsTogether, r.rows - first));
}

// How many of the n keys from `key` on some of these rows get to see: what lies behind them adds
// nothing.
std::int64_t seen(const AttentionBlock& state, std::int64_t first, int rows, std::int64_t key,
                  std::int64_t n) {
  std::int64_t end = 0;
  for (int i = 0; i < rows; ++i) end = std::max(end, state.keys[first + i].end - key);
  return std::min(end, n);
}

}  // namespace

AttentionRows::AttentionRows(const DispatchInfo& dispatch, const CpuContext& context,
                             const KernelTable& table, DType dtype, const AttentionLayout& layout,
                             const VisibleKeys& visible)
    : p_(dispatch.params_as<AttentionParams>()),
      dtype_(dtype),
      size_(static_cast<std::int64_t>(dtype_size(dtype_))),
      tiles_(context.tiles),
      loops_(attention_tiles(active_isa())),
      table_(table),
      gemm_(table_.gemm[static_cast<std::size_t>(dtype_)]),
      at_(layout),
      visible_(visible) {
  if (p_.mask_n != 0) choose_mask(dispatch);
}

void AttentionRows::choose_mask(const DispatchInfo& dispatch) {
  const std::uint32_t dtype = p_.mask_dtype;
  keep_mask_ = dtype == NPU_DTYPE_B8;
  if (!keep_mask_ && dtype != NPU_DTYPE_F32 && dtype != NPU_DTYPE_F16 && dtype != NPU_DTYPE_BF16) {
    throw Error(ErrorCode::kInvalidProgram,
                "dispatch '" + std::string(dispatch.name) + "': a mask of dtype id " +
                    std::to_string(dtype) +
                    " is neither bool nor floating-point; compile the model again");
  }
  load_mask_ = tiles_.load[dtype];
  mask_size_ = static_cast<std::int64_t>(schema::dtype_size(static_cast<std::uint8_t>(dtype)));
}

std::int64_t AttentionRows::row_offset(const RowBlock& r, std::int64_t row, std::int64_t sb,
                                       std::int64_t sh, std::int64_t sm) const {
  const std::int64_t at = r.first + row;
  const std::int64_t head = r.kv_head * at_.heads + at / p_.q_m;
  return r.b * sb + head * sh + at % p_.q_m * sm;
}

const std::byte* AttentionRows::gather(const std::byte* from, std::int64_t rows,
                                       std::int64_t columns, std::int64_t row_stride,
                                       std::int64_t column_stride, std::byte* to,
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

void AttentionRows::load_queries(const std::byte* q, const RowBlock& r,
                                 const AttentionBlock& state) const {
  const auto widen =
      at_.unpacked ? table_.widen_f32[static_cast<std::size_t>(dtype_)] : gemm_.widen;
  const std::int64_t plane = at_.depth * at_.query_size;
  const int planes = at_.unpacked ? 1 : gemm_.a_planes;
  for (std::int64_t i = 0; i < r.rows; ++i) {
    std::int64_t unused = 0;
    const std::byte* row = gather(q + row_offset(r, i, p_.q_sb, p_.q_sh, p_.q_sm) * size_, 1,
                                  p_.q_d, 0, p_.q_sd, state.gathered, unused);
    std::byte* to = state.queries + i * at_.query_ld * at_.query_size;
    widen(row, p_.q_d, to, to + plane);
    for (int k = 0; k < planes; ++k) {
      std::memset(to + k * plane + p_.q_d * at_.query_size, 0,
                  static_cast<std::size_t>((at_.depth - p_.q_d) * at_.query_size));
    }
  }
}

bool AttentionRows::load_mask(const std::byte* mask, const RowBlock& r, std::int64_t key,
                              std::int64_t n, const AttentionBlock& state) const {
  float largest = kMinusInfinity;
  bool nan = false;
  for (std::int64_t i = 0; i < r.rows; ++i) {
    float* to = state.mask + i * at_.score_ld;
    const std::int64_t at = row_offset(r, i, p_.mask_sb, p_.mask_sh, p_.mask_sm) + key * p_.mask_sn;
    load_mask_(bits(to), mask + at * mask_size_, p_.mask_sn, n);
    for (std::int64_t j = 0; j < n; ++j) {
      if (keep_mask_) to[j] = std::bit_cast<std::uint32_t>(to[j]) != 0 ? 0.0f : kMinusInfinity;
      largest = to[j] > largest ? to[j] : largest;
      nan |= to[j] != to[j];
    }
  }
  return nan || largest > kMinusInfinity;
}

void AttentionRows::clear(const AttentionSums& state, std::int64_t rows) const {
  std::fill_n(state.largest, rows, kMinusInfinity);
  std::fill_n(state.total, rows, 0.0f);
  std::fill_n(state.sums, rows * at_.sum_ld, 0.0f);
}

KeyRange AttentionRows::start(std::span<std::byte* const> operands, const RowBlock& r,
                              const AttentionBlock& state) const {
  KeyRange all{0, 0};
  for (std::int64_t i = 0; i < r.rows; ++i) {
    state.keys[i] = visible_.of(operands[kPositions], r.b, (r.first + i) % p_.q_m);
    all = all.joined(state.keys[i]);
  }
  // A window may begin behind the last key.
  if (all.empty()) return {0, 0};
  load_queries(operands[kQ], r, state);
  return all;
}

void AttentionRows::attend(std::span<std::byte* const> operands, const RowBlock& r,
                           const KeyRange& range, const std::byte* panels,
                           const AttentionBlock& state, const AttentionSums& sums) const {
  const std::byte* k = operands[kK] + (r.b * p_.k_sb + r.kv_head * p_.k_sh) * size_;
  const std::byte* v = operands[kV] + (r.b * p_.v_sb + r.kv_head * p_.v_sh) * size_;
  const std::int64_t origin = range.first / at_.span_keys * at_.span_keys;
  for (std::int64_t block = (range.first - origin) / at_.block_keys;; ++block) {
    const std::int64_t begin = origin + block * at_.block_keys;
    if (begin >= range.end) break;
    // Panels are read from their start.
    const std::int64_t key = at_.unpacked ? std::max(begin, range.first) : begin;
    const std::int64_t n = std::min(begin + at_.block_keys, range.end) - key;
    if (p_.mask_n != 0 && !load_mask(operands[kMask], r, key, n, state)) continue;
    if (at_.unpacked) {
      score_in_place(k, r, key, n, rows_ahead(v, p_.v_sn, p_.v_sd, p_.v_d, key, n), state);
    } else {
      score_panels(panels + key / gemm_.nr * at_.panel_bytes, r, n, state);
    }
    for (std::int64_t i = 0; i < r.rows; ++i) update_row(i, key, n, state, sums);
    std::int64_t row_bytes = 0;
    const std::byte* values =
        gather(v + key * p_.v_sn * size_, n, p_.v_d, p_.v_sn, p_.v_sd, state.gathered, row_bytes);
    const RowsAhead ahead =
        rows_ahead(k, p_.k_sn, p_.k_sd, p_.q_d, key + n,
                   at_.unpacked ? std::min(at_.block_keys, range.end - key - n) : 0);
    for (std::int64_t i = 0; i < r.rows; i += kRowsTogether) {
      const int rows = rows_together(r, i);
      loops_.weighted_rows[static_cast<std::size_t>(dtype_)](
          {state.scores + i * at_.score_ld, at_.score_ld, rows, seen(state, i, rows, key, n),
           values, row_bytes, p_.v_d, state.factor + i, sums.sums + i * at_.sum_ld, at_.sum_ld,
           i == 0 ? ahead : RowsAhead{}});
    }
  }
}

RowsAhead AttentionRows::rows_ahead(const std::byte* base, std::int64_t row_stride,
                                    std::int64_t column_stride, std::int64_t columns,
                                    std::int64_t first, std::int64_t rows) const {
  if (column_stride != 1 || rows <= 0) return {};
  return {base + first * row_stride * size_, row_stride * size_, columns * size_, rows};
}

void AttentionRows::score_in_place(const std::byte* k, const RowBlock& r, std::int64_t key,
                                   std::int64_t n, const RowsAhead& ahead,
                                   const AttentionBlock& state) const {
  std::int64_t row_bytes = 0;
  const std::byte* keys =
      gather(k + key * p_.k_sn * size_, n, p_.q_d, p_.k_sn, p_.k_sd, state.gathered, row_bytes);
  for (std::int64_t i = 0; i < r.rows; i += kRowsTogether) {
    const int rows = rows_together(r, i);
    loops_.row_products[static_cast<std::size_t>(dtype_)](
        {reinterpret_cast<const float*>(state.queries) + i * at_.query_ld, at_.query_ld, rows, keys,
         row_bytes, seen(state, i, rows, key, n), p_.q_d, state.scores + i * at_.score_ld,
         at_.score_ld, i == 0 ? ahead : RowsAhead{}});
  }
}

void AttentionRows::score_panels(const std::byte* panels, const RowBlock& r, std::int64_t n,
                                 const AttentionBlock& state) const {
  const std::int64_t tiles = ceil_div(r.rows, gemm_.max_rows);
  const std::int64_t start = 0;
  if (table_.enter != nullptr) table_.enter();
  for (std::int64_t column = 0; column < n; column += gemm_.nr, panels += at_.panel_bytes) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::int64_t row = r.rows * tile / tiles;
      const std::int64_t rows = r.rows * (tile + 1) / tiles - row;
      gemm_.tile[rows]({state.queries + row * at_.query_ld * at_.query_size, at_.query_ld, &start,
                        1, at_.depth, at_.depth},
                       panels, state.scores + row * at_.score_ld + column, at_.score_ld);
    }
  }
  if (table_.leave != nullptr) table_.leave();
}

void AttentionRows::update_row(std::int64_t row, std::int64_t key, std::int64_t n,
                               const AttentionBlock& state, const AttentionSums& sums) const {
  const std::int64_t first = std::clamp<std::int64_t>(state.keys[row].first - key, 0, n);
  const std::int64_t end = std::clamp<std::int64_t>(state.keys[row].end - key, first, n);
  const std::int64_t seen = end - first;
  float* s = state.scores + row * at_.score_ld;
  const float before = sums.largest[row];
  const float* mask = p_.mask_n != 0 ? state.mask + row * at_.score_ld + first : nullptr;
  const float here =
      seen == 0 ? kMinusInfinity : loops_.scale_scores(s + first, mask, p_.scale, p_.softcap, seen);
  const float largest = before > here ? before : here;
  // While all scores are -inf any finite shift makes their exponentials 0.
  const float shift = largest == kMinusInfinity ? 0.0f : largest;
  const float factor = std::exp(before - shift);
  sums.total[row] =
      sums.total[row] * factor + (seen == 0 ? 0.0f : loops_.exponentials(s + first, shift, seen));
  sums.largest[row] = largest;
  state.factor[row] = factor;
  std::fill(s, s + first, 0.0f);
  std::fill(s + end, s + n, 0.0f);
}

void AttentionRows::store(std::byte* y, const RowBlock& r, const AttentionSums& state) const {
  const std::uint32_t dtype = dtype_ == DType::f32   ? NPU_DTYPE_F32
                              : dtype_ == DType::f16 ? NPU_DTYPE_F16
                                                     : NPU_DTYPE_BF16;
  for (std::int64_t i = 0; i < r.rows; ++i) {
    float* sums = state.sums + i * at_.sum_ld;
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

void AttentionRows::join(const AttentionSums& all, const AttentionSums& later,
                         std::int64_t rows) const {
  for (std::int64_t row = 0; row < rows; ++row) {
    const float largest = std::max(all.largest[row], later.largest[row]);
    const float shift = largest == kMinusInfinity ? 0.0f : largest;
    const float a = std::exp(all.largest[row] - shift);
    const float b = std::exp(later.largest[row] - shift);
    float* sums = all.sums + row * at_.sum_ld;
    const float* added = later.sums + row * at_.sum_ld;
    for (std::int64_t c = 0; c < p_.v_d; ++c) sums[c] = sums[c] * a + added[c] * b;
    all.total[row] = all.total[row] * a + later.total[row] * b;
    all.largest[row] = largest;
  }
}

}  // namespace npu::cpu
