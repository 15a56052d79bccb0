// sum16 against its definition, bit for bit, and the cross-entropy of one row against long double.
#include <cmath>

#include "kernels_test.hpp"

namespace lamina::kernels {
namespace {

// The definition of sum16 in kernels.hpp, in so many words.
template <class T>
T sum16(const std::vector<T>& x) {
  T lane[16] = {};
  for (size_t i = 0; i < x.size(); ++i) lane[i % 16] += x[i];
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

class Row : public KernelTest {
 protected:
  template <class T>
  void check_sum() {
    for (int64_t n = 0; n <= 200; ++n) {
      Array<T> x(n, n % 7);
      fill_uniform(x, static_cast<uint32_t>(n));
      const T sum = set->table<T>().sum(n, x.data());
      ASSERT_TRUE(same_bits(sum, sum16(std::vector<T>(x.data(), x.data() + n)))) << n;
      ASSERT_TRUE(same_bits(sum, reference->table<T>().sum(n, x.data()))) << n;
    }
  }

  // Against long double; relative accuracy of the loss and of every entry of the residual, the label's too.
  template <class T>
  void check_cross_entropy(int64_t n, int64_t label, double spread, double margin) {
    SCOPED_TRACE(::testing::Message() << "n " << n << " label " << label << " spread " << spread << " margin " << margin
                                      << " bytes " << sizeof(T));
    Array<T> x(n, label % 5), r(n, n % 3), r_reference(n);
    fill_uniform(x, static_cast<uint32_t>(n + 100 * label), -spread, spread);
    x[label] += static_cast<T>(margin);
    const T loss = set->table<T>().cross_entropy(n, x.data(), label, r.data());
    const T loss_alone = set->table<T>().cross_entropy(n, x.data(), label, nullptr);
    const T loss_reference = reference->table<T>().cross_entropy(n, x.data(), label, r_reference.data());
    ASSERT_TRUE(same_bits(loss, loss_reference) && same_bits(loss, loss_alone)) << loss << ' ' << loss_reference;
    ASSERT_TRUE(same_bits(r, r_reference));
    ASSERT_TRUE(x.guards_intact() && r.guards_intact());

    long double others = 0, largest = x[0];
    for (int64_t j = 0; j < n; ++j) largest = std::max<long double>(largest, x[j]);
    for (int64_t j = 0; j < n; ++j)
      if (j != label) others += std::exp(x[j] - static_cast<long double>(x[label]));
    const long double truth = std::log1p(others);
    // x - M is rounded once, to half an ulp of the spread; then a few roundings.
    const long double slack = epsilon<T> * (8 + 2 * spread + std::abs(margin));
    const long double scale = x[label] == largest ? truth : std::max<long double>(truth, 1);
    ASSERT_LE(std::abs(loss - truth), slack * scale);
    for (int64_t j = 0; j < n; ++j) {
      const long double p = std::exp(x[j] - static_cast<long double>(x[label])) / (1 + others);
      const long double expected = j == label ? -others / (1 + others) : p;
      if (std::abs(expected) > std::numeric_limits<T>::min() / epsilon<T>) {
        ASSERT_LE(std::abs(r[j] - expected), slack * std::abs(expected)) << j;
      } else {
        ASSERT_LE(std::abs(r[j]), 2 * std::numeric_limits<T>::min() / epsilon<T>) << j;
      }
    }
    Array<T> in_place(n);
    std::copy(x.data(), x.data() + n, in_place.data());
    ASSERT_TRUE(same_bits(loss, set->table<T>().cross_entropy(n, in_place.data(), label, in_place.data())));
    ASSERT_TRUE(same_bits(in_place, r));
  }
};

TEST_P(Row, Sum) {
  check_sum<double>();
  check_sum<float>();
}

TEST_P(Row, CrossEntropy) {
  for (int64_t n = 1; n <= 70; ++n)
    for (const int64_t label : {int64_t(0), n / 2, n - 1})
      for (const double spread : {0.5, 30.0})
        for (const double margin : {0.0, 60.0, -60.0}) {
          check_cross_entropy<double>(n, label, spread, margin);
          check_cross_entropy<float>(n, label, spread, margin);
          if (HasFatalFailure()) return;
        }
  check_cross_entropy<double>(1000, 17, 5, 0);
  check_cross_entropy<float>(1000, 999, 5, 0);
}

// Near convergence the residual of the label is far below the rounding of 1 - p.
TEST_P(Row, CrossEntropyNearConvergence) {
  const double x[] = {50, 0, 0};
  double r[3];
  const double loss = set->f64->cross_entropy(3, x, 0, r);
  const double truth = static_cast<double>(std::log1p(2 * std::exp(-50.0L)));
  EXPECT_NEAR(loss / truth, 1, 1e-15);
  EXPECT_NEAR(-r[0] / truth, 1, 1e-15);
}

TEST_P(Row, CrossEntropySpecialValues) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  double r[3];
  const double masked[] = {0, -inf, 0};
  EXPECT_NEAR(set->f64->cross_entropy(3, masked, 0, r), std::log(2.0), 1e-15);
  EXPECT_EQ(r[1], 0);
  EXPECT_EQ(set->f64->cross_entropy(3, masked, 1, r), inf);
  EXPECT_EQ(r[1], -1);
  for (int64_t label = 0; label < 3; ++label)
    for (int64_t bad = 0; bad < 3; ++bad) {
      double x[] = {1, 2, 3};
      x[bad] = nan;
      EXPECT_TRUE(std::isnan(set->f64->cross_entropy(3, x, label, r))) << label << bad;
      EXPECT_TRUE(std::isnan(r[0]) && std::isnan(r[1]) && std::isnan(r[2])) << label << bad;
    }
}

LAMINA_FOR_EACH_SET(Row);

}  // namespace
}  // namespace lamina::kernels
