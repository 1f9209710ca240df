// ConvPlan: checks the shape, chooses the algorithm, forwards to it.
#include "conv.hpp"

#include <stdexcept>

#include "conv_impl.hpp"
#include "cpu_features.hpp"

namespace npu::cpu {
namespace {

void require(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(std::string("ConvPlan: ") + what);
}

void check(const ConvShape& s) {
  require(s.n >= 0 && s.oh >= 0 && s.ow >= 0, "n, oh and ow must not be negative");
  require(s.ic > 0 && s.oc > 0, "ic and oc must be positive");
  require(s.ih >= 0 && s.iw >= 0, "ih and iw must not be negative");
  require(s.kh > 0 && s.kw > 0, "kh and kw must be positive");
  require(s.stride_h > 0 && s.stride_w > 0, "strides must be positive");
  require(s.dilation_h > 0 && s.dilation_w > 0, "dilations must be positive");
  require(s.pad_top >= 0 && s.pad_left >= 0, "padding must not be negative");
  require(s.groups > 0 && s.ic % s.groups == 0 && s.oc % s.groups == 0,
          "groups must divide both ic and oc");
}

// Expected time of the 3x3 layer by each method, in cycles. `tile` 0 is the direct method, 2 and 4
// are Winograd's. Transformed filters are float32 and large, and at batch 1 each is used for few
// tiles, so the time to fetch them decides about the deep layers; half of it hides behind
// arithmetic.
double expected_time(const ConvProblem& p, int tile) {
  constexpr double kMemoryBytesPerCycle = 8;
  constexpr double kExposed = 0.6;
  const ConvShape& s = p.shape;
  const KernelTable& t = *p.kernels;
  const auto ic = static_cast<double>(s.ic);
  const auto oc = static_cast<double>(round_up(s.oc, t.gemm_f32.nr));
  double cycles = 0;
  double bytes = 0;
  if (tile == 0) {
    const auto pixels = static_cast<double>(s.n * s.oh * s.ow);
    cycles = pixels * 9 * ic * oc / t.gemm[static_cast<std::size_t>(p.dtype)].macs_per_cycle;
    bytes = 9 * ic * oc * static_cast<double>(dtype_size(p.dtype));
  } else {
    const auto tiles = static_cast<double>(s.n * ceil_div(s.oh, tile) * ceil_div(s.ow, tile));
    const double frequencies = (tile + 2) * (tile + 2);
    // A vector of channels takes about this many cycles to transform, in or out (measured, 16
    // lanes).
    const double transform = tile == 4 ? 230 : 70;
    const double lanes = t.gemm_f32.macs_per_cycle;
    cycles = frequencies * tiles * ic * oc / lanes + tiles * (ic + oc) * transform / lanes;
    bytes = frequencies * ic * oc * 4;
  }
  return cycles / p.pool->threads() + kExposed * bytes / kMemoryBytesPerCycle;
}

// Side of the Winograd output tile to use, 0 for the direct method.
int winograd_tile(const ConvProblem& p) {
  const ConvShape& s = p.shape;
  const bool fits = s.kh == 3 && s.kw == 3 && s.stride_h == 1 && s.stride_w == 1 &&
                    s.dilation_h == 1 && s.dilation_w == 1 && s.groups == 1 && p.layout.x.c == 1 &&
                    s.n * s.oh * s.ow > 0;
  // float32 results would show the transforms' rounding; few channels leave nothing to save.
  if (!fits || p.dtype == DType::f32 || s.ic < 16 || s.oc < 16) return 0;
  int best = 0;
  for (const int tile : {2, 4}) {
    if (expected_time(p, tile) < expected_time(p, best)) best = tile;
  }
  return best;
}

std::unique_ptr<const ConvPlan::Impl> choose(const ConvProblem& p) {
  const ConvShape& s = p.shape;
  if (s.groups > 1 && s.groups == s.ic && s.groups == s.oc && p.layout.x.c == 1) {
    return make_depthwise_conv(p);
  }
  if (const int tile = winograd_tile(p); tile > 0) return make_winograd_conv(p, tile);
  return make_direct_conv(p);
}

}  // namespace

ConvPlan::Impl::Impl(const ConvProblem& problem, const char* algorithm)
    : p_(problem), name_(std::string(algorithm) + "/" + isa_name(problem.kernels->isa)) {}

Output ConvPlan::Impl::output_at(const ConvArgs& args, std::int64_t n, std::int64_t oy,
                                 std::int64_t first_channel) const {
  const auto map = [&](const Strides4& t) {
    return RowMap{n * t.n + oy * t.h + first_channel * t.c, p_.shape.ow, t.w, t.h, t.c};
  };
  return Output{p_.dtype,         args.bias != nullptr ? args.bias + first_channel : nullptr,
                args.residual,    args.y,
                map(p_.layout.y), map(p_.layout.residual),
                args.lo,          args.hi,
                args.activate};
}

ConvPlan::ConvPlan(const ConvShape& shape, const ConvLayout& layout, DType dtype,
                   ThreadPool& pool) {
  check(shape);
  impl_ = choose(ConvProblem{shape, layout, dtype, &pool, &kernel_table(active_isa())});
}
ConvPlan::~ConvPlan() = default;
ConvPlan::ConvPlan(ConvPlan&&) noexcept = default;
ConvPlan& ConvPlan::operator=(ConvPlan&&) noexcept = default;

std::size_t ConvPlan::packed_weights_bytes() const { return impl_->packed_weights_bytes(); }
void ConvPlan::pack_weights(const void* w, void* packed) const { impl_->pack_weights(w, packed); }
std::size_t ConvPlan::scratch_bytes() const { return impl_->scratch_bytes(); }
const char* ConvPlan::algorithm() const { return impl_->name().c_str(); }

void ConvPlan::run(const void* x, const void* packed, const float* bias, const void* residual,
                   void* y, float clamp_lo, float clamp_hi, void* scratch,
                   ActivateFn activate) const {
  impl_->run(ConvArgs{x, packed, bias, residual, y, clamp_lo, clamp_hi, scratch, activate});
}

}  // namespace npu::cpu
