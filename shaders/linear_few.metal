// Linear layers of few rows, schedules of kernel linear: all that counts is how fast the weights
// come. A SIMD group takes four rows of weights at a time (two of each part where there are two),
// 16 bytes of a row in each lane, and multiplies them by up to four rows of x; the next 16 bytes
// are on their way meanwhile.
//
// SPLIT SIMD groups share four rows of weights, each taking every SPLIT-th piece of the common
// axis: small layers need that to fill a GPU.
#include "common.h"
#include "group_reduce.h"
#include "linear.h"
#include "wide.h"

#define NPU_FEW_ROWS 4
#define NPU_FEW_SIMD_GROUPS 4

struct NpuFewWeights {
  NpuWide row[NPU_FEW_ROWS];
};

// Where a SIMD group's four rows of weights begin, in elements.
struct NpuFewPlace {
  npu_u64 row[NPU_FEW_ROWS];
};

template <class W>
NPU_FUNC NpuFewWeights npu_few_weights(DEVICE_PTR(const npu_u8) w, NpuFewPlace place, npu_u32 k,
                                       npu_u32 end) {
  NpuFewWeights weights;
  NPU_UNROLL
  for (npu_u32 r = 0; r < NPU_FEW_ROWS; ++r) {
    weights.row[r] = npu_wide_zero();
    if (k < end) weights.row[r] = npu_load_wide(DEVICE_CAST(const W, w), place.row[r] + k);
  }
  return weights;
}

// Elements of x that meet 16 bytes of each row of weights: COUNT pieces of M rows.
template <npu_u32 M, npu_u32 COUNT>
struct NpuFewInputs {
  NpuWide v[M][COUNT];
};

// From `k` on; zero without `wanted`.
template <class T, class Inputs, npu_u32 M, npu_u32 COUNT>
NPU_FUNC Inputs npu_few_inputs(DEVICE_PTR(const T) x, CONSTANT_REF(LinearParams) p,
                               npu_u32 first_row, npu_u32 k, bool wanted) {
  Inputs inputs;
  NPU_UNROLL
  for (npu_u32 m = 0; m < M; ++m) {
    NPU_UNROLL
    for (npu_u32 c = 0; c < COUNT; ++c) {
      const npu_u32 at = k + c * npu_u32(NPU_WIDE_BYTES / sizeof(T));
      inputs.v[m][c] = npu_wide_zero();
      if (wanted && first_row + m < p.x_m && k < p.x_k) {
        inputs.v[m][c] = npu_load_wide(x, (first_row + m) * npu_u64(p.x_sm) + at);
      }
    }
  }
  return inputs;
}

template <npu_u32 M>
struct NpuFewSums {
  npu_f32 v[M][NPU_FEW_ROWS];
};

// The norm's factors of `count` elements of x from `k` on.
template <npu_u32 COUNT>
struct NpuFewFactors {
  npu_f32 v[COUNT];
};
template <npu_u32 COUNT>
NPU_FUNC void npu_few_factors(THREAD_REF(NpuFewFactors<COUNT>) factors,
                              DEVICE_PTR(const npu_f32) scale, CONSTANT_REF(LinearParams) p,
                              npu_u32 k) {
  NPU_UNROLL
  for (npu_u32 j = 0; j < COUNT; j += 4) {
    NpuWide wide = npu_wide_zero();
    if (p.scale_k != 0) wide = npu_load_wide(scale, k + j);
    NPU_UNROLL
    for (npu_u32 i = 0; i < 4; ++i) {
      factors.v[j + i] = p.scale_k != 0 ? npu_as_f32(wide.v[i]) : 1.0f;
    }
  }
}

