// Random orthonormal embeddings, and the score map of one row in double.
#include "model/embedding.hpp"

#include <algorithm>
#include <cmath>

#include "base/random.hpp"
#include "kernels/scalar_math.hpp"

namespace lamina {

std::vector<double> orthonormal_columns(int64_t d, int64_t D, uint64_t seed) {
  std::vector<std::vector<double>> columns;
  for (int64_t k = 0; k < D; ++k) {
    Random random(seed, Purpose::embedding, static_cast<uint64_t>(k));
    std::vector<double> v(d);
    for (double& value : v) value = random.normal();
    for (int pass = 0; pass < 2; ++pass) {
      for (const std::vector<double>& u : columns) {
        double overlap = 0;
        for (int64_t i = 0; i < d; ++i) overlap += u[i] * v[i];
        for (int64_t i = 0; i < d; ++i) v[i] -= overlap * u[i];
      }
      double norm = 0;
      for (double value : v) norm += value * value;
      norm = std::sqrt(norm);
      for (double& value : v) value /= norm;
    }
    columns.push_back(std::move(v));
  }
  std::vector<double> B(d * D);
  for (int64_t k = 0; k < D; ++k)
    for (int64_t i = 0; i < d; ++i) B[i * D + k] = columns[k][i];
  return B;
}

void map_scores(kernels::Map map, std::vector<double>& a) {
  if (map == kernels::Map::relu)
    for (double& s : a) s = std::max(s, 0.0);
  if (map != kernels::Map::softmax) return;
  const double maximum = *std::max_element(a.begin(), a.end());
  double sum = 0;
  for (double& s : a) s = kernels::exp(s - maximum), sum += s;
  for (double& s : a) s /= sum;
}

}  // namespace lamina
