// Attention on the grid of pair counts against long double, bit for bit across sets, and blind to positions of count 0.
#include <cmath>

#include "kernels_test.hpp"

namespace lamina::kernels {
namespace {

constexpr Map maps[] = {Map::softmax, Map::linear, Map::relu};

// One prompt and its results.
template <class T>
struct Prompt {
  int64_t rows, stride, columns;
  Array<uint16_t> n;
  Array<T> u, v, d_current, d_previous;
  Array<T> a, c_current, c_previous, g_current, g_previous;

  Prompt(int64_t rows_, int64_t columns_, uint32_t seed, double spread = 2)
      : rows(rows_),
        stride(padded(columns_)),
        columns(columns_),
        n(rows * stride, 3),
        u(stride, 1),
        v(rows),
        d_current(stride, 2),
        d_previous(rows),
        a(rows * stride, 5),
        c_current(stride, 3),
        c_previous(rows, 1),
        g_current(stride, 1),
        g_previous(rows) {
    fill_uniform(u, seed, -spread, spread);
    fill_uniform(v, seed + 1, -spread, spread);
    fill_uniform(d_current, seed + 2);
    fill_uniform(d_previous, seed + 3);
    std::mt19937 engine(seed + 4);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const uint32_t kind = engine() % 8;
        n[i * stride + j] = kind < 5 ? 0 : kind < 7 ? engine() % 3 : engine() % 65536;
      }
  }
  void forward(const InstructionSet* set, Map map) {
    set->table<T>().pair_forward(map, rows, stride, n.data(), u.data(), v.data(), a.data(), c_current.data(),
                                 c_previous.data());
  }
  void backward(const InstructionSet* set, Map map) {
    set->table<T>().pair_backward(map, rows, stride, n.data(), u.data(), v.data(), a.data(), d_current.data(),
                                  d_previous.data(), g_current.data(), g_previous.data());
  }
  bool same_results(const Prompt& other) const {
    return same_bits(a, other.a) && same_bits(c_current, other.c_current) && same_bits(c_previous, other.c_previous) &&
           same_bits(g_current, other.g_current) && same_bits(g_previous, other.g_previous);
  }
  bool guards_intact() const {
    return a.guards_intact() && c_current.guards_intact() && c_previous.guards_intact() && g_current.guards_intact() &&
           g_previous.guards_intact();
  }
};

// A vector of sums with the sum of the sizes of the summands beside it, the scale of its error.
struct Sums {
  explicit Sums(int64_t n) : value(n), size(n) {}
  std::vector<long double> value, size;
  void add(int64_t i, long double x, long double x_size) {
    value[i] += x;
    size[i] += x_size;
  }
};

class Pair : public KernelTest {
 protected:
  template <class T>
  void expect_near(const Array<T>& x, const Sums& sums, double slack, const char* what) {
    for (int64_t i = 0; i < x.size(); ++i)
      ASSERT_LE(std::abs(x[i] - sums.value[i]), slack * epsilon<T> * sums.size[i] + std::numeric_limits<T>::min())
          << what << ' ' << i;
  }

  template <class T>
  void check(Map map, int64_t rows, int64_t columns, uint32_t seed) {
    SCOPED_TRACE(::testing::Message() << "map " << static_cast<int>(map) << " rows " << rows << " columns " << columns
                                      << " bytes " << sizeof(T));
    Prompt<T> p(rows, columns, seed), q(rows, columns, seed);
    p.forward(set, map);
    p.backward(set, map);
    q.forward(reference, map);
    q.backward(reference, map);
    ASSERT_TRUE(p.same_results(q));
    ASSERT_TRUE(p.guards_intact());

    const int64_t stride = p.stride;
    long double largest = -std::numeric_limits<long double>::infinity(), total = 0;
    const auto score = [&](int64_t i, int64_t j) { return static_cast<long double>(p.u[j]) + p.v[i]; };
    const auto count = [&](int64_t i, int64_t j) { return static_cast<long double>(p.n[i * stride + j]); };
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < stride; ++j)
        if (count(i, j) > 0) largest = std::max(largest, score(i, j));
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < stride; ++j)
        if (count(i, j) > 0) total += count(i, j) * std::exp(score(i, j) - largest);

    // A, with the size of its summands: |u| + |v| is what the rounding of a score scales with.
    Sums a(rows * stride), c_current(stride), c_previous(rows), g_current(stride), g_previous(rows);
    long double mean = 0, mean_size = 0;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < stride; ++j) {
        const long double s = score(i, j),
                          size = std::abs(static_cast<long double>(p.u[j])) + std::abs(static_cast<long double>(p.v[i]));
        const long double d = static_cast<long double>(p.d_current[j]) + p.d_previous[i];
        if (count(i, j) == 0) continue;
        if (map == Map::softmax) {
          const long double x = count(i, j) * std::exp(s - largest) / total;
          a.add(i * stride + j, x, x * (1 + size + std::abs(largest)));
          mean += x * d;
          mean_size += x * (1 + size) * 2;
        } else {
          a.add(i * stride + j, count(i, j) * (map == Map::relu ? std::max(s, 0.0L) : s), count(i, j) * size);
        }
      }
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < stride; ++j) {
        const int64_t ij = i * stride + j;
        c_current.add(j, a.value[ij], a.size[ij]);
        c_previous.add(i, a.value[ij], a.size[ij]);
        if (count(i, j) == 0) continue;
        const long double d = static_cast<long double>(p.d_current[j]) + p.d_previous[i];
        const long double slope = map == Map::linear || p.u[j] + p.v[i] >= 0 ? 1 : 0;
        const long double ds = map == Map::softmax ? a.value[ij] * (d - mean) : count(i, j) * slope * d;
        const long double size = map == Map::softmax ? a.size[ij] * (2 + mean_size) : 2 * count(i, j);
        g_current.add(j, ds, size);
        g_previous.add(i, ds, size);
      }
    const double cells = static_cast<double>(rows + stride);
    expect_near(p.a, a, 20, "a");
    expect_near(p.c_current, c_current, 20 + cells, "c_current");
    expect_near(p.c_previous, c_previous, 20 + cells, "c_previous");
    expect_near(p.g_current, g_current, 20 + cells, "g_current");
    expect_near(p.g_previous, g_previous, 20 + cells, "g_previous");
    for (int64_t j = columns; j < stride; ++j) ASSERT_EQ(p.c_current[j], 0);
  }
};

