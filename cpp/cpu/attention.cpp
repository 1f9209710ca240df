// The attention kernel: packs keys where that pays and gives blocks of rows to the threads.
#include <algorithm>
#include <cstdint>

#include "cpu/attention_layout.hpp"
#include "cpu/attention_rows.hpp"
#include "cpu/host_kernels.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/kernels/panels.hpp"

namespace npu::cpu {
namespace {

constexpr std::int64_t kPanelsPerTask = 8;

// float16 on AMX is split into pairs of bfloat16, which infinities do not survive.
const KernelTable& product_table(DType dtype) {
  const Isa isa = active_isa();
  return kernel_table(dtype == DType::f16 ? std::min(isa, Isa::avx512_bf16) : isa);
}

class AttentionKernel final : public HostKernel {
 public:
  AttentionKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : p_(dispatch.params_as<AttentionParams>()),
        dtype_(library_dtype(dispatch, kQ)),
        size_(static_cast<std::int64_t>(dtype_size(dtype_))),
        pool_(context.pool),
        table_(product_table(dtype_)),
        gemm_(table_.gemm[static_cast<std::size_t>(dtype_)]),
        at_(p_, dtype_, gemm_, pool_.threads()),
        visible_(dispatch, p_, kPositions),
        rows_(dispatch, context, table_, dtype_, at_, visible_) {}

  std::size_t scratch_bytes() const override { return at_.scratch_bytes(); }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    if (!at_.unpacked) pack_keys(operands[kK], visible_.end(operands[kPositions]), scratch);
    if (at_.shares_spans) {
      run_spans(operands, scratch);
      return;
    }
    pool_.parallel_for(at_.groups * at_.blocks, [&](std::int64_t task, int worker) {
      const std::int64_t block = task % at_.blocks;
      const std::int64_t group = task / at_.blocks;
      const std::int64_t first = at_.group_rows * block / at_.blocks;
      const RowBlock r{group / p_.k_h, group % p_.k_h, first,
                       at_.group_rows * (block + 1) / at_.blocks - first};
      const AttentionBlock state = at_.worker_block(scratch, worker);
      const KeyRange keys = rows_.start(operands, r, state);
      rows_.clear(state.all, r.rows);
      for (std::int64_t span = keys.first / at_.span_keys; span * at_.span_keys < keys.end;
           ++span) {
        rows_.clear(state.span, r.rows);
        rows_.attend(operands, r, in_span(keys, span), at_.panels(scratch, group), state,
                     state.span);
        rows_.join(state.all, state.span, r.rows);
      }
      rows_.store(operands[kY], r, state.all);
    });
  }

 private:
  // Panels of the first `end` keys, all that any query sees.
  void pack_keys(const std::byte* k, std::int64_t end, std::byte* scratch) const {
    const std::int64_t panels = ceil_div(end, gemm_.nr);
    const std::int64_t parts = ceil_div(panels, kPanelsPerTask);
    pool_.parallel_for(at_.groups * parts, [&](std::int64_t task, int) {
      const std::int64_t group = task / parts;
      const std::byte* from = k + (group / p_.k_h * p_.k_sb + group % p_.k_h * p_.k_sh) * size_;
      const std::int64_t first = task % parts * kPanelsPerTask;
      for (std::int64_t i = first; i < std::min(first + kPanelsPerTask, panels); ++i) {
        pack_panel_of(from, i, at_.panels(scratch, group) + i * at_.panel_bytes);
      }
    });
  }

  void pack_panel_of(const std::byte* keys, std::int64_t panel, std::byte* to) const {
    const std::int64_t key = panel * gemm_.nr;
    const std::int64_t count = std::min<std::int64_t>(gemm_.nr, p_.k_n - key);
    if (gemm_.pack_rows != nullptr && p_.k_sd == 1) {
      gemm_.pack_rows(keys + key * p_.k_sn * size_, p_.k_sn * size_, static_cast<int>(count),
                      p_.q_d, at_.depth, to);
    } else {
      pack_panel(gemm_, {keys, dtype_, p_.k_sn, p_.k_sd}, key, count, p_.q_d, at_.depth, to);
    }
  }

  KeyRange in_span(const KeyRange& keys, std::int64_t span) const {
    return {std::max(keys.first, span * at_.span_keys),
            std::min(keys.end, (span + 1) * at_.span_keys)};
  }

  // Every span of every group as a task of its own, one span's groups side by side: their keys are
  // neighbours in a cache.
  void run_spans(std::span<std::byte* const> operands, std::byte* scratch) const {
    const std::int64_t spans =
        std::max<std::int64_t>(1, ceil_div(visible_.end(operands[kPositions]), at_.span_keys));
    const auto rows_of = [&](std::int64_t group) {
      return RowBlock{group / p_.k_h, group % p_.k_h, 0, at_.group_rows};
    };
    pool_.parallel_for(at_.groups * spans, [&](std::int64_t task, int worker) {
      const std::int64_t group = task % at_.groups;
      const std::int64_t span = task / at_.groups;
      const RowBlock r = rows_of(group);
      const AttentionBlock state = at_.worker_block(scratch, worker);
      const AttentionSums sums = at_.partial(scratch, group, span);
      rows_.clear(sums, r.rows);
      const KeyRange keys = in_span(rows_.start(operands, r, state), span);
      if (!keys.empty()) rows_.attend(operands, r, keys, nullptr, state, sums);
    });
    pool_.parallel_for(at_.groups, [&](std::int64_t group, int) {
      const AttentionSums all = at_.partial(scratch, group, 0);
      for (std::int64_t span = 1; span < spans; ++span) {
        rows_.join(all, at_.partial(scratch, group, span), at_.group_rows);
      }
      rows_.store(operands[kY], rows_of(group), all);
    });
  }

  const AttentionParams p_;
  const DType dtype_;
  const std::int64_t size_;
  ThreadPool& pool_;
  const KernelTable& table_;
  const GemmKernels& gemm_;
  const AttentionLayout at_;
  const VisibleKeys visible_;
  const AttentionRows rows_;
};

}  // namespace

std::unique_ptr<HostKernel> make_attention(const DispatchInfo& dispatch,
                                           const CpuContext& context) {
  return std::make_unique<AttentionKernel>(dispatch, context);
}

}  // namespace npu::cpu
