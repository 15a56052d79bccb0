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

namespace lamina::kernels {

// Row lengths of grids are padded to this many elements: the number of virtual lanes.
inline constexpr int64_t lanes = 16;
inline constexpr int64_t padded(int64_t n) {
  return (n + lanes - 1) / lanes * lanes;
}

template <class T>
struct Table {
  // C[m,n] = (accumulate ? C : 0) + A[m,k] B[k,n]. A[i,l] is at a[i*a_row + l*a_col]; rows of B and C are contiguous, at
  // b + l*b_row and c + i*c_row. Any m, n, k >= 0.
  void (*gemm)(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c,
               int64_t c_row, bool accumulate);

  // y[i] = f(x[i]), i < n; y may be x.
  void (*exp)(int64_t n, const T* x, T* y);
  void (*exp2)(int64_t n, const T* x, T* y);  // x < 128 (f32), 1024 (f64), or NaN
  void (*log)(int64_t n, const T* x, T* y);
  void (*log1p)(int64_t n, const T* x, T* y);
  void (*expm1)(int64_t n, const T* x, T* y);
  // sum16 of x[0..n-1].
  T (*sum)(int64_t n, const T* x);

  // Cross-entropy of one row of logits x[n]: loss = lse(x) - x[label]; r = softmax(x) - unit(label), where r[label] is minus
  // the sum of the other probabilities (never 1 - p). With M = max x, E_j = exp(x_j - M), O = sum16 of E_j, j != label: loss =
  // log1p(O) if x[label] = M, else log(E_label + O) + M - x[label]. r may be NULL.
  T (*cross_entropy)(int64_t n, const T* x, int64_t label, T* r);

  // Attention of one query over a prompt in token space. The prompt is a grid of counts: n[i,j] positions have previous token i
  // and current token j (local numbers), i < rows, j < stride, stride a multiple of `lanes`, columns past the tokens have count
  // 0. Score of a position S[i,j] = u[j] + v[i].  A[i,j] = n[i,j] map(S[i,j]), for softmax divided by the sum over the grid
  // (maximum over n > 0 subtracted). Outputs: A [rows, stride] and its marginals
  //   c_current[j] = sum_i A[i,j] (i ascending),  c_previous[i] = sum16_j A[i,j].
  void (*pair_forward)(Map map, int64_t rows, int64_t stride, const uint16_t* n, const T* u, const T* v, T* a, T* c_current,
                       T* c_previous);
  // Given dA through the marginals, dA[i,j] = d_current[j] + d_previous[i], the cotangents of u and v:
  //   linear dS = n dA;  relu dS = n 1{S >= 0} dA (relu'(0) = 1);  softmax dS = A (dA - sum_ij A dA);
  //   g_current[j] = sum_i dS[i,j],  g_previous[i] = sum16_j dS[i,j].
  void (*pair_backward)(Map map, int64_t rows, int64_t stride, const uint16_t* n, const T* u, const T* v, const T* a,
                        const T* d_current, const T* d_previous, T* g_current, T* g_previous);

  // Steps of attention on tiles of scores.
  AttentionTable<T> attention;
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
