// Kernels of 16 prompts at once against the same for one.
#include <cmath>

#include "kernels_test.hpp"

namespace lamina::kernels {
namespace {

class LanesTest : public KernelTest {
 protected:
  template <class T>
  void check_spread_and_collect() {
    const Table<T>& t = set->table<T>();
    for (int64_t n : {0, 1, 5, 23})
      for (int64_t first = 0; first < lanes; ++first)
        for (int64_t count = 0; count <= lanes - first; ++count) {
          Array<T> value(n, 1), x(n * lanes, 3), y(n * lanes), sum(n, 2);
          fill_uniform(value, 1);
          fill_uniform(x, 2);
          fill_uniform(y, 2);
          t.spread(n, value.data(), first, count, x.data());
          for (int64_t i = 0; i < n * lanes; ++i) {
            const bool inside = i % lanes >= first && i % lanes < first + count;
            ASSERT_TRUE(same_bits(x[i], inside ? value[i / lanes] : y[i]));
          }
          t.collect(n, y.data(), first, count, sum.data());
          for (int64_t i = 0; i < n; ++i) ASSERT_TRUE(same_bits(sum[i], t.sum(count, y.data() + i * lanes + first))) << first << count;
          ASSERT_TRUE(x.guards_intact() && sum.guards_intact());
        }
  }

  // Against long double: loss and residual, with and without absent logits, in place too.
  template <class T>
  void check_cross_entropies(int64_t n, int64_t absent, double size) {
    SCOPED_TRACE(::testing::Message() << "n " << n << " absent " << absent << " size " << size << " bytes " << sizeof(T));
    Array<T> x(n * lanes, 1), r(n * lanes, 2), label(lanes), weight(lanes, 1), loss(lanes, 3);
    fill_uniform(x, static_cast<uint32_t>(n + absent), -size, size);
    fill_uniform(weight, 5, 0.1, 1);
    for (int64_t lane = 0; lane < lanes; ++lane) label[lane] = static_cast<T>((lane * 7 + n / 2) % n);
    const auto run = [&](const InstructionSet* s, const Array<T>& in, Array<T>& out, Array<T>& losses) {
      s->table<T>().cross_entropies(n, in.data(), label.data(), static_cast<T>(absent), weight.data(), losses.data(), out.data());
    };
    run(set, x, r, loss);
    Array<T> r_reference(n * lanes), loss_reference(lanes), in_place(n * lanes);
    run(reference, x, r_reference, loss_reference);
    ASSERT_TRUE(same_bits(r, r_reference) && same_bits(loss, loss_reference));
    for (int64_t i = 0; i < n * lanes; ++i) in_place[i] = x[i];
    run(set, in_place, in_place, loss_reference);
    ASSERT_TRUE(same_bits(r, in_place) && r.guards_intact() && loss.guards_intact());
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const auto at = [&](int64_t j) { return static_cast<long double>(x[j * lanes + lane]); };
      const int64_t own = static_cast<int64_t>(label[lane]);
      long double others = absent * std::exp(-at(own)), largest = absent > 0 ? 0 : at(own);
      for (int64_t j = 0; j < n; ++j) {
        largest = std::max(largest, at(j));
        if (j != own) others += std::exp(at(j) - at(own));
      }
      // An exponential below the smallest normal number is 0.
      const double slack = (30 + 2 * size + static_cast<double>(n) / 4) * epsilon<T>, tiny = static_cast<double>(std::numeric_limits<T>::min()) * 100;
      const long double expected = std::log1p(others);
      ASSERT_NEAR(loss[lane], static_cast<double>(expected), slack * (expected + (largest > at(own) ? 1 : 0)) + tiny) << lane;
      for (int64_t j = 0; j < n; ++j) {
        const long double p = j == own ? -others / (1 + others) : std::exp(at(j) - at(own)) / (1 + others);
        ASSERT_NEAR(r[j * lanes + lane], static_cast<double>(weight[lane] * p), slack * std::abs(static_cast<double>(p)) + tiny) << lane << ' ' << j;
      }
    }
  }
};

TEST_P(LanesTest, SpreadAndCollect) {
  check_spread_and_collect<double>();
  check_spread_and_collect<float>();
}

TEST_P(LanesTest, CrossEntropies) {
  for (int64_t n = 1; n <= 70; ++n)
    for (int64_t absent : {0, 1, 38})
      for (double size : {0.0, 1.0, 30.0}) {
        check_cross_entropies<double>(n, absent, size);
        check_cross_entropies<float>(n, absent, size);
        if (HasFatalFailure()) return;
      }
}

LAMINA_FOR_EACH_SET(LanesTest);

}  // namespace
}  // namespace lamina::kernels
