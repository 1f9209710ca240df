// The pooling kernels, by the kernel library's functions.
#include "cpu/host_kernels.hpp"
#include "cpu/kernels/pool.hpp"
#include "cpu/pool_planar.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kX, kY };

// What the three records have in common.
template <class Params>
PoolShape images_of(const Params& p) {
  return {.n = p.y_n, .c = p.y_c, .ih = p.x_h, .iw = p.x_w, .oh = p.y_h, .ow = p.y_w};
}

template <class Params>
PoolShape windows_of(const Params& p) {
  PoolShape shape = images_of(p);
  shape.kh = p.kh;
  shape.kw = p.kw;
  shape.stride_h = p.stride_h;
  shape.stride_w = p.stride_w;
  shape.pad_top = p.pad_h;
  shape.pad_left = p.pad_w;
  return shape;
}

template <class Params>
Strides4 x_strides(const Params& p) {
  return {p.x_sn, p.x_sc, p.x_sh, p.x_sw};
}

template <class Params>
Strides4 y_strides(const Params& p) {
  return {p.y_sn, p.y_sc, p.y_sh, p.y_sw};
}

// Pool: (shape, dtype, x strides, y strides, x, y, thread pool) -> void.
template <class Pool>
class PoolKernel final : public HostKernel {
 public:
  template <class Params>
  PoolKernel(const DispatchInfo& dispatch, const CpuContext& context, const Params& p,
             const PoolShape& shape, Pool pool)
      : threads_(context.pool),
        shape_(shape),
        dtype_(library_dtype(dispatch, kX)),
        x_(x_strides(p)),
        y_(y_strides(p)),
        pool_(pool) {}

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* /*scratch*/) const override {
    pool_(shape_, dtype_, x_, y_, operands[kX], operands[kY], threads_);
  }

 private:
  ThreadPool& threads_;
  PoolShape shape_;
  DType dtype_;
  Strides4 x_, y_;
  Pool pool_;
};

template <class Params, class Pool>
std::unique_ptr<HostKernel> make_pool(const DispatchInfo& dispatch, const CpuContext& context,
                                      const Params& p, const PoolShape& shape, Pool pool) {
  return std::make_unique<PoolKernel<Pool>>(dispatch, context, p, shape, pool);
}

}  // namespace

std::unique_ptr<HostKernel> make_max_pool2d(const DispatchInfo& dispatch,
                                            const CpuContext& context) {
  const auto& p = dispatch.params_as<MaxPool2dParams>();
  PoolShape shape = windows_of(p);
  shape.dilation_h = p.dilation_h;
  shape.dilation_w = p.dilation_w;
  if (is_planar(x_strides(p), shape)) {
    return make_planar_pool(dispatch, context, shape, x_strides(p), y_strides(p), nullptr);
  }
  return make_pool(dispatch, context, p, shape, &max_pool2d);
}

std::unique_ptr<HostKernel> make_avg_pool2d(const DispatchInfo& dispatch,
                                            const CpuContext& context) {
  const auto& p = dispatch.params_as<AvgPool2dParams>();
  const AvgPoolOptions options{.count_include_pad = p.count_include_pad != 0,
                               .divisor_override = p.divisor_override,
                               .pad_bottom = p.pad_h,
                               .pad_right = p.pad_w};
  const PoolShape shape = windows_of(p);
  if (is_planar(x_strides(p), shape)) {
    return make_planar_pool(dispatch, context, shape, x_strides(p), y_strides(p), &options);
  }
  return make_pool(dispatch, context, p, shape,
                   [options](const PoolShape& images, DType dtype, const Strides4& xs,
                             const Strides4& ys, const void* x, void* y, ThreadPool& threads) {
                     avg_pool2d(images, options, dtype, xs, ys, x, y, threads);
                   });
}

std::unique_ptr<HostKernel> make_adaptive_avg_pool2d(const DispatchInfo& dispatch,
                                                     const CpuContext& context) {
  const auto& p = dispatch.params_as<AdaptiveAvgPool2dParams>();
  return make_pool(dispatch, context, p, images_of(p), &adaptive_avg_pool2d);
}

}  // namespace npu::cpu
