// The conv2d kernel: a ConvPlan of the kernel library, with weights packed once per binding where
// it can be.
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu/activation.hpp"
#include "cpu/host_kernels.hpp"
#include "cpu/kernels/conv.hpp"
#include "cpu/packed_weights.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kX, kW, kBias, kResidual, kY };

ConvShape shape_of(const Conv2dParams& p) {
  return {.n = p.y_n,
          .ic = p.x_c,
          .ih = p.x_h,
          .iw = p.x_w,
          .oc = p.y_c,
          .oh = p.y_h,
          .ow = p.y_w,
          .kh = p.w_kh,
          .kw = p.w_kw,
          .stride_h = p.stride_h,
          .stride_w = p.stride_w,
          .pad_top = p.pad_top,
          .pad_left = p.pad_left,
          .dilation_h = p.dilation_h,
          .dilation_w = p.dilation_w,
          .groups = p.groups};
}

ConvLayout layout_of(const Conv2dParams& p) {
  return {.x = {p.x_sn, p.x_sc, p.x_sh, p.x_sw},
          .y = {p.y_sn, p.y_sc, p.y_sh, p.y_sw},
          .residual = {p.residual_sn, p.residual_sc, p.residual_sh, p.residual_sw}};
}

ConvPlan make_plan(const DispatchInfo& dispatch, ThreadPool& pool) {
  const auto& p = dispatch.params_as<Conv2dParams>();
  try {
    return ConvPlan(shape_of(p), layout_of(p), library_dtype(dispatch, kX), pool);
  } catch (const std::invalid_argument& error) {
    throw Error(ErrorCode::kInvalidProgram, "dispatch '" + std::string(dispatch.name) +
                                                "': " + error.what() + "; compile the model again");
  }
}

// Weights in any layout, as the plan wants them: [oc][kh][kw][ic] without gaps.
class WeightOperand {
 public:
  WeightOperand(const Conv2dParams& p, std::size_t element_size)
      : extent_{p.w_oc, p.w_kh, p.w_kw, p.w_ic},
        stride_{p.w_soc, p.w_skh, p.w_skw, p.w_sic},
        size_(static_cast<std::int64_t>(element_size)) {}

  bool is_contiguous() const {
    std::int64_t expected = 1;
    for (std::size_t d = 4; d-- > 0;) {
      if (extent_[d] > 1 && stride_[d] != expected) return false;
      expected *= extent_[d];
    }
    return true;
  }

  std::size_t bytes() const {
    return static_cast<std::size_t>(extent_[0] * extent_[1] * extent_[2] * extent_[3] * size_);
  }

  void gather(const std::byte* from, std::byte* to) const {
    for (std::int64_t o = 0; o < extent_[0]; ++o) {
      for (std::int64_t h = 0; h < extent_[1]; ++h) {
        for (std::int64_t w = 0; w < extent_[2]; ++w) {
          const std::int64_t tap = o * stride_[0] + h * stride_[1] + w * stride_[2];
          for (std::int64_t i = 0; i < extent_[3]; ++i, to += size_) {
            std::memcpy(to, from + (tap + i * stride_[3]) * size_, static_cast<std::size_t>(size_));
          }
        }
      }
    }
  }

 private:
  std::array<std::int64_t, 4> extent_, stride_;
  std::int64_t size_;
};

class Conv2dKernel final : public HostKernel {
 public:
  Conv2dKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : plan_(make_plan(dispatch, context.pool)),
        weight_(dispatch.params_as<Conv2dParams>(), dtype_size(library_dtype(dispatch, kW))),
        clamp_lo_(dispatch.params_as<Conv2dParams>().clamp_lo),
        clamp_hi_(dispatch.params_as<Conv2dParams>().clamp_hi),
        activate_(activation_function(dispatch.params_as<Conv2dParams>().activation)),
        packed_once_(((dispatch.is_weight >> kW) & 1u) != 0),
        plan_at_(layout_.add(plan_.scratch_bytes())),
        packed_at_(layout_.add(packed_once_ ? 0 : plan_.packed_weights_bytes())),
        gathered_at_(layout_.add(packed_once_ || weight_.is_contiguous() ? 0 : weight_.bytes())),
        bias_(dispatch.params_as<Conv2dParams>().bias_c, dispatch.params_as<Conv2dParams>().bias_sc,
              layout_) {}

  std::size_t scratch_bytes() const override { return layout_.size(); }

  std::unique_ptr<PreparedWeights> prepare(std::span<std::byte* const> operands) const override {
    if (!packed_once_) return nullptr;
    auto packed = std::make_unique<PackedWeights>(plan_.packed_weights_bytes());
    if (weight_.is_contiguous()) {
      plan_.pack_weights(operands[kW], packed->data());
    } else {
      std::vector<std::byte> gathered(weight_.bytes());
      weight_.gather(operands[kW], gathered.data());
      plan_.pack_weights(gathered.data(), packed->data());
    }
    return packed;
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* weights,
           std::byte* scratch) const override {
    const void* packed = packed_once_ ? static_cast<const PackedWeights*>(weights)->data()
                                      : pack(operands[kW], scratch);
    plan_.run(operands[kX], packed, bias_.contiguous(operands[kBias], scratch), operands[kResidual],
              operands[kY], clamp_lo_, clamp_hi_, scratch + plan_at_, activate_);
  }

 private:
  const void* pack(const std::byte* w, std::byte* scratch) const {
    if (!weight_.is_contiguous()) {
      weight_.gather(w, scratch + gathered_at_);
      w = scratch + gathered_at_;
    }
    plan_.pack_weights(w, scratch + packed_at_);
    return scratch + packed_at_;
  }

  ConvPlan plan_;
  WeightOperand weight_;
  float clamp_lo_, clamp_hi_;
  ActivateFn activate_;
  bool packed_once_;
  ScratchLayout layout_;
  std::size_t plan_at_, packed_at_, gathered_at_;
  BiasOperand bias_;
};

}  // namespace

std::unique_ptr<HostKernel> make_conv2d(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<Conv2dKernel>(dispatch, context);
}

}  // namespace npu::cpu
