// The kernels of attention: three products between tiles of scores and rows of features, and steps on the scores of one panel;
// formula and order of summation of each. A tile is cut into panels of 16 queries (`lanes`): in a panel, key j and query i
// stand at j*16 + i, so that a query is one lane of every vector, and panels are a given distance apart. Panels are processed
// whole: queries past the last hold any numbers and are not read. visible[j*16 + i] is 1 where query i sees key j, else 0;
// nullptr: all visible.
#pragma once
#include <cstdint>

namespace lamina::kernels {

enum class Map : int32_t { softmax = 1, linear = 2, relu = 3 };          // as LAMINA_SOFTMAX, ...
enum class Normaliser : int32_t { none = 1, visible = 2, row_sum = 3 };  // as LAMINA_NORMALISE_*

enum class Seen : int32_t { none, some, all };  // of the pairs of a query and a key

// How small and how large the numbers of an array are: a number |x| between `least` and `largest` wherever x is not 0. Of zeros
// infinity and 0; where a number is not finite, `largest` is not.
template <class T>
struct Magnitudes {
  T least, largest;
};

// m, sum, factor ...: one number per query, of a panel [16] or of all; nullptr where a step does without.
template <class T>
struct AttentionTable {
  // c[j,i] = sum_f a[j,f] b[f,i], f < depth ascending, and m[i] = max(m[i], c[j,i] over j), a NaN ignored. a[j,f] at
  // a + j*a_row + f*a_col; b and c in panels of 16 i, rows of b and c 16 apart.
  void (*keys_by_queries)(int64_t keys, int64_t panels, int64_t depth, const T* a, int64_t a_row, int64_t a_col, const T* b,
                          int64_t b_panel, T* c, int64_t c_panel, T* m);
  // c[i,f] = x = (go_on ? c[i,f] : 0) + sum_j a[j*16 + i] b[j,f], j < keys ascending, of at most 16 queries; with factor (and
  // not go_on) fma(c[i,f], factor[i], x).
  void (*queries_by_features)(int64_t queries, int64_t cols, int64_t keys, const T* a, const T* b, int64_t b_row, T* c,
                              int64_t c_row, bool go_on, const T* factor);
  // c[j,f] += sum_i a[j,i] b[i,f], i < queries ascending; a in panels.
  void (*keys_by_features)(int64_t keys, int64_t cols, int64_t queries, const T* a, int64_t a_panel, const T* b, int64_t b_row,
                           T* c, int64_t c_row);

  // y[f*16 + i] = factor x[i*x_row + f*x_col] for i < rows <= 16, 0 for rows <= i < 16; f < cols.
  void (*transpose)(int64_t rows, int64_t cols, T factor, const T* x, int64_t x_row, int64_t x_col, T* y);
  // Whether x[i*x_row + f], i < rows, f < cols, are all finite.
  bool (*finite)(int64_t rows, int64_t cols, const T* x, int64_t x_row);
  // Their magnitudes: `least` exactly, `largest` at most one unit in the last place above.
  Magnitudes<T> (*magnitudes)(int64_t rows, int64_t cols, const T* x, int64_t x_row);

  // What i < rows <= 16 queries see of j < keys by mask[i*mask_row + j*mask_col] != 0 and a bias that is not -inf, each where it
  // is given (not nullptr). Seen::some: visible is written, 0 for i >= rows; else it is left.
  Seen (*visible)(int64_t rows, int64_t keys, const uint8_t* mask, int64_t mask_row, int64_t mask_col, const T* bias,
                  int64_t bias_row, int64_t bias_col, uint8_t* visible);
  // s = s + bias[i*bias_row + j*bias_col] of i < rows <= 16 queries (nullptr: s), `hidden` where not visible; m[i] = max(m[i],
  // s[j,i] over j), a NaN ignored.
  void (*score)(int64_t rows, int64_t keys, const T* bias, int64_t bias_row, int64_t bias_col, const uint8_t* visible, T hidden,
                T* s, T* m);
  // p = E(s - m), E = exp (natural) or exp2, with m = -inf read as 0, in place of s;  sum[i] += sum4_j p[j,i], key j in lane
  // j mod 4, (0 + 2) + (1 + 3). With g: d[i] += sum4_j p[j,i] g[j,i], by fma in each lane.
  void (*softmax)(bool natural, int64_t keys, const T* m, T* s, T* sum, const T* g, T* d);
  // p = w(s), w(s) = s (linear) or s < 0 ? 0 : s (relu);  sum[i] += sum4_j p[j,i], d[i] += sum4_j p[j,i] g[j,i]. p may be s,
  // and nullptr where there is a sum.
  void (*map)(Map map, int64_t keys, const T* s, T* p, T* sum, const T* g, T* d);
  // For a maximum that has grown from m_old to m: factor = E(m_old - m) (m = -inf read as 0), sum *= factor. i < queries, a
  // multiple of 16.
  void (*rescale)(bool natural, int64_t queries, const T* m_old, const T* m, T* factor, T* sum);
  // y[i,f] = fma(y[i,f], factor[i], x[i,f]) (factor nullptr: y + x), i < rows, f < cols; rows contiguous.
  void (*scale_add)(int64_t rows, int64_t cols, const T* factor, const T* x, int64_t x_row, T* y, int64_t y_row);
  // y[i,f] = inverse ? x[i,f] n[i] : x[i,f] / n[i].
  void (*divide)(int64_t rows, int64_t cols, bool inverse, const T* n, const T* x, int64_t x_row, T* y, int64_t y_row);

  // The same products and sums of a few rows, one query each, whose numbers follow each other. Rows of scores have room for keys
  // rounded up to a multiple of 16, and 16 more.
  // s[r,j] = sum_f q[r,f] k[j,f], f < depth ascending; past the last key any numbers.
  void (*rows_by_keys)(int64_t rows, int64_t keys, int64_t depth, const T* q, int64_t q_row, const T* k, int64_t k_row, T* s,
                       int64_t s_row);
  // c[r,f] = sum_j p[r,j] b[j,f], j < keys ascending.
  void (*rows_by_features)(int64_t rows, int64_t cols, int64_t keys, const T* p, int64_t p_row, const T* b, int64_t b_row, T* c,
                           int64_t c_row);
  // sum += sum4_j p[j], with g: d += sum4_j p[j] g[j], as softmax does; p and g are 0 from the last key to a multiple of 4.
  void (*row_sums)(int64_t keys, const T* p, const T* g, T* sum, T* d);

  // p = p inverse;  g = p (g - shift);  both 0 where not visible. (softmax: p is exp2(s - m) before, P after; g is G, then dS)
  void (*softmax_gradient)(int64_t keys, const uint8_t* visible, const T* inverse, const T* shift, T* p, T* g);
  // s = w(s) / divisor;  g = w'(s) (g - shift) / divisor;  both 0 where not visible, and for relu where divisor = 0.
  // w'(0) = at_zero for relu. divisor, shift nullptr: 1, 0.
  void (*map_gradient)(Map map, int64_t keys, const uint8_t* visible, T at_zero, const T* divisor, const T* shift, T* s, T* g);
};

}  // namespace lamina::kernels
