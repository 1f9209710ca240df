// The gemm kernel: a GemmPlan of the kernel library, with weights packed once per binding or used
// in place.
#include "cpu/kernels/gemm.hpp"

#include "cpu/activation.hpp"
#include "cpu/host_kernels.hpp"
#include "cpu/packed_weights.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kX, kW, kBias, kResidual, kY };

GemmLayout layout_of(const GemmParams& p) {
  return {.x_b = p.x_sb,
          .x_m = p.x_sm,
          .x_k = p.x_sk,
          .w_b = p.w_sb,
          .w_n = p.w_sn,
          .w_k = p.w_sk,
          .y_b = p.y_sb,
          .y_m = p.y_sm,
          .y_n = p.y_sn,
          .residual_b = p.residual_sb,
          .residual_m = p.residual_sm,
          .residual_n = p.residual_sn};
}

GemmPlan make_plan(const DispatchInfo& dispatch, ThreadPool& pool) {
  const auto& p = dispatch.params_as<GemmParams>();
  const bool constant = ((dispatch.is_weight >> kW) & 1u) != 0;
  return GemmPlan({.batch = p.y_b, .m = p.y_m, .n = p.y_n, .k = p.x_k}, layout_of(p),
                  library_dtype(dispatch, kX),
                  constant ? WeightMode::constant : WeightMode::activation, pool);
}

// All that the packed form of a weight depends on, for one instruction set.
std::vector<std::int64_t> packing_of(const DispatchInfo& dispatch) {
  const auto& p = dispatch.params_as<GemmParams>();
  const auto dtype = static_cast<std::int64_t>(library_dtype(dispatch, kX));
  return {dispatch.kernel.id, dtype, p.w_sb == 0 ? 1 : p.y_b, p.y_n, p.x_k, p.w_sb, p.w_sn, p.w_sk};
}

class GemmKernel final : public HostKernel {
 public:
  GemmKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : plan_(make_plan(dispatch, context.pool)),
        packing_(packing_of(dispatch)),
        clamp_lo_(dispatch.params_as<GemmParams>().clamp_lo),
        clamp_hi_(dispatch.params_as<GemmParams>().clamp_hi),
        activate_(activation_function(dispatch.params_as<GemmParams>().activation)),
        plan_at_(layout_.add(plan_.scratch_bytes())),
        bias_(dispatch.params_as<GemmParams>().bias_n, dispatch.params_as<GemmParams>().bias_sn,
              layout_) {}

  std::size_t scratch_bytes() const override { return layout_.size(); }

  std::unique_ptr<PreparedWeights> prepare(std::span<std::byte* const> operands) const override {
    if (plan_.packed_weights_bytes() == 0) return nullptr;
    auto packed = std::make_unique<PackedWeights>(plan_.packed_weights_bytes());
    plan_.pack_weights(operands[kW], packed->data());
    return packed;
  }

  std::vector<std::int64_t> packing() const override {
    if (plan_.packed_weights_bytes() == 0) return {};
    return packing_;
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* weights,
           std::byte* scratch) const override {
    const void* w =
        weights != nullptr ? static_cast<const PackedWeights*>(weights)->data() : operands[kW];
    plan_.run(operands[kX], w, bias_.contiguous(operands[kBias], scratch), operands[kResidual],
              operands[kY], clamp_lo_, clamp_hi_, scratch + plan_at_, activate_);
  }

 private:
  GemmPlan plan_;
  std::vector<std::int64_t> packing_;
  float clamp_lo_, clamp_hi_;
  ActivateFn activate_;
  ScratchLayout layout_;
  std::size_t plan_at_;
  BiasOperand bias_;
};

}  // namespace

std::unique_ptr<HostKernel> make_gemm(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<GemmKernel>(dispatch, context);
}

}  // namespace npu::cpu
