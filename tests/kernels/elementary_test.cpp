// exp, exp2, log, log1p, expm1 against libm in a wider type: at most 2 units in the last place, exact special values, and the
// same bits from every set and from scalar_math.
#include <cmath>
#include <functional>

#include "kernels/scalar_math.hpp"
#include "kernels_test.hpp"

namespace lamina::kernels {
namespace {

template <class T>
using Row = void (*)(int64_t, const T*, T*);

template <class T>
struct Function {
  const char* name;
  Row<T> Table<T>::*row;
  long double (*truth)(long double);
};
template <class T>
const Function<T> functions[] = {
    {"exp", &Table<T>::exp, [](long double x) { return std::exp(x); }},
    {"exp2", &Table<T>::exp2, [](long double x) { return std::exp2(x); }},
    {"log", &Table<T>::log, [](long double x) { return std::log(x); }},
    {"log1p", &Table<T>::log1p, [](long double x) { return std::log1p(x); }},
    {"expm1", &Table<T>::expm1, [](long double x) { return std::expm1(x); }},
};

template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T>
constexpr T smallest = std::numeric_limits<T>::min();

// |y - truth| in units of the last place of the truth.
template <class T>
double ulps(T y, long double truth) {
  const int exponent = std::max(std::ilogb(truth), std::numeric_limits<T>::min_exponent - 1);
  return static_cast<double>(std::abs(y - truth) / std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits + 1));
}

// Arguments of every size and sign, many in the ranges where the algorithms change course.
template <class T>
std::vector<T> arguments() {
  std::vector<T> x;
  std::mt19937_64 engine(7);
  const auto uniform = [&](double low, double high) {
    return static_cast<T>(low + (high - low) * std::ldexp(double(engine() >> 11), -53));
  };
  for (int i = 0; i < 40000; ++i) {
    x.push_back(uniform(-1, 1));
    x.push_back(uniform(0.5, 2));
    x.push_back(uniform(-50, 100));
    x.push_back(sizeof(T) == 4 ? uniform(-90, 90) : uniform(-710, 711));
    // any finite bit pattern
    typename std::conditional<sizeof(T) == 4, uint32_t, uint64_t>::type word = static_cast<decltype(word)>(engine());
    T any;
    std::memcpy(&any, &word, sizeof(T));
    if (std::isfinite(any)) x.push_back(any);
  }
  for (int e = std::numeric_limits<T>::min_exponent - std::numeric_limits<T>::digits; e < std::numeric_limits<T>::max_exponent;
       ++e)
    for (const T sign : {T(-1), T(1)})
      for (const T m : {T(1), std::nextafter(T(1), T(2)), std::nextafter(T(2), T(1)), T(1.4142135623730951)})
        x.push_back(sign * std::ldexp(m, e));
  for (int k = -1080; k < 1030; ++k)  // halves of integers, where exp2 changes its power of two, and where it ends
    for (int step = -2; step <= 2; ++step)
      x.push_back(k * T(0.5) + step * std::numeric_limits<T>::epsilon() * std::abs(k)),
          x.push_back(T(k) + step * std::numeric_limits<T>::epsilon() * std::abs(k));
  for (int k = 0; k < 40; ++k)  // near multiples of ln 2 / 2, and near 1
    for (int step = -3; step <= 3; ++step) {
      x.push_back(static_cast<T>(k * 0.34657359027997264) + step * std::numeric_limits<T>::epsilon());
      x.push_back(-x.back());
      x.push_back(1 + step * std::numeric_limits<T>::epsilon() * (1 << (k / 2)));
      x.push_back(x.back() - 1);
    }
  return x;
}

class Elementary : public KernelTest {
 protected:
  template <class T>
  void check_accuracy() {
    const std::vector<T> list = arguments<T>();
    const int64_t n = static_cast<int64_t>(list.size());
    Array<T> x(n), y(n), y_reference(n);
    std::copy(list.begin(), list.end(), x.data());
    for (const Function<T>& f : functions<T>) {
      (set->table<T>().*f.row)(n, x.data(), y.data());
      (reference->table<T>().*f.row)(n, x.data(), y_reference.data());
      double worst = 0;
      T worst_at = 0;
      for (int64_t i = 0; i < n; ++i) {
        const long double truth = f.truth(x[i]);
        if (f.row == &Table<T>::exp2 && x[i] > std::numeric_limits<T>::max_exponent - 1) continue;  // outside its range
        if (std::isnan(truth)) {
          ASSERT_TRUE(std::isnan(y[i]) && std::isnan(y_reference[i])) << f.name << ' ' << x[i];
          continue;
        }
        ASSERT_TRUE(same_bits(y[i], y_reference[i]))
            << f.name << '(' << x[i] << ") = " << y[i] << ", reference " << y_reference[i];
        if (std::abs(truth) < smallest<T>) {
          ASSERT_EQ(y[i], 0) << f.name << ' ' << x[i];
        } else if (std::abs(static_cast<T>(truth)) == infinity<T>) {
          ASSERT_EQ(y[i], static_cast<T>(truth)) << f.name << ' ' << x[i];
        } else if (const double error = ulps(y[i], truth); !(error <= worst)) {
          worst = error;
          worst_at = x[i];
        }
      }
      EXPECT_LE(worst, 2.0) << f.name << " at " << worst_at << ", bytes " << sizeof(T);
      RecordProperty(std::string(f.name) + (sizeof(T) == 4 ? "_f32_ulps" : "_f64_ulps"), std::to_string(worst));
    }
  }

