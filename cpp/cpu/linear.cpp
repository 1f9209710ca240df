// The linear kernel: a LinearPlan of the kernel library over a dispatch's operands.
#include "cpu/kernels/linear.hpp"

#include "cpu/activation.hpp"
#include "cpu/host_kernels.hpp"
#include "cpu/packed_weights.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kX, kScale, kW, kWScale, kBias, kResidual, kY };

[[noreturn]] void refuse(const DispatchInfo& dispatch, const char* rule) {
  throw Error(ErrorCode::kInvalidProgram, "dispatch '" + std::string(dispatch.name) +
                                              "', kernel 'linear': " + rule +
                                              "; compile the model again");
}

bool has_int8_weights(const DispatchInfo& dispatch) {
  const std::uint32_t dtype = dispatch.operands[kW].dtype;
  const bool int8 = dtype == NPU_DTYPE_I8;
  if (!int8 && dtype != dispatch.operands[kX].dtype) {
    refuse(dispatch, "weights must be int8 or of the dtype of x");
  }
  if (int8 != (dispatch.operands[kWScale].buffer != schema::kNone)) {
    refuse(dispatch, "int8 weights, and no others, come with scales");
  }
  return int8;
}

LinearPlan make_plan(const DispatchInfo& dispatch, ThreadPool& pool) {
  const auto& p = dispatch.params_as<LinearParams>();
  const LinearLayout layout{.x_m = p.x_sm,
                            .x_k = p.x_sk,
                            .w_p = p.w_sp,
                            .w_n = p.w_sn,
                            .w_k = p.w_sk,
                            .y_m = p.y_sm,
                            .y_n = p.y_sn,
                            .residual_m = p.residual_sm,
                            .residual_n = p.residual_sn};
  const LinearOptions options{.int8_weights = has_int8_weights(dispatch),
                              .rms_norm = p.norm == NPU_LINEAR_NORM_RMS,
                              .eps = p.eps};
  return LinearPlan({.parts = p.w_p, .m = p.y_m, .n = p.y_n, .k = p.x_k}, layout,
                    library_dtype(dispatch, kX), options, pool);
}

// The rows of a (part, n) operand of float32, each made contiguous.
class PartVectors {
 public:
  PartVectors(std::int64_t n, std::int64_t part_stride, std::int64_t stride, ScratchLayout& scratch)
      : part_stride_(part_stride), rows_{{n, stride, scratch}, {n, stride, scratch}} {}

  void resolve(const std::byte* from, std::int64_t parts, std::byte* scratch,
               const float* (&to)[2]) const {
    for (std::int64_t q = 0; q < 2; ++q) {
      const bool present = from != nullptr && q < parts;
      const auto i = static_cast<std::size_t>(q);
      to[i] = present
                  ? rows_[i].contiguous(
                        from + q * part_stride_ * static_cast<std::int64_t>(sizeof(float)), scratch)
                  : nullptr;
    }
  }

 private:
  std::int64_t part_stride_;
  BiasOperand rows_[2];
};

class LinearKernel final : public HostKernel {
 public:
  LinearKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : LinearKernel(dispatch, dispatch.params_as<LinearParams>(), context) {}

  std::size_t scratch_bytes() const override { return layout_.size(); }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    LinearArgs args{};
    args.x = operands[kX];
    args.scale = scale_.contiguous(operands[kScale], scratch);
    args.w = operands[kW];
    w_scale_.resolve(operands[kWScale], parts_, scratch, args.w_scale);
    bias_.resolve(operands[kBias], parts_, scratch, args.bias);
    args.residual = operands[kResidual];
    args.y = operands[kY];
    args.lo = clamp_lo_;
    args.hi = clamp_hi_;
    args.activate = activate_;
    args.scratch = scratch + plan_at_;
    plan_.run(args);
  }

 private:
  LinearKernel(const DispatchInfo& dispatch, const LinearParams& p, const CpuContext& context)
      : plan_(make_plan(dispatch, context.pool)),
        parts_(p.w_p),
        clamp_lo_(p.clamp_lo),
        clamp_hi_(p.clamp_hi),
        activate_(activation_function(p.activation)),
        plan_at_(layout_.add(plan_.scratch_bytes())),
        scale_(p.scale_k, p.scale_sk, layout_),
        w_scale_(p.w_scale_n, p.w_scale_sp, p.w_scale_sn, layout_),
        bias_(p.bias_n, p.bias_sp, p.bias_sn, layout_) {}

  LinearPlan plan_;
  std::int64_t parts_;
  float clamp_lo_, clamp_hi_;
  ActivateFn activate_;
  ScratchLayout layout_;
  std::size_t plan_at_;
  BiasOperand scale_;
  PartVectors w_scale_, bias_;
};

}  // namespace

std::unique_ptr<HostKernel> make_linear(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<LinearKernel>(dispatch, context);
}

}  // namespace npu::cpu
