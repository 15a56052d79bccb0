// Random orthonormal embeddings, and the score map of one row in double.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/kernels.hpp"

namespace lamina {

// B [d,D], D <= d: the orthonormal columns of a Gaussian matrix (Gram-Schmidt, twice for orthogonality to rounding).
std::vector<double> orthonormal_columns(int64_t d, int64_t D, uint64_t seed);

// a = map(a) in place: softmax, identity, max(., 0).
void map_scores(kernels::Map map, std::vector<double>& a);

}  // namespace lamina
