// Cholesky's factor against the matrix it is of: any rank, any rows of it, and matrices with a negative direction.
#include "base/cholesky.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/random.hpp"

namespace lamina::tests {
namespace {

struct Matrix {
  int64_t size;
  std::vector<double> entries;
  double at(int64_t i, int64_t j) const { return entries[static_cast<size_t>(i * size + j)]; }
};

// R R^T of Gaussian R [size, rank].
Matrix random_matrix(uint64_t number, int64_t size, int64_t rank) {
  Random random(number, Purpose::weights, 0);
  std::vector<double> R(static_cast<size_t>(size * rank));
  for (double& r : R) r = random.normal();
  Matrix M{size, std::vector<double>(static_cast<size_t>(size * size))};
  for (int64_t i = 0; i < size; ++i)
    for (int64_t j = 0; j < size; ++j) M.entries[i * size + j] = std::inner_product(&R[i * rank], &R[i * rank] + rank, &R[j * rank], 0.0);
  return M;
}

TEST(Cholesky, FactorsSquareToTheMatrix) {
  for (uint64_t number = 0; number < 60; ++number) {
    const int64_t size = 1 + static_cast<int64_t>(number % 9), rank = 1 + static_cast<int64_t>(number % 5);
    const Matrix M = random_matrix(number, size, rank);
    double largest = 0;
    for (int64_t i = 0; i < size; ++i) largest = std::max(largest, M.at(i, i));
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < size; ++i)
      if (number % 3 || i % 2 == 0) rows.push_back(i);
    const Cholesky made = cholesky(M.entries, size, rows, 1e-12 * largest, 1e-6 * largest);
    EXPECT_EQ(made.negative, -1) << number;
    const size_t n = rows.size();
    ASSERT_EQ(made.factor.size(), n * n);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) {
        double product = 0;
        for (size_t l = 0; l < n; ++l) product += made.factor[i * n + l] * made.factor[j * n + l];
        EXPECT_NEAR(product, M.at(rows[i], rows[j]), 1e-9 * largest) << number;
        if (j > i) {
          EXPECT_EQ(made.factor[i * n + j], 0);
        }
      }
  }
}

TEST(Cholesky, NamesARowWithANegativeDirection) {
  const std::vector<int64_t> all{0, 1, 2};
  EXPECT_EQ(cholesky(std::vector<double>{1, 0, 0, 0, -1, 0, 0, 0, 1}, 3, all, 1e-12, 1e-6).negative, 1);
  EXPECT_EQ(cholesky(std::vector<double>{1, 1, 0, 1, 1, 0.5, 0, 0.5, 1}, 3, all, 1e-12, 1e-6).negative, 2);  // 1 is 0, and 2 leans on it
  EXPECT_EQ(cholesky(std::vector<double>{1, 2, 0, 2, 1, 0, 0, 0, 1}, 3, all, 1e-12, 1e-6).negative, 1);
  const std::vector<int64_t> outer{0, 2};
  EXPECT_EQ(cholesky(std::vector<double>{1, 0, 0, 0, -1, 0, 0, 0, 1}, 3, outer, 1e-12, 1e-6).negative, -1);
  // Where no more is asked than a factor of what is positive: nothing is left over.
  const double never = std::numeric_limits<double>::infinity();
  EXPECT_EQ(cholesky(std::vector<double>{1, 1, 0, 1, 1, 0.5, 0, 0.5, 1}, 3, all, 0, never).negative, -1);
}

}  // namespace
}  // namespace lamina::tests
