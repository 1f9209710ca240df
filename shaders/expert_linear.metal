// Linear layers of a mixture of experts: every row of x is multiplied by the weights of an expert
// of its own. Each SIMD group of a threadgroup has four rows of weights (two of each part where
// there are two), and its lanes share the common axis: element by element, or, schedule wide, 16
// bytes at a time while the next 16 bytes of each row are on their way.
#include "common.h"
#include "group_reduce.h"
#include "index.h"
#include "scalar_activation.h"
#include "typed.h"
#include "wide.h"

#define NPU_EXPERT_ROWS 4
#define NPU_EXPERT_SIMD_GROUPS 4

#if NPU_EXPERT_LINEAR_SUMS_ELEMENTS < NPU_EXPERT_ROWS * NPU_EXPERT_SIMD_GROUPS || \
    NPU_EXPERT_LINEAR_THREADGROUP_X != NPU_EXPERT_SIMD_GROUPS * NPU_SIMD_WIDTH
#error "expert_linear: the record's launch or threadgroup array is not the shader's"
#endif

struct NpuExpertSums {
  npu_f32 v[NPU_EXPERT_ROWS];
};

// Where a row of x and four rows of weights begin, in elements; how many terms a product has: none
// where the expert does not exist.
struct NpuExpertPlace {
  npu_u64 x;
  npu_u64 w[NPU_EXPERT_ROWS];
  npu_u32 terms;
};

struct NpuExpertWeights {
  NpuWide row[NPU_EXPERT_ROWS];
};

// Element by element.
template <class T>
NPU_FUNC void npu_expert_add(THREAD_REF(NpuExpertSums) sums, DEVICE_PTR(const T) x,
                             DEVICE_PTR(const npu_u8) w, CONSTANT_REF(ExpertLinearParams) p,
                             NpuExpertPlace place, npu_u32 lane) {
  for (npu_u32 k = lane; k < place.terms; k += NPU_SIMD_WIDTH) {
    const npu_f32 v = npu_widen(x[place.x + k * npu_u64(p.x_sk)]);
    NPU_UNROLL
    for (npu_u32 r = 0; r < NPU_EXPERT_ROWS; ++r) {
      sums.v[r] += v * npu_load_f32(w, p.w_dtype, place.w[r] + k * npu_u64(p.w_sk));
    }
  }
}

template <class W>
NPU_FUNC NpuExpertWeights npu_expert_weights(DEVICE_PTR(const npu_u8) w, NpuExpertPlace place,
                                             npu_u32 k) {
  NpuExpertWeights weights;
  NPU_UNROLL
  for (npu_u32 r = 0; r < NPU_EXPERT_ROWS; ++r) {
    weights.row[r] = npu_wide_zero();
    if (k < place.terms) weights.row[r] = npu_load_wide(DEVICE_CAST(const W, w), place.w[r] + k);
  }
  return weights;
}

// 16 bytes of each row of weights, of type W, at a time.
template <class T, class W>
NPU_FUNC void npu_expert_add_wide(THREAD_REF(NpuExpertSums) sums, DEVICE_PTR(const T) x,
                                  DEVICE_PTR(const npu_u8) w, NpuExpertPlace place, npu_u32 lane) {
  const npu_u32 elements = NPU_WIDE_BYTES / sizeof(W);
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  const npu_u32 loads = sizeof(T) / sizeof(W);
  const npu_u32 step = NPU_SIMD_WIDTH * elements;
  npu_u32 k = lane * elements;
  NpuExpertWeights weights = npu_expert_weights<W>(w, place, k);
  for (; k < place.terms; k += step) {
    const NpuExpertWeights next = npu_expert_weights<W>(w, place, k + step);
    NPU_UNROLL
    for (npu_u32 load = 0; load < loads; ++load) {
      const NpuWide wide = npu_load_wide(x, place.x + k + load * count);
      NPU_UNROLL
      for (npu_u32 j = 0; j < count; ++j) {
        const npu_f32 v = npu_element(wide, j, T());
        NPU_UNROLL
        for (npu_u32 r = 0; r < NPU_EXPERT_ROWS; ++r) {
          sums.v[r] += v * npu_element(weights.row[r], load * count + j, W());
        }
      }
    }
    weights = next;
  }
}

