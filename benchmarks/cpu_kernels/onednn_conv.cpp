// The benchmark's convolutions by oneDNN.
#include <dnnl.hpp>
#include <unordered_map>

#include "bench.hpp"

namespace npu::cpu::bench {
namespace {

using dnnl::memory;

memory::data_type data_type(DType t) {
  return t == DType::f32   ? memory::data_type::f32
         : t == DType::f16 ? memory::data_type::f16
                           : memory::data_type::bf16;
}

struct State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::convolution_forward primitive;
  std::unordered_map<int, memory> args;
};

memory zeros(const memory::desc& desc, const dnnl::engine& engine) {
  memory m(desc, engine);
  std::memset(m.get_data_handle(), 0, desc.get_size());
  return m;
}

}  // namespace

std::function<void()> onednn_conv(const Layer& l, std::int64_t batch, DType dtype) {
  try {
    auto state = std::make_shared<State>();
    const memory::data_type type = data_type(dtype);
    const std::int64_t pad = l.kernel / 2;
    const std::int64_t pad_end = (l.out - 1) * l.stride + l.kernel - l.in - pad;
    const memory::desc x({batch, l.ic, l.in, l.in}, type, memory::format_tag::nhwc);
    const memory::desc w({l.oc, l.ic, l.kernel, l.kernel}, type, memory::format_tag::any);
    const memory::desc b({l.oc}, memory::data_type::f32, memory::format_tag::x);
    const memory::desc y({batch, l.oc, l.out, l.out}, type, memory::format_tag::nhwc);
    dnnl::post_ops ops;
    if (l.residual) ops.append_binary(dnnl::algorithm::binary_add, y);
    if (l.relu) ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
    dnnl::primitive_attr attr;
    attr.set_post_ops(ops);
    const dnnl::convolution_forward::primitive_desc desc(
        state->engine, dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_auto, x, w,
        b, y, {l.stride, l.stride}, {0, 0}, {pad, pad}, {pad_end, pad_end}, attr);
    state->primitive = dnnl::convolution_forward(desc);
    state->args = {{DNNL_ARG_SRC, zeros(desc.src_desc(), state->engine)},
                   {DNNL_ARG_WEIGHTS, zeros(desc.weights_desc(), state->engine)},
                   {DNNL_ARG_BIAS, zeros(desc.bias_desc(), state->engine)},
                   {DNNL_ARG_DST, zeros(desc.dst_desc(), state->engine)}};
    if (l.residual) {
      state->args.insert(
          {DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, zeros(y, state->engine)});
    }
    return [state] {
      state->primitive.execute(state->stream, state->args);
      state->stream.wait();
    };
  } catch (const dnnl::error&) {
    return {};
  }
}

const char* onednn_version() {
  static const std::string text = [] {
    const dnnl_version_t* v = dnnl::version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
           std::to_string(v->patch);
  }();
  return text.c_str();
}

}  // namespace npu::cpu::bench
