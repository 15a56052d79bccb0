// C = A B (+ C) against a sum in long double, with a bound proportional to sum |a b|, and bit for bit across sets.
#include "kernels_test.hpp"

namespace lamina::kernels {
namespace {

class Gemm : public KernelTest {
 protected:
  // One product with rows of B and C that are `gap` longer than n; A stored as A or as A^T.
  template <class T>
  void check(int64_t m, int64_t n, int64_t k, bool transposed, bool accumulate, int64_t gap = 3, int64_t offset = 0) {
    SCOPED_TRACE(::testing::Message() << "m " << m << " n " << n << " k " << k << " A^T " << transposed << " accumulate "
                                      << accumulate << " offset " << offset << " bytes " << sizeof(T));
    const int64_t a_row = transposed ? 1 : k + 1, a_col = transposed ? m + 2 : 1, row = n + gap;
    Array<T> a(std::max<int64_t>(m * (k + 1), (m + 2) * k), offset), b(k * row, offset), c(m * row, offset),
        c_reference(m * row);
    fill_uniform(a, 1);
    fill_uniform(b, 2);
    fill_uniform(c, 3);
    std::vector<T> before(c.data(), c.data() + c.size());
    std::copy(before.begin(), before.end(), c_reference.data());

    set->table<T>().gemm(m, n, k, a.data(), a_row, a_col, b.data(), row, c.data(), row, accumulate);
    reference->table<T>().gemm(m, n, k, a.data(), a_row, a_col, b.data(), row, c_reference.data(), row, accumulate);

    ASSERT_TRUE(same_bits(c, c_reference));
    ASSERT_TRUE(c.guards_intact() && c_reference.guards_intact());
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = n; j < row; ++j) ASSERT_EQ(c[i * row + j], before[i * row + j]) << "past row " << i;
      for (int64_t j = 0; j < n; ++j) {
        long double sum = accumulate ? before[i * row + j] : T(0), size = sum < 0 ? -sum : sum;
        for (int64_t l = 0; l < k; ++l) {
          const long double x = static_cast<long double>(a[i * a_row + l * a_col]) * b[l * row + j];
          sum += x;
          size += x < 0 ? -x : x;
        }
        const double error = std::abs(static_cast<double>(sum - c[i * row + j]));
        ASSERT_LE(error, 0.5 * epsilon<T> * static_cast<double>(k + 1) * static_cast<double>(size)) << i << ' ' << j;
      }
    }
  }
};

TEST_P(Gemm, EverySmallSize) {
  for (int64_t m = 0; m <= 20; ++m)
    for (int64_t n = 0; n <= 20; ++n)
      for (int64_t k = 0; k <= 20; k += k < 4 ? 1 : 4) {
        check<double>(m, n, k, (m + n + k) % 2, (m + k) % 3 == 0);
        check<float>(m, n, k, (m + n + k) % 2, (m + k) % 3 == 0);
        if (HasFatalFailure()) return;
      }
}

TEST_P(Gemm, EveryWidthAndOffset) {
  for (int64_t n = 0; n <= 140; ++n) {
    check<double>(7, n, 5, false, n % 2, 0, n % 9);
    check<float>(7, n, 5, true, n % 2, 0, n % 17);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Gemm, TrainingSizes) {
  for (const bool transposed : {false, true})
    for (const bool accumulate : {false, true}) {
      check<double>(64, 122, 122, transposed, accumulate);
      check<float>(64, 122, 122, transposed, accumulate);
      check<double>(67, 64, 64, transposed, accumulate, 0);
      check<float>(67, 64, 64, transposed, accumulate, 0);
      check<double>(1, 61, 300, transposed, accumulate);
      check<float>(3, 33, 300, transposed, accumulate);
    }
}

// One chain over k ascending, begun at C: seen in the rounding of sums that depend on the order.
TEST_P(Gemm, OrderOfSummation) {
  const int64_t k = 37, n = 29, m = 9;
  Array<double> a(m * k), b(k * n), c(m * n);
  fill_uniform(a, 4);
  fill_uniform(b, 5);
  fill_uniform(c, 6);
  Array<double> expected(m * n);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = c[i * n + j];
      for (int64_t l = 0; l < k; ++l) sum = __builtin_fma(a[i * k + l], b[l * n + j], sum);
      expected[i * n + j] = sum;
    }
  set->f64->gemm(m, n, k, a.data(), k, 1, b.data(), n, c.data(), n, true);
  EXPECT_TRUE(same_bits(c, expected));
}

// A NaN or Inf of one row of A, or one column of B, stays in that row or column of C.
TEST_P(Gemm, NonFiniteStaysInItsRowAndColumn) {
  const int64_t m = 9, n = 37, k = 6;
  Array<float> a(m * k, 0, 1), b(k * n, 0, 1), c(m * n);
  a[4 * k + 2] = std::numeric_limits<float>::quiet_NaN();
  b[3 * n + 36] = std::numeric_limits<float>::infinity();
  set->f32->gemm(m, n, k, a.data(), k, 1, b.data(), n, c.data(), n, false);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      if (i == 4)
        EXPECT_TRUE(std::isnan(c[i * n + j]));
      else
        EXPECT_EQ(c[i * n + j], j == 36 ? std::numeric_limits<float>::infinity() : 6.0f);
    }
}

LAMINA_FOR_EACH_SET(Gemm);

}  // namespace
}  // namespace lamina::kernels
