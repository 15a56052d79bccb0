// Cholesky's factorisation of a symmetric matrix that may lack directions.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace lamina {

struct Cholesky {
  std::vector<double> factor;  // lower triangle L [n,n] by rows, n = rows.size(): L L^T is M at the given rows and columns
  int64_t negative = -1;       // the first of them, by number in M, that has a negative direction; -1: none has
};

// Of M [size,size]. A pivot up to `rounding` counts as 0, and so is its column of L; below -rounding it is a negative direction, as is more
// than `leftover` beside a pivot of 0.
Cholesky cholesky(std::span<const double> M, int64_t size, std::span<const int64_t> rows, double rounding, double leftover);

}  // namespace lamina