template <class T, bool WIDE>
NPU_FUNC void npu_expert_product(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_u8) expert,
                                 DEVICE_PTR(const npu_u8) w, DEVICE_PTR(const npu_f32) w_scale,
                                 DEVICE_PTR(T) y, CONSTANT_REF(ExpertLinearParams) p,
                                 THREADGROUP_PTR(npu_f32) group_sums, NpuThread self) {
  // Columns of y that four rows of weights give; a threadgroup has as many for each SIMD group.
  const npu_u32 columns = NPU_EXPERT_ROWS / p.w_p;
  const npu_u32 group_columns = columns * NPU_EXPERT_SIMD_GROUPS;
  const npu_u32 groups = (p.y_n - 1) / group_columns + 1;
  const npu_u32 row = self.group_x / groups;
  const npu_u32 t = row / p.y_c;
  const npu_u32 c = row % p.y_c;
  const npu_u32 first = self.group_x % groups * group_columns;
  const npu_u32 e = npu_index(expert, p.expert_dtype,
                              t * npu_u64(p.expert_st) + c * npu_u64(p.expert_sc), p.w_e, p.wrap);
  const bool exists = e < p.w_e;

  NpuExpertPlace place;
  NpuExpertSums sums;
  place.x = t * npu_u64(p.x_st) + c * npu_u64(p.x_sc);
  place.terms = exists ? p.x_k : 0;
  NPU_UNROLL
  for (npu_u32 r = 0; r < NPU_EXPERT_ROWS; ++r) {
    // Behind the last row the last one is read again.
    const npu_u32 column = first + self.simd * columns + r % columns;
    const npu_u32 n = column < p.y_n ? column : p.y_n - 1;
    place.w[r] = e * npu_u64(p.w_se) + r / columns * npu_u64(p.w_sp) + n * npu_u64(p.w_sn);
    sums.v[r] = 0.0f;
  }
  if (!WIDE) {
    npu_expert_add<T>(sums, x, w, p, place, self.lane);
  } else if (p.w_dtype == NPU_DTYPE_I8) {
    npu_expert_add_wide<T, npu_i8>(sums, x, w, place, self.lane);
  } else {
    npu_expert_add_wide<T, T>(sums, x, w, place, self.lane);
  }

  NPU_UNROLL
  for (npu_u32 r = 0; r < NPU_EXPERT_ROWS; ++r) {
    const npu_f32 sum = npu_simd_reduce(NPU_REDUCE_SUM, sums.v[r]);
    if (self.lane == 0) group_sums[self.simd * NPU_EXPERT_ROWS + r] = sum;
  }
  npu_barrier();
  const npu_u32 n = first + self.index;
  if (self.index >= group_columns || n >= p.y_n) return;
  npu_f32 value = 0.0f;
  npu_f32 gate = 0.0f;
  for (npu_u32 part = 0; part < p.w_p; ++part) {
    gate = value;
    value =
        group_sums[self.index / columns * NPU_EXPERT_ROWS + part * columns + self.index % columns];
    if (p.w_scale_n != 0 && exists) {
      value *= w_scale[e * npu_u64(p.w_scale_se) + part * npu_u64(p.w_scale_sp) +
                       n * npu_u64(p.w_scale_sn)];
    }
  }
  if (p.w_p == 2) value *= npu_activate(p.activation, gate);
  y[t * npu_u64(p.y_st) + c * npu_u64(p.y_sc) + n * npu_u64(p.y_sn)] = npu_narrow<T>(value);
}

#define NPU_EXPERT_LINEAR(name, wide)                                               \
  template <class T>                                                                \
  NPU_FUNC void name(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_u8) expert,        \
                     DEVICE_PTR(const npu_u8) w, DEVICE_PTR(const npu_f32) w_scale, \
                     DEVICE_PTR(T) y, CONSTANT_REF(ExpertLinearParams) p,           \
                     THREADGROUP_PTR(npu_f32) sums, NpuThread self) {               \
    npu_expert_product<T, wide>(x, expert, w, w_scale, y, p, sums, self);           \
  }
NPU_EXPERT_LINEAR(npu_expert_linear, false)
NPU_EXPERT_LINEAR(npu_expert_linear_wide, true)
#undef NPU_EXPERT_LINEAR
