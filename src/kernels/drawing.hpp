// What the drawing of data costs most, a table of functions for each instruction set beside those of kernels.hpp: words and doubles
// whatever the precision of a model, and so little that it compiles by itself. The bits are the same for all sets.
#pragma once
#include <cstdint>

namespace lamina::kernels {

// Where lanes are spoken of, 8 streams of words stand beside each other, words [., lanes], and half h of a stream is its word h / 2, the
// lower 32 bits first.
inline constexpr int64_t drawing_lanes = 8;

// By half `half`, a count at row `lower` of counts [., lanes] is halved between that row and row `upper`. laws: of counts n = 0, 1, ..,
// each 2^bits columns of an alias table (task/multinomial.hpp), of which n uses the fewest that are a power of two and hold n + 1 outcomes.
struct Halving {
  int64_t half, lower, upper;
  const uint32_t* laws;
};

struct Drawing {
  // Standard normal numbers, x[i] of words[i], i < n: the inverse of the distribution function at an odd multiple of 2^-53.
  void (*normals)(int64_t n, const uint64_t* words, double* x);
  // x [n, lanes] of the halves first .. first + n - 1: what `normals` makes of a word whose upper bits are the half, and of 2^31 below.
  void (*normals_of_halves)(int64_t n, const uint64_t* words, int64_t first, double* x);
  // One halving after the other, halves counted from the first-th on.
  void (*halve)(int64_t n, const Halving* halvings, int bits, const uint64_t* words, int64_t first, int32_t* counts);
};

// Of the index-th set, as at(index) of kernels.hpp; of own_set().
const Drawing& drawing(int32_t index);
const Drawing& drawing();

}  // namespace lamina::kernels
