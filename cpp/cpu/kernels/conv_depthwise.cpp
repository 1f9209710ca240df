// Depthwise convolution on channels-last input: every output pixel is a sum of tap pixels, channels
// across vector lanes.
#include <algorithm>

#include "conv_impl.hpp"

namespace npu::cpu {
namespace {

class DepthwiseConv final : public ConvPlan::Impl {
 public:
  explicit DepthwiseConv(const ConvProblem& problem) : Impl(problem, "depthwise") {
    const ConvShape& s = p_.shape;
    taps_ = s.kh * s.kw;
    ldw_ = round_up(s.oc, 16);
    tap_bytes_ = round_up(taps_ * static_cast<std::int64_t>(sizeof(void*)), 64);
    worker_bytes_ = tap_bytes_ + ldw_ * 4;
  }

  std::size_t packed_weights_bytes() const override {
    return static_cast<std::size_t>(taps_ * ldw_ * 4);
  }

  // [c][taps] to float32 [taps][c].
  void pack_weights(const void* w, void* packed) const override {
    auto* dst = static_cast<float*>(packed);
    std::fill(dst, dst + taps_ * ldw_, 0.0f);
    for (std::int64_t c = 0; c < p_.shape.oc; ++c) {
      for (std::int64_t t = 0; t < taps_; ++t)
        dst[t * ldw_ + c] = load_scalar(p_.dtype, w, c * taps_ + t);
    }
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(p_.pool->threads() * worker_bytes_);
  }

  void run(const ConvArgs& args) const override {
    const std::int64_t oh = p_.shape.oh;
    p_.pool->parallel_for(p_.shape.n * oh, [&](std::int64_t task, int worker) {
      run_row(args, task / oh, task % oh,
              static_cast<std::byte*>(args.scratch) + worker * worker_bytes_);
    });
  }

 private:
  void run_row(const ConvArgs& args, std::int64_t n, std::int64_t oy, std::byte* scratch) const {
    const ConvShape& s = p_.shape;
    const Strides4& xs = p_.layout.x;
    const KernelTable& t = *p_.kernels;
    auto** taps = reinterpret_cast<const void**>(scratch);
    auto* sums = reinterpret_cast<float*>(scratch + tap_bytes_);
    const Output out = output_at(args, n, oy, 0);
    for (std::int64_t ox = 0; ox < s.ow; ++ox) {
      for (std::int64_t ky = 0; ky < s.kh; ++ky) {
        const std::int64_t y = oy * s.stride_h - s.pad_top + ky * s.dilation_h;
        for (std::int64_t kx = 0; kx < s.kw; ++kx) {
          const std::int64_t x = ox * s.stride_w - s.pad_left + kx * s.dilation_w;
          const bool inside = y >= 0 && y < s.ih && x >= 0 && x < s.iw;
          taps[ky * s.kw + kx] =
              inside ? element(args.x, p_.dtype, n * xs.n + y * xs.h + x * xs.w) : nullptr;
        }
      }
      t.depthwise[static_cast<std::size_t>(p_.dtype)](
          taps, taps_, static_cast<const float*>(args.packed), ldw_, s.oc, sums);
      const std::int64_t y_offset = out.y_map.base + ox * out.y_map.inner_stride;
      const std::int64_t residual_offset =
          out.residual_map.base + ox * out.residual_map.inner_stride;
      store_sums(t, sums, ldw_, 1, {&y_offset, &residual_offset}, 0, s.oc, out);
    }
  }

  std::int64_t taps_, ldw_, tap_bytes_, worker_bytes_;
};

}  // namespace

std::unique_ptr<const ConvPlan::Impl> make_depthwise_conv(const ConvProblem& problem) {
  return std::make_unique<DepthwiseConv>(problem);
}

}  // namespace npu::cpu
