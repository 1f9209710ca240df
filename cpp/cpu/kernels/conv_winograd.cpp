// Stride-1 3x3 convolution by Winograd's algorithm in float32: F(4x4) needs a quarter of the direct
// method's multiplications, F(2x2) 4/9 of them with filters that are less than half as large.
//
// The error of float32 transforms stays well below the rounding of a float16 or bfloat16 result
// (tests check it), so these dtypes use it and float32 does not.
#include <algorithm>
#include <array>
#include <cstring>

#include "conv_impl.hpp"
#include "panels.hpp"

namespace npu::cpu {
namespace {

// G, by rows, in filter = G g G^T.
constexpr double kG2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
constexpr double kG4[6][3] = {{1.0 / 4, 0, 0},
                              {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                              {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                              {1.0 / 24, 1.0 / 12, 1.0 / 6},
                              {1.0 / 24, -1.0 / 12, 1.0 / 6},
                              {0, 0, 1}};
constexpr int kMaxFrequencies = 36;
constexpr int kMaxTilePixels = 16;

class WinogradConv final : public ConvPlan::Impl {
 public:
  WinogradConv(const ConvProblem& problem, int tile);

  std::size_t packed_weights_bytes() const override {
    return static_cast<std::size_t>(filters_bytes_ + weights_bytes());
  }
  void pack_weights(const void* w, void* packed) const override;
  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(zeros_bytes_ + v_blocks() * v_bytes_ +
                                    p_.pool->threads() * m_bytes_);
  }
  void run(const ConvArgs& args) const override;

 private:
  struct TilePosition {
    std::int64_t n, y, x;  // image, and output pixel of the tile's corner
  };

  std::int64_t weights_bytes() const {
    return p_.shape.oc * 9 * p_.shape.ic * static_cast<std::int64_t>(dtype_size(p_.dtype));
  }
  // Transformed input: one block for all, or one per thread.
  std::int64_t v_blocks() const { return shared_v_ ? 1 : p_.pool->threads(); }
  TilePosition position(std::int64_t tile) const;
  void transform_filter(const void* w, std::int64_t o, std::int64_t i, std::int64_t panel_column,
                        float* panel) const;
  void transform_input(const ConvArgs& args, const std::byte* zeros, std::int64_t first,
                       std::int64_t last, float* v, std::int64_t v_tiles) const;
  void multiply(const ConvArgs& args, const float* v, std::int64_t v_tiles, std::int64_t v_first,
                std::int64_t first, std::int64_t last, std::int64_t panel, float* m) const;
  void store_tile(const ConvArgs& args, const TilePosition& at, std::int64_t panel,
                  float* sums) const;
  void recompute_tile(const ConvArgs& args, const TilePosition& at, std::int64_t panel,
                      float* sums) const;

  const WinogradKernels& kernels_;
  const GemmKernels& g_;
  int out_, in_, frequencies_;
  std::int64_t tiles_y_, tiles_x_, tiles_;
  std::int64_t panels_, panel_bytes_, filters_bytes_;
  std::int64_t ldv_;
  bool shared_v_ = false;
  std::int64_t tiles_per_task_ = 1, tile_tasks_ = 1, panels_per_task_ = 1, panel_tasks_ = 1;
  std::int64_t zeros_bytes_, v_bytes_, m_bytes_;
};

WinogradConv::WinogradConv(const ConvProblem& problem, int tile)
    : Impl(problem, tile == 4 ? "winograd4" : "winograd2"),
      kernels_(tile == 4 ? problem.kernels->winograd_f4 : problem.kernels->winograd_f2),
      g_(problem.kernels->gemm_f32),
      out_(tile),
      in_(tile + 2),
      frequencies_(in_ * in_) {
  const ConvShape& s = p_.shape;
  tiles_y_ = ceil_div(s.oh, out_);
  tiles_x_ = ceil_div(s.ow, out_);
  tiles_ = s.n * tiles_y_ * tiles_x_;
  panels_ = ceil_div(s.oc, g_.nr);
  panel_bytes_ = panel_bytes(g_, s.ic);
  filters_bytes_ = panels_ * frequencies_ * panel_bytes_;
  ldv_ = odd_lines(s.ic, 4);

  const std::int64_t threads = p_.pool->threads();
  const std::int64_t tile_bytes = frequencies_ * ldv_ * 4;
  const std::int64_t fit = std::max<std::int64_t>(1, cache_sizes().l2 / 3 / tile_bytes);
  tile_tasks_ = round_up(ceil_div(tiles_, fit), threads);
  // When that leaves slivers, transform the input once for all and split the output channels
  // instead: the filters are then the larger part and should pass through the caches only once.
  shared_v_ = tiles_ / tile_tasks_ < g_.max_rows;
  if (shared_v_) {
    tile_tasks_ = ceil_div(tiles_, 8 * g_.max_rows);
    panel_tasks_ = std::min(panels_, ceil_div(4 * threads, tile_tasks_));
  }
  tiles_per_task_ = ceil_div(tiles_, tile_tasks_);
  tile_tasks_ = ceil_div(tiles_, tiles_per_task_);
  panels_per_task_ = ceil_div(panels_, panel_tasks_);
  panel_tasks_ = ceil_div(panels_, panels_per_task_);

  zeros_bytes_ = round_up(s.ic * 4, 64);
  v_bytes_ = round_up((shared_v_ ? tiles_ : tiles_per_task_) * tile_bytes, 64);
  m_bytes_ = round_up((frequencies_ * tiles_per_task_ + kMaxTilePixels) * g_.nr * 4, 64);
}

void WinogradConv::transform_filter(const void* w, std::int64_t o, std::int64_t i,
                                    std::int64_t panel_column, float* panel) const {
  const std::int64_t ic = p_.shape.ic;
  double g[3][3];
  for (int y = 0; y < 3; ++y) {
    for (int x = 0; x < 3; ++x) {
      g[y][x] = static_cast<double>(load_scalar(p_.dtype, w, ((o * 3 + y) * 3 + x) * ic + i));
    }
  }
  const auto* transform = out_ == 4 ? kG4 : kG2;
  const std::int64_t stride = panel_bytes_ / 4;
  for (int fy = 0; fy < in_; ++fy) {
    double row[3];
    for (int x = 0; x < 3; ++x) {
      row[x] = transform[fy][0] * g[0][x] + transform[fy][1] * g[1][x] + transform[fy][2] * g[2][x];
    }
    for (int fx = 0; fx < in_; ++fx) {
      const double u =
          transform[fx][0] * row[0] + transform[fx][1] * row[1] + transform[fx][2] * row[2];
      panel[(fy * in_ + fx) * stride + i * g_.nr + panel_column] = static_cast<float>(u);
    }
  }
}

void WinogradConv::pack_weights(const void* w, void* packed) const {
  p_.pool->parallel_for(panels_, [&](std::int64_t panel, int) {
    auto* dst = reinterpret_cast<float*>(static_cast<std::byte*>(packed) +
                                         panel * frequencies_ * panel_bytes_);
    std::memset(dst, 0, static_cast<std::size_t>(frequencies_ * panel_bytes_));
    const std::int64_t first = panel * g_.nr;
    const std::int64_t last = std::min<std::int64_t>(first + g_.nr, p_.shape.oc);
    for (std::int64_t i = 0; i < p_.shape.ic; ++i) {
      for (std::int64_t o = first; o < last; ++o) transform_filter(w, o, i, o - first, dst);
    }
  });
  // The plain weights too: recompute_tile needs them.
  std::memcpy(static_cast<std::byte*>(packed) + filters_bytes_, w,
              static_cast<std::size_t>(weights_bytes()));
}

WinogradConv::TilePosition WinogradConv::position(std::int64_t tile) const {
  const std::int64_t in_image = tile % (tiles_y_ * tiles_x_);
  return {tile / (tiles_y_ * tiles_x_), in_image / tiles_x_ * out_, in_image % tiles_x_ * out_};
}

void WinogradConv::run(const ConvArgs& args) const {
  auto* zeros = static_cast<std::byte*>(args.scratch);
  auto* v = reinterpret_cast<float*>(zeros + zeros_bytes_);
  std::byte* m = zeros + zeros_bytes_ + v_blocks() * v_bytes_;
  std::memset(zeros, 0, static_cast<std::size_t>(zeros_bytes_));
  if (shared_v_) {
    // A few tiles at a time: enough tasks to balance the threads.
    const std::int64_t step = std::max<std::int64_t>(1, tiles_ / (8 * p_.pool->threads()));
    p_.pool->parallel_for(ceil_div(tiles_, step), [&](std::int64_t task, int) {
      transform_input(args, zeros, task * step, std::min(tiles_, (task + 1) * step),
                      v + task * step * ldv_, tiles_);
    });
  }
  p_.pool->parallel_for(tile_tasks_ * panel_tasks_, [&](std::int64_t task, int worker) {
    const std::int64_t first = task % tile_tasks_ * tiles_per_task_;
    const std::int64_t last = std::min(tiles_, first + tiles_per_task_);
    float* task_v = v;
    if (!shared_v_) {
      task_v = v + worker * (v_bytes_ / 4);
      transform_input(args, zeros, first, last, task_v, tiles_per_task_);
    }
    const std::int64_t panel0 = task / tile_tasks_ * panels_per_task_;
    for (std::int64_t panel = panel0; panel < std::min(panels_, panel0 + panels_per_task_);
         ++panel) {
      multiply(args, task_v, shared_v_ ? tiles_ : tiles_per_task_, shared_v_ ? first : 0, first,
               last, panel, reinterpret_cast<float*>(m + worker * m_bytes_));
    }
  });
}

// v[frequency][tile][channel] for tiles [first, last); v points at the first one's place.
void WinogradConv::transform_input(const ConvArgs& args, const std::byte* zeros, std::int64_t first,
                                   std::int64_t last, float* v, std::int64_t v_tiles) const {
  const ConvShape& s = p_.shape;
  const Strides4& xs = p_.layout.x;
  const WinogradInputFn transform = kernels_.input[static_cast<std::size_t>(p_.dtype)];
  std::array<const void*, kMaxFrequencies> pixels;
  for (std::int64_t t = first; t < last; ++t) {
    const TilePosition at = position(t);
    for (int py = 0; py < in_; ++py) {
      const std::int64_t y = at.y - s.pad_top + py;
      for (int px = 0; px < in_; ++px) {
        const std::int64_t x = at.x - s.pad_left + px;
        const bool inside = y >= 0 && y < s.ih && x >= 0 && x < s.iw;
        pixels[static_cast<std::size_t>(py * in_ + px)] =
            inside ? element(args.x, p_.dtype, at.n * xs.n + y * xs.h + x * xs.w) : zeros;
      }
    }
    transform(pixels.data(), s.ic, v + (t - first) * ldv_, v_tiles * ldv_);
  }
}

void WinogradConv::multiply(const ConvArgs& args, const float* v, std::int64_t v_tiles,
                            std::int64_t v_first, std::int64_t first, std::int64_t last,
                            std::int64_t panel, float* m) const {
  const std::int64_t rows = last - first;
  const std::int64_t blocks = ceil_div(rows, g_.max_rows);
  const std::int64_t start = 0;
  const std::int64_t next_step = ceil_div(panel_bytes_, blocks * p_.shape.ic);
  const auto* filters =
      static_cast<const std::byte*>(args.packed) + panel * frequencies_ * panel_bytes_;
  for (std::int64_t f = 0; f < frequencies_; ++f) {
    const float* a = v + (f * v_tiles + v_first) * ldv_;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::int64_t row = rows * b / blocks;
      const auto count = static_cast<std::size_t>(rows * (b + 1) / blocks - row);
      const TileA source{a + row * ldv_,
                         ldv_,
                         &start,
                         1,
                         p_.shape.ic,
                         0,
                         filters + (f + 1) * panel_bytes_ + panel_bytes_ * b / blocks,
                         next_step};
      g_.tile[count](source, filters + f * panel_bytes_, m + (f * tiles_per_task_ + row) * g_.nr,
                     g_.nr);
    }
  }
  float* sums = m + frequencies_ * tiles_per_task_ * g_.nr;
  for (std::int64_t t = first; t < last; ++t) {
    const TilePosition at = position(t);
    if (!kernels_.output(m + (t - first) * g_.nr, tiles_per_task_ * g_.nr, g_.nr, sums)) {
      recompute_tile(args, at, panel, sums);
    }
    store_tile(args, at, panel, sums);
  }
}

void WinogradConv::store_tile(const ConvArgs& args, const TilePosition& at, std::int64_t panel,
                              float* sums) const {
  const ConvShape& s = p_.shape;
  const std::int64_t column = panel * g_.nr;
  const std::int64_t n = std::min<std::int64_t>(g_.nr, s.oc - column);
  const Output out = output_at(args, at.n, at.y, column);
  std::int64_t y_offsets[kMaxTilePixels];
  std::int64_t residual_offsets[kMaxTilePixels];
  for (int p = 0; p < out_ * out_; ++p) {
    const auto offset = [&](const RowMap& map) {
      return map.base + p / out_ * map.outer_stride + (at.x + p % out_) * map.inner_stride;
    };
    y_offsets[p] = offset(out.y_map);
    residual_offsets[p] = offset(out.residual_map);
  }
  const auto rows = static_cast<int>(std::min<std::int64_t>(out_, s.oh - at.y));
  const auto columns = static_cast<int>(std::min<std::int64_t>(out_, s.ow - at.x));
  if (columns == out_) {
    store_sums(*p_.kernels, sums, g_.nr, rows * out_, {y_offsets, residual_offsets}, 0, n, out);
    return;
  }
  for (int y = 0; y < rows; ++y) {
    const int p = y * out_;
    store_sums(*p_.kernels, sums + p * g_.nr, g_.nr, columns, {y_offsets + p, residual_offsets + p},
               0, n, out);
  }
}

// A NaN or infinity in the input reaches all of a tile through the transforms, but only the windows
// that contain it in a convolution: such a tile is summed up plainly.
void WinogradConv::recompute_tile(const ConvArgs& args, const TilePosition& at, std::int64_t panel,
                                  float* sums) const {
  const ConvShape& s = p_.shape;
  const Strides4& xs = p_.layout.x;
  const auto* w = static_cast<const std::byte*>(args.packed) + filters_bytes_;
  const std::int64_t columns = std::min<std::int64_t>(g_.nr, s.oc - panel * g_.nr);
  for (int p = 0; p < out_ * out_; ++p) {
    for (std::int64_t j = 0; j < columns; ++j) {
      float sum = 0.0f;
      for (int ky = 0; ky < 3; ++ky) {
        const std::int64_t y = at.y + p / out_ - s.pad_top + ky;
        for (int kx = 0; kx < 3; ++kx) {
          const std::int64_t x = at.x + p % out_ - s.pad_left + kx;
          if (y < 0 || y >= s.ih || x < 0 || x >= s.iw) continue;
          const std::int64_t xi = at.n * xs.n + y * xs.h + x * xs.w;
          const std::int64_t wi = (((panel * g_.nr + j) * 3 + ky) * 3 + kx) * s.ic;
          for (std::int64_t i = 0; i < s.ic; ++i) {
            sum += load_scalar(p_.dtype, args.x, xi + i * xs.c) * load_scalar(p_.dtype, w, wi + i);
          }
        }
      }
      sums[p * g_.nr + j] = sum;
    }
  }
}

}  // namespace

std::unique_ptr<const ConvPlan::Impl> make_winograd_conv(const ConvProblem& problem, int tile) {
  return std::make_unique<WinogradConv>(problem, tile);
}

}  // namespace npu::cpu
