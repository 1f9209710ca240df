// Sizes and places of the attention kernel's blocks.
#include "cpu/attention_layout.hpp"

namespace npu::cpu {
namespace {

// Up to here, packing the keys costs more than it saves.
constexpr std::int64_t kMaxUnpackedRows = 8;
// Scores of a block of rows and keys, and the keys and values behind them, stay in L2.
constexpr std::int64_t kKeys = 128;
constexpr std::int64_t kMaxBlockRows = 64;
// Keys whose sums are joined with those of others: work for a task, a few blocks.
constexpr std::int64_t kSpanKeys = 512;

}  // namespace

AttentionLayout::AttentionLayout(const AttentionParams& p, DType dtype, const GemmKernels& gemm,
                                 int threads)
    : heads(p.q_h / p.k_h),
      group_rows(heads * p.q_m),
      groups(std::int64_t{p.k_b} * p.k_h),
      unpacked(group_rows <= kMaxUnpackedRows || p.positions_m != 0) {
  const auto size = static_cast<std::int64_t>(dtype_size(dtype));
  const std::int64_t d = p.q_d;
  blocks = ceil_div(group_rows, kMaxBlockRows);
  block_rows_ = ceil_div(group_rows, blocks);
  span_keys = unpacked ? kSpanKeys : std::max<std::int64_t>(1, p.k_n);
  spans = std::max<std::int64_t>(1, ceil_div(p.k_n, span_keys));
  shares_spans = spans > 1 && blocks == 1 && groups < 2 * std::int64_t{threads};
  block_keys =
      std::max<std::int64_t>(round_up(std::min<std::int64_t>(kKeys, p.k_n), gemm.nr), gemm.nr);
  score_ld = round_up(block_keys, 16) + 16;  // no power of two, for the sake of the caches
  sum_ld = round_up(std::max<std::int64_t>(p.v_d, 1), 16);
  depth = unpacked ? d : round_up(d, gemm.k_unit);
  query_size = unpacked ? 4 : gemm.a_size;
  const std::int64_t planes = unpacked ? 1 : gemm.a_planes;
  query_ld = odd_lines(std::max<std::int64_t>(1, depth * planes), query_size);
  const std::int64_t rows = block_rows_ + (unpacked ? 0 : gemm.row_overread);
  scores_at_ = part(rows * score_ld * 4);
  mask_at_ = part(p.mask_n != 0 ? block_rows_ * score_ld * 4 : 0);
  all_at_ = part(block_rows_ * (sum_ld + 2) * 4);
  span_at_ = part(block_rows_ * (sum_ld + 2) * 4);
  factor_at_ = part(block_rows_ * 4);
  keys_at_ = part(block_rows_ * static_cast<std::int64_t>(sizeof(KeyRange)));
  queries_at_ = part(rows * query_ld * query_size);
  gathered_at_ = part(std::max({d, block_keys * (p.v_sd == 1 ? 0 : std::int64_t{p.v_d}),
                                block_keys * (p.k_sd == 1 ? 0 : d)}) *
                      size);
  memory_.add(worker_.size() * static_cast<std::size_t>(threads));
  panel_bytes = cpu::panel_bytes(gemm, depth);
  panel_count = ceil_div(p.k_n, gemm.nr);
  group_panel_bytes_ = unpacked ? 0 : panel_count * panel_bytes;
  panels_at_ = memory_.add(static_cast<std::size_t>(groups * group_panel_bytes_));
  partial_floats_ = round_up(group_rows * (sum_ld + 2), 16);
  partials_at_ = memory_.add(
      shares_spans ? static_cast<std::size_t>(groups * spans * partial_floats_ * 4) : 0);
}

AttentionBlock AttentionLayout::worker_block(std::byte* scratch, int worker) const {
  std::byte* base = scratch + static_cast<std::size_t>(worker) * worker_.size();
  const auto floats = [&](std::size_t at) { return reinterpret_cast<float*>(base + at); };
  return {floats(scores_at_),
          floats(mask_at_),
          sums_at(floats(all_at_), block_rows_),
          sums_at(floats(span_at_), block_rows_),
          floats(factor_at_),
          reinterpret_cast<KeyRange*>(base + keys_at_),
          base + queries_at_,
          base + gathered_at_};
}

AttentionSums AttentionLayout::partial(std::byte* scratch, std::int64_t group,
                                       std::int64_t span) const {
  float* base =
      reinterpret_cast<float*>(scratch + partials_at_) + (group * spans + span) * partial_floats_;
  return sums_at(base, group_rows);
}

}  // namespace npu::cpu
