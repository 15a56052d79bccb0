// Compiled once per instruction set, as instruction_set.cpp.
#include "kernels/elementary.hpp"
#include "kernels/inverse_normal.hpp"

namespace lamina::kernels::LAMINA_SET {

void normals(int64_t n, const uint64_t* words, double* x);

// The central form for all, of which the compiler makes vectors; then the tails, three in twenty, gathered without a branch, which could
// not be foretold.
void normals(int64_t n, const uint64_t* words, double* x) {
  constexpr int64_t most = 256;
  double q[most], tail[most], r[most];
  uint32_t place[most];
  for (int64_t first = 0; first < n; first += most) {
    const int64_t count = n - first < most ? n - first : most;
    double* const y = x + first;
    for (int64_t i = 0; i < count; ++i) {
      q[i] = InverseNormal::probability(words[first + i]) - 0.5;
      y[i] = InverseNormal::central(q[i]);
    }
    int64_t tails = 0;
    for (int64_t i = 0; i < count; ++i) {
      const double size = __builtin_fabs(q[i]);
      place[tails] = static_cast<uint32_t>(i), tail[tails] = 0.5 - size;  // min(p, 1 - p), exactly
      tails += size > InverseNormal::central_half;
    }
    log_row<double>(tails, tail, r);
    for (int64_t i = 0; i < tails; ++i) r[i] = __builtin_sqrt(-r[i]);
    for (int64_t i = 0; i < tails; ++i) tail[i] = InverseNormal::middle(r[i]);
    for (int64_t i = 0; i < tails; ++i) {
      if (r[i] > 5) tail[i] = InverseNormal::beyond(r[i]);
      y[place[i]] = __builtin_copysign(tail[i], q[place[i]]);
    }
  }
}

}  // namespace lamina::kernels::LAMINA_SET