TEST_P(Pair, EverySize) {
  for (const Map map : maps)
    for (int64_t rows = 0; rows <= 70; rows += rows < 6 ? 1 : 13)
      for (const int64_t columns : {1, 15, 16, 17, 32, 33, 48, 60, 70, 100, 129}) {
        check<double>(map, rows, columns, static_cast<uint32_t>(rows + columns));
        check<float>(map, rows, columns, static_cast<uint32_t>(rows + columns));
        if (HasFatalFailure()) return;
      }
}

// The marginals' order of summation, from A itself: c_current over i ascending, c_previous in 16 lanes.
TEST_P(Pair, OrderOfSummation) {
  for (const Map map : maps)
    for (const int64_t columns : {16, 32, 48, 64, 80}) {
      Prompt<float> p(23, columns, 9);
      p.forward(set, map);
      for (int64_t j = 0; j < p.stride; ++j) {
        float sum = 0;
        for (int64_t i = 0; i < p.rows; ++i) sum += p.a[i * p.stride + j];
        ASSERT_TRUE(same_bits(p.c_current[j], sum)) << j;
      }
      for (int64_t i = 0; i < p.rows; ++i)
        ASSERT_TRUE(same_bits(p.c_previous[i], set->f32->sum(p.stride, p.a.data() + i * p.stride))) << i;
    }
}

// An empty prompt attends to nothing and has no gradient.
TEST_P(Pair, EmptyGrid) {
  for (const Map map : maps) {
    Prompt<double> p(5, 20, 11);
    for (int64_t i = 0; i < p.n.size(); ++i) p.n[i] = 0;
    p.forward(set, map);
    p.backward(set, map);
    for (int64_t i = 0; i < p.a.size(); ++i) ASSERT_EQ(p.a[i], 0);
    for (int64_t j = 0; j < p.stride; ++j) ASSERT_TRUE(p.c_current[j] == 0 && p.g_current[j] == 0);
    for (int64_t i = 0; i < p.rows; ++i) ASSERT_TRUE(p.c_previous[i] == 0 && p.g_previous[i] == 0);
  }
}

// Scores of tokens that no position has may be anything: the results keep their bits. Where a position has them, it shows.
TEST_P(Pair, NonFiniteScores) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const Map map : maps)
    for (const float bad : {nan, inf, -inf, 3e38f}) {
      Prompt<float> p(12, 20, 13), clean(12, 20, 13);
      for (Prompt<float>* x : {&p, &clean}) {
        for (int64_t i = 0; i < x->rows; ++i) x->n[i * x->stride + 7] = 0;
        for (int64_t j = 0; j < x->stride; ++j) x->n[4 * x->stride + j] = 0;
      }
      p.u[7] = p.v[4] = p.u[25] = p.d_current[7] = p.d_previous[4] = p.d_current[30] = bad;
      p.forward(set, map);
      clean.forward(set, map);
      p.backward(set, map);
      clean.backward(set, map);
      ASSERT_TRUE(p.same_results(clean)) << static_cast<int>(map) << ' ' << bad;
    }
  for (const Map map : maps) {
    Prompt<float> p(12, 20, 13);
    for (int64_t i = 0; i < p.rows; ++i) p.n[i * p.stride + 7] = i == 3;
    p.u[7] = nan;
    p.forward(set, map);
    EXPECT_TRUE(std::isnan(p.c_current[7]) && std::isnan(p.c_previous[3])) << static_cast<int>(map);
    EXPECT_EQ(std::isnan(p.c_current[6]), map == Map::softmax);
  }
}

// relu'(0) = 1: a run that starts with every score at 0 moves.
TEST_P(Pair, ReluSlopeAtZero) {
  Prompt<double> p(4, 16, 15), q(4, 16, 15);
  for (Prompt<double>* x : {&p, &q}) {
    for (int64_t j = 0; j < x->stride; ++j) x->u[j] = 0;
    for (int64_t i = 0; i < x->rows; ++i) x->v[i] = 0;
  }
  p.backward(set, Map::relu);
  q.backward(set, Map::linear);
  EXPECT_TRUE(same_bits(p.g_current, q.g_current) && same_bits(p.g_previous, q.g_previous));
}

LAMINA_FOR_EACH_SET(Pair);

}  // namespace
}  // namespace lamina::kernels