  template <class T>
  void check_special_values() {
    const Table<T>& table = set->table<T>();
    const T nan = std::numeric_limits<T>::quiet_NaN(), inf = infinity<T>, least = std::numeric_limits<T>::denorm_min();
    const auto value = [](Row<T> f, T x) {
      T y;
      f(1, &x, &y);
      return y;
    };
    for (const Function<T>& f : functions<T>) EXPECT_TRUE(std::isnan(value(table.*f.row, nan))) << f.name;
    EXPECT_TRUE(same_bits(value(table.exp, -inf), T(0)));
    EXPECT_TRUE(same_bits(value(table.exp2, -inf), T(0)));
    EXPECT_EQ(value(table.exp2, T(0)), 1);
    EXPECT_EQ(value(table.exp2, T(-0.0)), 1);
    EXPECT_EQ(value(table.exp2, std::numeric_limits<T>::lowest()), 0);
    const T bottom = std::numeric_limits<T>::min_exponent - 1;
    EXPECT_EQ(value(table.exp2, bottom), smallest<T>);
    EXPECT_TRUE(same_bits(value(table.exp2, std::nextafter(bottom, -inf)), T(0)));
    EXPECT_EQ(value(table.exp, inf), inf);
    EXPECT_EQ(value(table.exp, T(0)), 1);
    EXPECT_EQ(value(table.exp, std::numeric_limits<T>::lowest()), 0);
    EXPECT_EQ(value(table.exp, std::numeric_limits<T>::max()), inf);
    EXPECT_EQ(value(table.log, T(0)), -inf);
    EXPECT_EQ(value(table.log, T(-0.0)), -inf);
    EXPECT_EQ(value(table.log, inf), inf);
    EXPECT_TRUE(same_bits(value(table.log, T(1)), T(0)));
    EXPECT_TRUE(std::isnan(value(table.log, T(-1))));
    EXPECT_TRUE(std::isnan(value(table.log, -inf)));
    EXPECT_TRUE(std::isnan(value(table.log, -least)));
    EXPECT_EQ(value(table.log1p, T(-1)), -inf);
    EXPECT_EQ(value(table.log1p, inf), inf);
    EXPECT_TRUE(std::isnan(value(table.log1p, std::nextafter(T(-1), T(-2)))));
    EXPECT_TRUE(std::isnan(value(table.log1p, -inf)));
    EXPECT_EQ(value(table.expm1, -inf), -1);
    EXPECT_EQ(value(table.expm1, inf), inf);
    for (Row<T> f : {table.log1p, table.expm1})
      for (const T sign : {T(1), T(-1)}) {
        EXPECT_TRUE(same_bits(value(f, sign * T(0)), sign * T(0)));
        EXPECT_TRUE(same_bits(value(f, sign * least), sign * T(0)));  // a subnormal result is flushed
        EXPECT_EQ(value(f, sign * smallest<T>), sign * smallest<T>);
      }
  }

  // Every length, at odd addresses, in place and not.
  template <class T>
  void check_lengths() {
    for (const Function<T>& f : functions<T>)
      for (int64_t n = 0; n <= 70; ++n) {
        Array<T> x(n, n % 5), y(n, n % 3), expected(n);
        fill_uniform(x, static_cast<uint32_t>(n), 0.1, 3);
        for (int64_t i = 0; i < n; ++i) (reference->table<T>().*f.row)(1, &x[i], &expected[i]);
        (set->table<T>().*f.row)(n, x.data(), y.data());
        ASSERT_TRUE(same_bits(y, expected)) << f.name << ' ' << n;
        (set->table<T>().*f.row)(n, x.data(), x.data());
        ASSERT_TRUE(same_bits(x, expected)) << f.name << " in place " << n;
        ASSERT_TRUE(x.guards_intact() && y.guards_intact());
      }
  }
};

TEST_P(Elementary, AccuracyF64) {
  check_accuracy<double>();
}
TEST_P(Elementary, AccuracyF32) {
  check_accuracy<float>();
}
TEST_P(Elementary, SpecialValues) {
  check_special_values<double>();
  check_special_values<float>();
}
TEST_P(Elementary, EveryLength) {
  check_lengths<double>();
  check_lengths<float>();
}

// scalar_math has the bits of the table.
TEST_P(Elementary, ScalarMath) {
  double (*const scalar[])(double) = {kernels::exp, kernels::log, kernels::log1p, kernels::expm1};
  const Row<double> Table<double>::*const row[] = {&Table<double>::exp, &Table<double>::log, &Table<double>::log1p,
                                                   &Table<double>::expm1};
  const std::vector<double> list = arguments<double>();
  for (int f = 0; f < 4; ++f)
    for (size_t i = 0; i < list.size(); i += 7) {
      double y;
      (set->f64->*row[f])(1, &list[i], &y);
      const double z = scalar[f](list[i]);
      ASSERT_TRUE(same_bits(y, z) || (std::isnan(y) && std::isnan(z))) << f << ' ' << list[i];
    }
}

LAMINA_FOR_EACH_SET(Elementary);

}  // namespace
}  // namespace lamina::kernels
