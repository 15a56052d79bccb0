// Normal numbers of words against the distribution function, and bit for bit on every set.
#include <cmath>

#include "kernels/drawing.hpp"
#include "kernels_test.hpp"

namespace lamina::kernels {
namespace {

class Normals : public KernelTest {
 protected:
  // word: of p, an odd multiple of 2^-53.
  void expect(double x, uint64_t word) {
    const uint64_t above = (word >> 12) * 2 + 1, whole = uint64_t{1} << 53;
    const long double tail = static_cast<long double>(std::min(above, whole - above)) * 0x1p-53L;
    const long double size = std::abs(x), mass = 0.5L * erfcl(size / sqrtl(2.0L));
    EXPECT_EQ(x < 0, above < whole / 2);
    // d mass = -density d size; far out density / mass is about size.
    EXPECT_NEAR(static_cast<double>(mass / tail), 1, 4e-15 * (1 + static_cast<double>(size * size))) << x;
  }
  std::mt19937_64 random_{7};
};

TEST_P(Normals, InvertTheDistributionFunction) {
  for (int64_t n = 0; n <= 600; n = n < 70 ? n + 1 : n + 97) {
    std::vector<uint64_t> words(static_cast<size_t>(n));
    for (uint64_t& word : words) word = random_();
    if (n > 8) words[0] = 0, words[1] = ~uint64_t{0}, words[2] = uint64_t{1} << 63, words[3] = 1000, words[4] = ~uint64_t{1000};
    Array<double> x(n, n % 3), y(n);
    drawing(GetParam()).normals(n, words.data(), x.data()), drawing(count() - 1).normals(n, words.data(), y.data());
    EXPECT_TRUE(x.guards_intact());
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(x[i], y[i]) << n << " " << i;
      expect(x[i], words[static_cast<size_t>(i)]);
    }
  }
}

TEST_P(Normals, OfHalvesAreThoseOfTheirWords) {
  constexpr int64_t lanes = drawing_lanes;
  for (int64_t n = 0; n <= 70; ++n)
    for (const int64_t first : {0, 1, 3}) {
      std::vector<uint64_t> words(static_cast<size_t>((first + n + 1) / 2 * lanes)), whole;
      for (uint64_t& word : words) word = random_();
      if (words.size() >= 2 * lanes) words[lanes * 2 - 1] = 0, words[lanes * 2 - 2] = ~uint64_t{0};
      for (int64_t half = first; half < first + n; ++half)
        for (int64_t l = 0; l < lanes; ++l)
          whole.push_back((words[static_cast<size_t>(half / 2 * lanes + l)] >> half % 2 * 32) << 32 | uint64_t{1} << 31);
      Array<double> x(n * lanes, n % 3), y(n * lanes);
      drawing(GetParam()).normals_of_halves(n, words.data(), first, x.data());
      drawing(GetParam()).normals(n * lanes, whole.data(), y.data());
      EXPECT_TRUE(x.guards_intact());
      for (int64_t i = 0; i < n * lanes; ++i) ASSERT_EQ(x[i], y[i]) << n << " " << first << " " << i;
    }
}

LAMINA_FOR_EACH_SET(Normals);

}  // namespace
}  // namespace lamina::kernels
