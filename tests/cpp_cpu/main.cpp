// Runs every test of the CPU kernels; exit status 1 when a check fails.
#include <algorithm>
#include <cmath>

#include "check.hpp"

namespace npu::cpu::test {

Results& results() {
  static Results r;
  return r;
}

Tensor::Tensor(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, DType dtype,
               int layout, Rng& rng)
    : n_(n), c_(c), h_(h), w_(w), dtype_(dtype) {
  switch (layout) {
    case kChannelsLast:
      strides_ = Strides4::channels_last(c, h, w);
      break;
    case kPlanar:
      strides_ = Strides4::planar(c, h, w);
      break;
    case kChannelSlice: {
      const std::int64_t wide = c + pick(rng, 1, 9);
      strides_ = Strides4::channels_last(wide, h + 1, w + 2);
      break;
    }
    default:  // h and w swapped, channels and pixels spaced out
      strides_ = {2 * (c * 3 + 1) * w * h, 3, c * 3 + 1, (c * 3 + 1) * h};
      break;
  }
  elements_ = n * c * h * w == 0 ? 0 : index(n - 1, c - 1, h - 1, w - 1) + 1;
  buffer_ = std::make_unique<Buffer>(static_cast<std::size_t>(elements_) * dtype_size(dtype));
  std::memset(buffer_->get(), 0x5a, static_cast<std::size_t>(elements_) * dtype_size(dtype));
}

void Tensor::fill_normal(Rng& rng, float scale) {
  std::normal_distribution<float> normal(0.0f, scale);
  for (std::int64_t n = 0; n < n_; ++n)
    for (std::int64_t c = 0; c < c_; ++c)
      for (std::int64_t h = 0; h < h_; ++h)
        for (std::int64_t w = 0; w < w_; ++w) set(n, c, h, w, normal(rng));
}

bool Tensor::guards_intact() const {
  std::vector<bool> used(static_cast<std::size_t>(elements_));
  for (std::int64_t n = 0; n < n_; ++n)
    for (std::int64_t c = 0; c < c_; ++c)
      for (std::int64_t h = 0; h < h_; ++h)
        for (std::int64_t w = 0; w < w_; ++w)
          used[static_cast<std::size_t>(index(n, c, h, w))] = true;
  const auto size = dtype_size(dtype_);
  const auto* bytes = static_cast<const unsigned char*>(buffer_->get());
  for (std::size_t i = 0; i < used.size(); ++i) {
    for (std::size_t b = 0; !used[i] && b < size; ++b) {
      if (bytes[i * size + b] != 0x5a) return false;
    }
  }
  return true;
}

double tolerance(DType dtype, double reference, double sum_of_magnitudes) {
  const double unit = dtype == DType::f32 ? 0x1p-24 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
  const double smallest = dtype == DType::f16 ? 0x1p-25 : 1e-38;
  const double accumulation = dtype == DType::f32 ? 2e-6 : 1e-5;
  return 1.001 * unit * std::abs(reference) + smallest + accumulation * sum_of_magnitudes;
}

bool close(float got, double reference, double tol, DType dtype) {
  if (std::isnan(reference)) return std::isnan(got);
  if (std::isinf(reference)) return static_cast<double>(got) == reference;
  const double largest = dtype == DType::f16 ? 65504.0 : 3.3e38;
  if (std::isinf(got)) return std::abs(reference) + tol >= largest && (got > 0) == (reference > 0);
  return std::abs(static_cast<double>(got) - reference) <= tol;
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> v;
    for (int i = 0; i <= static_cast<int>(detect_isa()); ++i) v.push_back(static_cast<Isa>(i));
    return v;
  }();
  return isas;
}

}  // namespace npu::cpu::test

int main() {
  using namespace npu::cpu::test;
  std::printf("instruction sets:");
  for (const auto isa : available_isas()) std::printf(" %s", npu::cpu::isa_name(isa));
  std::printf("\n");
  test_dtype();
  test_thread_pool();
  test_conv();
  test_gemm();
  test_pool();
  test_winograd();
  if (results().failed > 0) {
    std::printf("%d failed, %d passed\n", results().failed, results().passed);
    return 1;
  }
  std::printf("%d passed\n", results().passed);
  return 0;
}
