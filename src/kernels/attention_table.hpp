// The kernels that attention needs beyond matrix products: steps on a tile of scores, with the formula and the order of
// summation of each. A tile is stored key by key: element (j, i), of key j and query i, stands at j*stride + i; every row of
// `stride` elements (a multiple of `lanes`) is processed whole, so columns past the queries hold any numbers and are not read.
// visible[j*stride + i] is 1 where query i sees key j, else 0; nullptr: all visible. An element that is not visible holds
// whatever the product left there; no step lets it (a NaN, say) into a visible result.
#pragma once
#include <cstdint>

namespace lamina::kernels {

enum class Map : int32_t { softmax = 1, linear = 2, relu = 3 };  // as LAMINA_SOFTMAX, ...

// Numbers of one query each, [stride]; nullptr where a step does without.
template <class T>
struct AttentionTable {
  // y[f*stride + i] = factor x[i*x_row + f*x_col] for i < rows, 0 for rows <= i < stride; f < cols.
  void (*transpose)(int64_t rows, int64_t cols, T factor, const T* x, int64_t x_row, int64_t x_col, T* y, int64_t stride);
  // Whether x[i*x_row + f], i < rows, f < cols, are all finite.
  bool (*finite)(int64_t rows, int64_t cols, const T* x, int64_t x_row);

  // s = fma(bias, unit, s) (bias nullptr: s), -inf where not visible; m[i] = max(m[i], s[j,i] over j), a NaN ignored.
  void (*score)(int64_t keys, int64_t stride, const T* bias, T unit, const uint16_t* visible, T* s, T* m);
  // p = exp2(s - m), with m = -inf read as 0;  sum[i] += sum4_j p[j,i], key j in lane j mod 4, (0 + 2) + (1 + 3). p takes the
  // place of s.
  void (*softmax)(int64_t keys, int64_t stride, const T* m, T* s, T* sum);
  // p = w(s), w(s) = s (linear) or s < 0 ? 0 : s (relu), 0 where not visible;  sum[i] += sum4_j p[j,i]. p may be s; either may
  // be nullptr.
  void (*map)(Map map, int64_t keys, int64_t stride, const uint16_t* visible, const T* s, T* p, T* sum);
  // For a maximum that has grown from m_old to m: factor = exp2(m_old - m) (m = -inf read as 0), sum *= factor.
  void (*rescale)(int64_t stride, const T* m_old, const T* m, T* factor, T* sum);
  // y[i,f] = fma(y[i,f], factor[i], x[i,f]) (factor nullptr: y + x), i < rows, f < cols; rows contiguous.
  void (*scale_add)(int64_t rows, int64_t cols, const T* factor, const T* x, int64_t x_row, T* y, int64_t y_row);
  // y[i,f] = inverse ? x[i,f] n[i] : x[i,f] / n[i].
  void (*divide)(int64_t rows, int64_t cols, bool inverse, const T* n, const T* x, int64_t x_row, T* y, int64_t y_row);

  // sum[i] += sum4_j w(s[j,i]) g[j,i] over visible elements, fma in each lane; w(s) = s but for relu.
  void (*dot)(Map map, int64_t keys, int64_t stride, const uint16_t* visible, const T* s, const T* g, T* sum);
  // p = p inverse;  g = p (g - shift);  both 0 where not visible. (softmax: p is exp2(s - m) before, P after; g is G, then dS)
  void (*softmax_gradient)(int64_t keys, int64_t stride, const uint16_t* visible, const T* inverse, const T* shift, T* p, T* g);
  // s = w(s) / divisor;  g = w'(s) (g - shift) / divisor;  both 0 where not visible, and for relu where divisor = 0.
  // w'(0) = at_zero for relu. divisor, shift nullptr: 1, 0.
  void (*map_gradient)(Map map, int64_t keys, int64_t stride, const uint16_t* visible, T at_zero, const T* divisor,
                       const T* shift, T* s, T* g);
};

}  // namespace lamina::kernels
