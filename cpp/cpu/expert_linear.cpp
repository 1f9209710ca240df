// The expert_linear kernel: an ExpertLinearPlan of the kernel library over a dispatch's operands.
#include "cpu/kernels/expert_linear.hpp"

#include "cpu/activation.hpp"
#include "cpu/index_operand.hpp"
#include "cpu/packed_weights.hpp"
#include "runtime/text.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kX, kExpert, kW, kWScale, kY };

bool has_int8_weights(const DispatchInfo& dispatch) {
  const std::uint32_t dtype = dispatch.operands[kW].dtype;
  const bool int8 = dtype == NPU_DTYPE_I8;
  const bool scaled = dispatch.operands[kWScale].buffer != schema::kNone;
  if ((!int8 && dtype != dispatch.operands[kX].dtype) || int8 != scaled) {
    throw Error(ErrorCode::kInvalidProgram,
                text("dispatch ", dispatch.index, " (", dispatch.name,
                     "), kernel expert_linear: weights must be of the dtype of x, or int8 with "
                     "scales; compile the model again"));
  }
  return int8;
}

ExpertLinearPlan make_plan(const DispatchInfo& dispatch, ThreadPool& pool) {
  const auto& p = dispatch.params_as<ExpertLinearParams>();
  const ExpertShape shape{
      .experts = p.w_e, .parts = p.w_p, .tokens = p.y_t, .choices = p.y_c, .n = p.y_n, .k = p.x_k};
  const ExpertLayout layout{.x_t = p.x_st,
                            .x_c = p.x_sc,
                            .x_k = p.x_sk,
                            .w_e = p.w_se,
                            .w_p = p.w_sp,
                            .w_n = p.w_sn,
                            .w_k = p.w_sk,
                            .w_scale_e = p.w_scale_se,
                            .w_scale_p = p.w_scale_sp,
                            .w_scale_n = p.w_scale_sn,
                            .y_t = p.y_st,
                            .y_c = p.y_sc,
                            .y_n = p.y_sn};
  return {shape, layout, library_dtype(dispatch, kX), has_int8_weights(dispatch), pool};
}

class ExpertLinearKernel final : public HostKernel {
 public:
  ExpertLinearKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : plan_(make_plan(dispatch, context.pool)),
        p_(dispatch.params_as<ExpertLinearParams>()),
        indices_(dispatch, kExpert, p_.w_e, p_.wrap != 0),
        activate_(activation_function(p_.activation)),
        experts_at_(layout_.add(std::size_t{p_.y_t} * p_.y_c * sizeof(std::int32_t))),
        plan_at_(layout_.add(plan_.scratch_bytes())) {}

  std::size_t scratch_bytes() const override { return layout_.size(); }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    auto* experts = reinterpret_cast<std::int32_t*>(scratch + experts_at_);
    find_experts(operands[kExpert], experts);
    plan_.run({.x = operands[kX],
               .experts = experts,
               .w = operands[kW],
               .w_scale = reinterpret_cast<const float*>(operands[kWScale]),
               .y = operands[kY],
               .activate = activate_,
               .scratch = scratch + plan_at_});
  }

 private:
  void find_experts(const std::byte* from, std::int32_t* experts) const {
    for (std::int64_t t = 0; t < p_.y_t; ++t) {
      for (std::int64_t c = 0; c < p_.y_c; ++c) {
        const std::int64_t index = indices_.value(from, t * p_.expert_st + c * p_.expert_sc);
        const std::int64_t place = indices_.places().of(index);
        if (place < 0) indices_.fail(index);
        *experts++ = static_cast<std::int32_t>(place);
      }
    }
  }

  ExpertLinearPlan plan_;
  const ExpertLinearParams p_;
  IndexOperand indices_;
  ActivateFn activate_;
  ScratchLayout layout_;
  std::size_t experts_at_, plan_at_;
};

}  // namespace

std::unique_ptr<HostKernel> make_expert_linear(const DispatchInfo& dispatch,
                                               const CpuContext& context) {
  return std::make_unique<ExpertLinearKernel>(dispatch, context);
}

}  // namespace npu::cpu