// sums += x[:, k...] * weights, as many elements as 16 bytes of weights hold; x is in `inputs`
// already if it came AHEAD.
template <class T, class W, npu_u32 M, bool AHEAD, class Inputs>
NPU_FUNC void npu_few_multiply(THREAD_REF(NpuFewSums<M>) sums, NpuFewWeights weights,
                               THREAD_REF(const Inputs) inputs, DEVICE_PTR(const T) x,
                               DEVICE_PTR(const npu_f32) scale, CONSTANT_REF(LinearParams) p,
                               npu_u32 first_row, npu_u32 k,
                               THREAD_REF(const NpuFewSums<M>) row_scale) {
  const npu_u32 loads = sizeof(T) / sizeof(W);
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  NPU_UNROLL
  for (npu_u32 load = 0; load < loads; ++load) {
    const npu_u32 at = k + load * count;
    NpuFewFactors<NPU_WIDE_BYTES / sizeof(T)> factors;
    npu_few_factors(factors, scale, p, at);
    NPU_UNROLL
    for (npu_u32 m = 0; m < M; ++m) {
      NpuWide wide = inputs.v[m][load];
      if (!AHEAD) {
        if (first_row + m >= p.x_m) continue;
        wide = npu_load_wide(x, (first_row + m) * npu_u64(p.x_sm) + at);
      }
      NPU_UNROLL
      for (npu_u32 j = 0; j < count; ++j) {
        npu_f32 v = npu_element(wide, j, T());
        if (p.norm == NPU_LINEAR_NORM_RMS) {
          v = npu_linear_rounded<T>(v * row_scale.v[m][0] * factors.v[j]);
        }
        NPU_UNROLL
        for (npu_u32 r = 0; r < NPU_FEW_ROWS; ++r) {
          sums.v[m][r] += v * npu_element(weights.row[r], load * count + j, W());
        }
      }
    }
  }
}

// Row scales of x in row_scale.v[m][0]; all threads of the threadgroup take part.
template <class T, npu_u32 M>
NPU_FUNC void npu_few_row_scales(THREAD_REF(NpuFewSums<M>) row_scale, DEVICE_PTR(const T) x,
                                 CONSTANT_REF(LinearParams) p, npu_u32 first_row,
                                 THREADGROUP_PTR(npu_f32) partial, NpuThread self) {
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  NPU_UNROLL
  for (npu_u32 m = 0; m < M; ++m) {
    npu_f32 squares = 0.0f;
    if (first_row + m < p.x_m && p.norm == NPU_LINEAR_NORM_RMS) {
      for (npu_u32 k = self.index * count; k < p.x_k;
           k += NPU_FEW_SIMD_GROUPS * NPU_SIMD_WIDTH * count) {
        const NpuWide wide = npu_load_wide(x, (first_row + m) * npu_u64(p.x_sm) + k);
        NPU_UNROLL
        for (npu_u32 j = 0; j < count; ++j) {
          const npu_f32 v = npu_element(wide, j, T());
          squares += v * v;
        }
      }
    }
    squares = npu_simd_reduce(NPU_REDUCE_SUM, squares);
    if (self.lane == 0) partial[m * NPU_FEW_SIMD_GROUPS + self.simd] = squares;
  }
  npu_barrier();
  NPU_UNROLL
  for (npu_u32 m = 0; m < M; ++m) {
    npu_f32 squares = 0.0f;
    for (npu_u32 s = 0; s < NPU_FEW_SIMD_GROUPS; ++s) {
      squares += partial[m * NPU_FEW_SIMD_GROUPS + s];
    }
    row_scale.v[m][0] = npu_linear_row_scale(squares, p);
  }
  npu_barrier();
}

template <class T, class W, npu_u32 M, npu_u32 SPLIT>
NPU_FUNC void npu_few_sums(THREAD_REF(NpuFewSums<M>) sums, DEVICE_PTR(const T) x,
                           DEVICE_PTR(const npu_f32) scale, DEVICE_PTR(const npu_u8) w,
                           CONSTANT_REF(LinearParams) p, npu_u32 first_row, NpuFewPlace place,
                           THREADGROUP_PTR(npu_f32) partial, NpuThread self) {
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(W);
  const npu_u32 step = SPLIT * NPU_SIMD_WIDTH * count;
  npu_u32 k = self.index % (SPLIT * NPU_SIMD_WIDTH) * count;
  // The first weights come while the norm is computed.
  NpuFewWeights weights = npu_few_weights<W>(w, place, k, p.x_k);
  // x comes ahead, too, where few threads are there to wait for it; elsewhere the registers for
  // that would cost more.
  const bool ahead = SPLIT > 1;
  const npu_u32 loads = sizeof(T) / sizeof(W);
  typedef NpuFewInputs<M, loads> Inputs;
  Inputs inputs = npu_few_inputs<T, Inputs, M, loads>(x, p, first_row, k, ahead);
  NpuFewSums<M> row_scale;
  npu_few_row_scales<T, M>(row_scale, x, p, first_row, partial, self);
  for (; k < p.x_k; k += step) {
    const NpuFewWeights next = npu_few_weights<W>(w, place, k + step, p.x_k);
    const Inputs next_inputs =
        npu_few_inputs<T, Inputs, M, loads>(x, p, first_row, k + step, ahead);
    npu_few_multiply<T, W, M, ahead>(sums, weights, inputs, x, scale, p, first_row, k, row_scale);
    weights = next;
    inputs = next_inputs;
  }
}

