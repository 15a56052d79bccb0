// Attention on grids of pair counts against long double, bit for bit across sets, lane by lane.
#include <cmath>

#include "kernels_test.hpp"

namespace lamina::kernels {
namespace {

constexpr Map maps[] = {Map::softmax, Map::linear, Map::relu};

// 16 prompts and their results.
template <class T>
struct Prompts {
  int64_t L;
  Array<uint8_t> n;
  Array<uint16_t> n_current, n_previous;
  Array<T> u, v, d_current, d_previous;
  Array<T> a, c_current, c_previous, g_current, g_previous;

  Prompts(int64_t tokens, uint32_t seed, double size = 2)
      : L(tokens),
        n((L + 1) * L * lanes, 3),
        n_current(L * lanes),
        n_previous(L * lanes, 1),
        u(L * lanes, 1),
        v(L * lanes),
        d_current(L * lanes, 2),
        d_previous(L * lanes),
        a((L + 1) * L * lanes, 5),
        c_current(L * lanes, 3),
        c_previous(L * lanes, 1),
        g_current(L * lanes, 1),
        g_previous(L * lanes) {
    fill_uniform(u, seed, -size, size);
    fill_uniform(v, seed + 1, -size, size);
    fill_uniform(d_current, seed + 2);
    fill_uniform(d_previous, seed + 3);
    std::mt19937 engine(seed + 4);
    for (int64_t i = 0; i < n.size(); ++i) {
      const uint32_t kind = engine() % 8;
      n[i] = static_cast<uint8_t>(kind < 5 ? 0 : kind < 7 ? engine() % 3 : engine() % 256);
    }
    add_counts();
  }
  int64_t at(int64_t i, int64_t j, int64_t lane) const { return (i * L + j) * lanes + lane; }
  void add_counts() {
    for (int64_t i = 0; i < L * lanes; ++i) n_current[i] = n_previous[i] = 0;
    for (int64_t i = 0; i <= L; ++i)
      for (int64_t j = 0; j < L; ++j)
        for (int64_t lane = 0; lane < lanes; ++lane) {
          n_current[j * lanes + lane] += n[at(i, j, lane)];
          if (i < L) n_previous[i * lanes + lane] += n[at(i, j, lane)];
        }
  }
  PairGrid grid() const { return {L, n.data(), n_current.data(), n_previous.data()}; }
  void forward(const InstructionSet* set, Map map) {
    set->table<T>().pair_forward(map, grid(), u.data(), v.data(), a.data(), c_current.data(), c_previous.data());
  }
  void backward(const InstructionSet* set, Map map, bool both = true) {
    set->table<T>().pair_backward(map, grid(), u.data(), v.data(), a.data(), d_current.data(), both ? d_previous.data() : nullptr,
                                  g_current.data(), g_previous.data());
  }
  bool same_results(const Prompts& other) const {
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
  void check(Map map, int64_t L, uint32_t seed, bool both) {
    SCOPED_TRACE(::testing::Message() << "map " << static_cast<int>(map) << " tokens " << L << " bytes " << sizeof(T));
    Prompts<T> p(L, seed), q(L, seed);
    p.forward(set, map);
    p.backward(set, map, both);
    q.forward(reference, map);
    q.backward(reference, map, both);
    ASSERT_TRUE(p.same_results(q));
    ASSERT_TRUE(p.guards_intact());
    Sums a((L + 1) * L * lanes), c_current(L * lanes), c_previous(L * lanes), g_current(L * lanes), g_previous(L * lanes);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const auto value = [&](const Array<T>& x, int64_t i) { return i < L ? static_cast<long double>(x[i * lanes + lane]) : 0.0L; };
      const auto score = [&](int64_t i, int64_t j) { return value(p.u, j) + value(p.v, i); };
      const auto cotangent = [&](int64_t i, int64_t j) { return value(p.d_current, j) + (both ? value(p.d_previous, i) : 0); };
      const auto each = [&](const auto& body) {
        for (int64_t i = 0; i <= L; ++i)
          for (int64_t j = 0; j < L; ++j)
            if (const long double n = p.n[p.at(i, j, lane)]; n > 0) body(i, j, n);
      };
      long double largest = -std::numeric_limits<long double>::infinity(), total = 0, mean = 0, mean_size = 0;
      each([&](int64_t i, int64_t j, long double) { largest = std::max(largest, score(i, j)); });
      each([&](int64_t i, int64_t j, long double n) { total += n * std::exp(score(i, j) - largest); });
      // A, with the size of its summands: |u| + |v| is what the rounding of a score scales with.
      each([&](int64_t i, int64_t j, long double n) {
        const long double s = score(i, j), size = std::abs(value(p.u, j)) + std::abs(value(p.v, i));
        const int64_t ij = p.at(i, j, lane);
        if (map == Map::softmax) {
          const long double x = n * std::exp(s - largest) / total;
          a.add(ij, x, x * (1 + size + std::abs(largest)));
          mean += x * cotangent(i, j), mean_size += x * (1 + size) * 2;
        } else {
          a.add(ij, n * (map == Map::relu ? std::max(s, 0.0L) : s), n * size);
        }
      });
      each([&](int64_t i, int64_t j, long double n) {
        const int64_t ij = p.at(i, j, lane);
        const long double slope = map == Map::linear || score(i, j) >= 0 ? 1 : 0;
        const long double ds = map == Map::softmax ? a.value[ij] * (cotangent(i, j) - mean) : n * slope * cotangent(i, j);
        const long double size = map == Map::softmax ? a.size[ij] * (2 + mean_size) : 2 * n;
        c_current.add(j * lanes + lane, a.value[ij], a.size[ij]), g_current.add(j * lanes + lane, ds, size);
        if (i < L) c_previous.add(i * lanes + lane, a.value[ij], a.size[ij]), g_previous.add(i * lanes + lane, ds, size);
      });
    }
    const double cells = static_cast<double>(2 * L);
    if (map != Map::linear) expect_near(p.a, a, 20, "a");
    expect_near(p.c_current, c_current, 20 + cells, "c_current");
    expect_near(p.c_previous, c_previous, 20 + cells, "c_previous");
    expect_near(p.g_current, g_current, 20 + cells, "g_current");
    expect_near(p.g_previous, g_previous, 20 + cells, "g_previous");
  }
};

TEST_P(Pair, EverySize) {
  for (const Map map : maps)
    for (int64_t L = 1; L <= 40; L += L < 26 ? 1 : 7) {
      check<double>(map, L, static_cast<uint32_t>(L), L % 3 != 0);
      check<float>(map, L, static_cast<uint32_t>(L), L % 3 != 0);
      if (HasFatalFailure()) return;
    }
}

// The order of summation, in so many words.
TEST_P(Pair, OrderOfSummation) {
  for (const Map map : maps) {
    Prompts<float> p(23, 9);
    p.forward(set, map);
    for (int64_t lane = 0; lane < lanes; ++lane)
      for (int64_t k = 0; k < p.L; ++k) {
        const int64_t at = k * lanes + lane;
        float current = 0, previous = 0;
        if (map == Map::linear) {
          current = p.n_current[at] * p.u[at], previous = p.n_previous[at] * p.v[at];
          for (int64_t l = 0; l < p.L; ++l) {
            current = std::fma(static_cast<float>(p.n[p.at(l, k, lane)]), p.v[l * lanes + lane], current);
            previous = std::fma(static_cast<float>(p.n[p.at(k, l, lane)]), p.u[l * lanes + lane], previous);
          }
        } else {
          for (int64_t l = 0; l <= p.L; ++l) current += p.a[p.at(l, k, lane)];
          for (int64_t l = 0; l < p.L; ++l) previous += p.a[p.at(k, l, lane)];
        }
        ASSERT_TRUE(same_bits(p.c_current[at], current) && same_bits(p.c_previous[at], previous)) << k;
      }
  }
}

// One marginal may be left out.
TEST_P(Pair, CurrentMarginalAlone) {
  Prompts<double> p(22, 10), q(22, 10);
  p.forward(set, Map::linear);
  set->f64->pair_forward(Map::linear, q.grid(), q.u.data(), q.v.data(), nullptr, q.c_current.data(), nullptr);
  EXPECT_TRUE(same_bits(p.c_current, q.c_current));
}

// An empty prompt attends to nothing and has no gradient.
TEST_P(Pair, EmptyGrid) {
  for (const Map map : maps) {
    Prompts<double> p(20, 11);
    for (int64_t i = 0; i < p.n.size(); ++i) p.n[i] = 0;
    p.add_counts();
    p.forward(set, map);
    p.backward(set, map);
    for (int64_t i = 0; i < p.L * lanes; ++i)
      ASSERT_TRUE(p.c_current[i] == 0 && p.g_current[i] == 0 && p.c_previous[i] == 0 && p.g_previous[i] == 0);
  }
}

// Where scores go through a map, those of tokens that no position has may be anything: the results keep their bits.
TEST_P(Pair, NonFiniteScores) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const Map map : {Map::softmax, Map::relu})
    for (const float bad : {nan, inf, -inf, 3e38f}) {
      Prompts<float> p(12, 13), clean(12, 13);
      for (Prompts<float>* x : {&p, &clean}) {
        for (int64_t i = 0; i <= x->L; ++i) x->n[x->at(i, 7, 5)] = 0;
        for (int64_t j = 0; j < x->L; ++j) x->n[x->at(4, j, 5)] = 0;
        x->add_counts();
      }
      p.u[7 * lanes + 5] = p.v[4 * lanes + 5] = p.d_current[7 * lanes + 5] = p.d_previous[4 * lanes + 5] = bad;
      p.forward(set, map);
      clean.forward(set, map);
      p.backward(set, map);
      clean.backward(set, map);
      ASSERT_TRUE(p.same_results(clean)) << static_cast<int>(map) << ' ' << bad;
    }
  // Where a position has it, it shows, and in no other lane.
  for (const Map map : maps) {
    Prompts<float> p(12, 13), clean(12, 13);
    p.n[p.at(3, 7, 5)] = 1;
    p.add_counts();
    p.u[7 * lanes + 5] = nan;
    p.forward(set, map);
    clean.forward(set, map);
    EXPECT_TRUE(std::isnan(p.c_current[7 * lanes + 5]) && std::isnan(p.c_previous[3 * lanes + 5])) << static_cast<int>(map);
    for (int64_t i = 0; i < p.L * lanes; ++i)
      ASSERT_TRUE(i % lanes == 5 || (same_bits(p.c_current[i], clean.c_current[i]) && same_bits(p.c_previous[i], clean.c_previous[i])));
  }
}

// relu'(0) = 1: a run that starts with every score at 0 moves.
TEST_P(Pair, ReluSlopeAtZero) {
  Prompts<double> p(16, 15), q(16, 15);
  for (Prompts<double>* x : {&p, &q}) {
    fill_uniform(x->u, 0, 0, 0);
    fill_uniform(x->v, 0, 0, 0);
    for (int64_t i = 0; i < x->d_current.size(); ++i) x->d_current[i] = x->d_previous[i] = 0.5;  // every sum is exact
  }
  p.backward(set, Map::relu);
  q.backward(set, Map::linear);
  EXPECT_TRUE(same_bits(p.g_current, q.g_current) && same_bits(p.g_previous, q.g_previous));
}

LAMINA_FOR_EACH_SET(Pair);

}  // namespace
}  // namespace lamina::kernels
