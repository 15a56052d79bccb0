// Row by row, each entry from those above and to the left of it.
#include "base/cholesky.hpp"

#include <cmath>

namespace lamina {

Cholesky cholesky(std::span<const double> M, int64_t size, std::span<const int64_t> rows, double rounding, double leftover) {
  const size_t n = rows.size();
  Cholesky made{std::vector<double>(n * n), -1};
  std::vector<double>& L = made.factor;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j <= i; ++j) {
      double rest = M[static_cast<size_t>(rows[i] * size + rows[j])];
      for (size_t l = 0; l < j; ++l) rest -= L[i * n + l] * L[j * n + l];
      const double pivot = L[j * n + j];
      const bool negative = i == j ? rest < -rounding : pivot == 0 && std::abs(rest) > leftover;
      if (negative && made.negative < 0) made.negative = rows[i];
      L[i * n + j] = i == j ? (rest > rounding ? std::sqrt(rest) : 0) : pivot > 0 ? rest / pivot : 0;
    }
  return made;
}

}  // namespace lamina
