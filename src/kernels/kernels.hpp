// The table of kernels: what every instruction set provides, with the formula and the order of summation of each. One source
// (kernels_simd.hpp) is compiled once per instruction set; the bits are the same for all of them, because
//   - a matrix product is, for each element of C, one chain of fused multiply-adds over k ascending;
//   - a sum over a row goes into 16 virtual lanes (element i into lane i mod 16), then a fixed tree (sum16);
//   - exp, exp2, log, log1p, expm1 are lamina's own, made of +, *, fma and bit operations, and flush results below the smallest
//     normal number to 0.
// Kernels know nothing else: no allocation, no threads, no containers of the standard library, no exceptions.
#pragma once
#include <cstdint>

#include "kernels/attention_table.hpp"
#include "kernels/short_table.hpp"

namespace lamina::kernels {

// The virtual lanes of a sum; rows of tiles are padded to as many elements.
inline constexpr int64_t lanes = 16;
inline constexpr int64_t padded(int64_t n) {
  return (n + lanes - 1) / lanes * lanes;
}

// The counts of 16 prompts.
struct PairGrid {
  int64_t tokens;              // L
  const uint8_t* n;            // [L+1, L, 16]
  const uint16_t* n_current;   // [L, 16]
  const uint16_t* n_previous;  // [L, 16]
};

template <class T>
struct Table {
  // C[m,n] = (accumulate ? C : 0) + A[m,k] B[k,n]. A[i,l] is at a[i*a_row + l*a_col]; rows of B and C are contiguous, at
  // b + l*b_row and c + i*c_row. Any m, n, k >= 0.
  void (*gemm)(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c,
               int64_t c_row, bool accumulate);

  // y[i] = f(x[i]), i < n; y may be x.
  void (*exp)(int64_t n, const T* x, T* y);
  void (*exp2)(int64_t n, const T* x, T* y);  // x <= 127 (f32), 1023 (f64), or NaN
  void (*log)(int64_t n, const T* x, T* y);
  void (*log1p)(int64_t n, const T* x, T* y);
  void (*expm1)(int64_t n, const T* x, T* y);
  // sum16 of x[0..n-1].
  T (*sum)(int64_t n, const T* x);

  // Cross-entropy of one row of logits x[n]: loss = lse(x) - x[label]; r = softmax(x) - unit(label), where r[label] is minus
  // the sum of the other probabilities (never 1 - p). With M = max x, E_j = exp(x_j - M), O = sum16 of E_j, j != label: loss =
  // log1p(O) if x[label] = M, else log(E_label + O) + M - x[label]. r may be NULL.
  T (*cross_entropy)(int64_t n, const T* x, int64_t label, T* r);

  // ---- 16 prompts at once, one in each virtual lane: arrays [n, 16] hold element i of all of them in row i ----

  // x[i, first..first+count-1] = value[i], i < n.
  void (*spread)(int64_t n, const T* value, int64_t first, int64_t count, T* x);
  // sum[i] = sum16 of x[i, first..first+count-1], i < n.
  void (*collect)(int64_t n, const T* x, int64_t first, int64_t count, T* sum);

  // Attention of one query a prompt, in token space. A prompt is a grid of counts n[i,j]: so many positions have previous token
  // i and current token j, local numbers below L; row L is of positions without a previous token. Their sums: n_current[j] =
  // sum_i n[i,j] with row L, n_previous[i] = sum_j n[i,j]. Score S[i,j] = u[j] + v[i], of row L u[j]. A[i,j] = n[i,j]
  // map(S[i,j]), for softmax divided by the sum over the grid (maximum over n > 0 subtracted). Results are its marginals
  // c_current[j] = sum_i A[i,j], c_previous[i] = sum_j A[i,j], i < L:
  //   linear   n_current u + one chain of fma over n[i,j] v[i], i < L ascending; n_previous v + the same of n[i,j] u[j]; no A,
  //            and u, v finite, for a token that no position has is multiplied by 0;
  //   others   sums over i and over j ascending; A [L+1, L, 16] is stored.
  // c_previous may be NULL for linear.
  void (*pair_forward)(Map map, const PairGrid& grid, const T* u, const T* v, T* a, T* c_current, T* c_previous);
  // Given dA through the marginals, dA[i,j] = d_current[j] + d_previous[i] (row L: d_current[j]; d_previous NULL: 0), the
  // cotangents of u and v:
  //   linear dS = n dA;  relu dS = n 1{S >= 0} dA (relu'(0) = 1);  softmax dS = A (dA - sum_ij A dA);
  //   g_current[j] = sum_i dS[i,j],  g_previous[i] = sum_j dS[i,j], in the order of pair_forward.
  void (*pair_backward)(Map map, const PairGrid& grid, const T* u, const T* v, const T* a, const T* d_current,
                        const T* d_previous, T* g_current, T* g_previous);

  // Cross-entropies of logits x [n, 16], to which `absent` further logits 0 belong: loss[l] as in cross_entropy with O summed
  // over j ascending in 4 chains (j mod 4; then 0 + 1, 2 + 3), then absent exp(-M); r = weight[l] (softmax(x) - unit(label[l])).
  // Labels are row numbers. r may be x.
  void (*cross_entropies)(int64_t n, const T* x, const T* label, T absent, const T* weight, T* loss, T* r);

  // Steps of attention on tiles of scores; attention on many short sequences.
  AttentionTable<T> attention;
  ShortTable<T> short_attention;
};

struct InstructionSet {
  const char* name;
  bool (*supported)();
  const Table<float>* f32;
  const Table<double>* f64;
  template <class T>
  const Table<T>& table() const {
    if constexpr (sizeof(T) == 4)
      return *f32;
    else
      return *f64;
  }
};

// The sets of this build that this CPU can run, fastest first; the last is "reference". At least 1.
int32_t count();
const InstructionSet* at(int32_t index);

// The set to run: `name` if not null or empty, else the environment's LAMINA_ISA (read once), else the fastest. nullptr if the
// name is unknown or the CPU cannot run it: never a fallback.
const InstructionSet* select(const char* name);

}  // namespace lamina::kernels