template <class T, npu_u32 M, npu_u32 SPLIT>
NPU_FUNC void npu_linear_few(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_f32) scale,
                             DEVICE_PTR(const npu_u8) w, DEVICE_PTR(const npu_f32) w_scale,
                             DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                             DEVICE_PTR(T) y, CONSTANT_REF(LinearParams) p,
                             THREADGROUP_PTR(npu_f32) partial, NpuThread self) {
  // Columns of y that four rows of weights give.
  const npu_u32 columns = NPU_FEW_ROWS / p.w_p;
  const npu_u32 teams = NPU_FEW_SIMD_GROUPS / SPLIT;
  const npu_u32 first = (self.group_y * teams + self.simd / SPLIT) * columns;
  // Threadgroups of the same weights are neighbours, so that they are read from memory once.
  const npu_u32 first_row = self.group_x * M;
  NpuFewPlace place;
  NPU_UNROLL
  for (npu_u32 r = 0; r < NPU_FEW_ROWS; ++r) {
    // Behind the last row the last one is read again.
    const npu_u32 n = first + r % columns < p.y_n ? first + r % columns : p.y_n - 1;
    place.row[r] = r / columns * npu_u64(p.w_sp) + n * npu_u64(p.w_sn);
  }

  NpuFewSums<M> sums;
  NPU_UNROLL
  for (npu_u32 m = 0; m < M; ++m) {
    NPU_UNROLL
    for (npu_u32 r = 0; r < NPU_FEW_ROWS; ++r) sums.v[m][r] = 0.0f;
  }
  if (p.w_dtype == NPU_DTYPE_I8) {
    npu_few_sums<T, npu_i8, M, SPLIT>(sums, x, scale, w, p, first_row, place, partial, self);
  } else {
    npu_few_sums<T, T, M, SPLIT>(sums, x, scale, w, p, first_row, place, partial, self);
  }

  NPU_UNROLL
  for (npu_u32 m = 0; m < M; ++m) {
    NPU_UNROLL
    for (npu_u32 r = 0; r < NPU_FEW_ROWS; ++r) {
      const npu_f32 sum = npu_simd_reduce(NPU_REDUCE_SUM, sums.v[m][r]);
      if (self.lane == 0) partial[(self.simd * M + m) * NPU_FEW_ROWS + r] = sum;
    }
  }
  npu_barrier();
  for (npu_u32 element = self.index; element < teams * M * columns;
       element += NPU_FEW_SIMD_GROUPS * NPU_SIMD_WIDTH) {
    const npu_u32 team = element / (M * columns);
    const npu_u32 m = element / columns % M;
    const npu_u32 column = element % columns;
    const npu_u32 n = (self.group_y * teams + team) * columns + column;
    if (first_row + m >= p.y_m || n >= p.y_n) continue;
    npu_f32 value = 0.0f;
    npu_f32 gate = 0.0f;
    for (npu_u32 part = 0; part < p.w_p; ++part) {
      npu_f32 sum = 0.0f;
      for (npu_u32 s = 0; s < SPLIT; ++s) {
        const npu_u32 simd = team * SPLIT + s;
        sum += partial[(simd * M + m) * NPU_FEW_ROWS + part * columns + column];
      }
      gate = value;
      value = npu_linear_scaled(sum, w_scale, bias, p, part, n);
    }
    npu_linear_store<T>(value, gate, residual, y, p, first_row + m, n);
  }
}

// The schedules: rows of x that a threadgroup takes at most, and by how many SIMD groups a row of
// weights is shared.
#define NPU_LINEAR_FEW(name, rows, split)                                                      \
  template <class T>                                                                           \
  NPU_FUNC void name(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_f32) scale,                   \
                     DEVICE_PTR(const npu_u8) w, DEVICE_PTR(const npu_f32) w_scale,            \
                     DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,             \
                     DEVICE_PTR(T) y, CONSTANT_REF(LinearParams) p,                            \
                     THREADGROUP_PTR(npu_f32) partial, NpuThread self) {                       \
    npu_linear_few<T, rows, split>(x, scale, w, w_scale, bias, residual, y, p, partial, self); \
  }
NPU_LINEAR_FEW(npu_linear_row, 1, 1)
NPU_LINEAR_FEW(npu_linear_row_split, 1, 4)
NPU_LINEAR_FEW(npu_linear_rows, 4, 1)
NPU_LINEAR_FEW(npu_linear_rows_split, 4, 4)
#undef NPU_LINEAR_FEW
