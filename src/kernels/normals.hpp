// Normal numbers of random words, a function for each instruction set beside the tables of kernels.hpp: doubles whatever the precision of
// a model, and so little that it compiles by itself. The bits are the same for all sets.
#pragma once
#include <cstdint>

namespace lamina::kernels {

// Standard normal numbers, x[i] of words[i], i < n: the inverse of the distribution function at an odd multiple of 2^-53.
using NormalsOfWords = void (*)(int64_t n, const uint64_t* words, double* x);

// Of the index-th set, as at(index) of kernels.hpp; of own_set().
NormalsOfWords normals_of_words(int32_t index);
NormalsOfWords normals_of_words();

}  // namespace lamina::kernels
