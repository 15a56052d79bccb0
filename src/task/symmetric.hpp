// The eigenvalues and eigenvectors of a small symmetric matrix.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace lamina {

// matrix = basis diag(values) basis^T; values fall; the columns of basis [n,n] are the eigenvectors.
struct Eigensystem {
  std::vector<double> values, basis;
};

// By Jacobi's rotations, whose errors are a few roundings of the largest entry. matrix [n,n] is symmetric and finite.
Eigensystem eigensystem(std::span<const double> matrix, int64_t n);

}  // namespace lamina
