// How accurate attention is: forward and backward against the formulas in __float128, as a table in markdown. Errors are in
// units in the last place of the largest number of an array (2^-23 or 2^-52 of its power of two): the largest, and the root of
// the mean square. Every instruction set is run; they share a row because their bits are the same, which is checked.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "lamina/lamina.h"
#include "tests/attention/quad.hpp"

namespace {

using oracle::Quad;
using Numbers = std::vector<Quad>;  // row-major [position, feature]

struct Shape {
  int64_t N, D;
  bool backward;  // too slow in __float128 for the long ones, of which 16 queries are looked at
  int64_t queries() const { return backward ? N : 16; }
};

template <class T>
struct Arrays {
  std::vector<T> q, k, v, d_o, o, lse, d_q, d_k, d_v;
};

template <class T>
std::vector<T> random_numbers(int64_t count, std::mt19937_64& engine) {
  std::normal_distribution<double> normal;
  std::vector<T> x(count);
  for (auto& value : x) value = static_cast<T>(normal(engine));
  return x;
}

lamina_attention_spec spec_of(const Shape& shape, int32_t element, int32_t map, const char* isa) {
  lamina_attention_spec spec;
  lamina_attention_spec_init(&spec, sizeof spec);
  spec.element = element, spec.map = map, spec.isa = isa, spec.threads = 1;
  spec.normaliser = map == LAMINA_SOFTMAX ? LAMINA_NORMALISE_DEFAULT : LAMINA_NORMALISE_VISIBLE;
  spec.causal = LAMINA_CAUSAL_BOTTOM_RIGHT, spec.batch = spec.heads = 1;
  spec.queries = shape.queries(), spec.keys = shape.N, spec.width = shape.D;
  if (map == LAMINA_SOFTMAX) spec.flags = LAMINA_WITH_LSE;
  return spec;
}

template <class T>
bool run(const Shape& shape, int32_t map, const char* isa, Arrays<T>& x) {
  const lamina_attention_spec spec = spec_of(shape, sizeof(T) == 4 ? LAMINA_F32 : LAMINA_F64, map, isa);
  const int64_t D = shape.D;
  lamina_attention* plan = nullptr;
  lamina_attention_arrays a;
  lamina_attention_arrays_init(&a, sizeof a);
  const auto in = [&](const std::vector<T>& data) { return lamina_input{data.data(), {0, 0, D, 1}}; };
  const auto out = [&](std::vector<T>& data, int64_t rows, int64_t cols) {
    data.assign(rows * cols, T(0));
    return lamina_output{data.data(), {rows * cols, rows * cols, cols, 1}};
  };
  a.q = in(x.q), a.k = in(x.k), a.v = in(x.v), a.d_o = in(x.d_o);
  a.o = out(x.o, spec.queries, D);
  if (map == LAMINA_SOFTMAX) a.lse = out(x.lse, spec.queries, 1);
  a.d_q = out(x.d_q, spec.queries, D), a.d_k = out(x.d_k, shape.N, D), a.d_v = out(x.d_v, shape.N, D);
  const bool good = lamina_attention_create(&spec, &plan) == LAMINA_OK &&
                    lamina_attention_forward(plan, &a, nullptr, 0) == LAMINA_OK &&
                    (!shape.backward || lamina_attention_backward(plan, &a, nullptr, 0) == LAMINA_OK);
  if (!good) std::fprintf(stderr, "%s\n", lamina_last_error());
  lamina_attention_free(plan);
  return good;
}

// The same in __float128, query by query. The scale is the engine's: a double, or a float, not the exact number.
template <class T>
Arrays<Quad> truth(const Shape& shape, int32_t map, const Arrays<T>& x) {
  const int64_t N = shape.N, D = shape.D, L = shape.queries();
  const Quad scale = static_cast<T>(1 / std::sqrt(static_cast<double>(D)));
  Arrays<Quad> y;
  for (Numbers* rows : {&y.o, &y.d_q}) rows->assign(L * D, 0);
  for (Numbers* rows : {&y.d_k, &y.d_v}) rows->assign(N * D, 0);
  y.lse.assign(map == LAMINA_SOFTMAX ? L : 0, 0);
  Numbers s(N), p(N), g(N);
  for (int64_t i = 0; i < L; ++i) {
    const int64_t seen = i + N - L + 1;
    Quad top = -1e30, norm = 0, mean = 0;
    for (int64_t j = 0; j < seen; ++j) {
      s[j] = 0;
      for (int64_t f = 0; f < D; ++f) s[j] += static_cast<Quad>(x.q[i * D + f]) * x.k[j * D + f];
      s[j] *= scale;
      if (s[j] > top) top = s[j];
    }
    for (int64_t j = 0; j < seen; ++j) {
      p[j] = map == LAMINA_SOFTMAX ? oracle::exponential(s[j] - top) : map == LAMINA_RELU && s[j] < 0 ? 0 : s[j];
      norm += p[j];
    }
    if (map == LAMINA_SOFTMAX) y.lse[i] = top + oracle::logarithm(norm);
    if (map != LAMINA_SOFTMAX) norm = seen;
    for (int64_t j = 0; j < seen; ++j) {
      p[j] /= norm, g[j] = 0;
      for (int64_t f = 0; f < D; ++f) {
        y.o[i * D + f] += p[j] * x.v[j * D + f];
        if (shape.backward) g[j] += static_cast<Quad>(x.d_o[i * D + f]) * x.v[j * D + f];
      }
      if (map == LAMINA_SOFTMAX) mean += p[j] * g[j];
    }
    for (int64_t j = 0; j < seen && shape.backward; ++j) {
      const Quad slope = map == LAMINA_RELU && s[j] <= 0 ? 0 : 1;
      const Quad d_s = scale * (map == LAMINA_SOFTMAX ? p[j] * (g[j] - mean) : slope * g[j] / norm);
      for (int64_t f = 0; f < D; ++f) {
        y.d_q[i * D + f] += d_s * x.k[j * D + f], y.d_k[j * D + f] += d_s * x.q[i * D + f];
        y.d_v[j * D + f] += p[j] * x.d_o[i * D + f];
      }
    }
  }
  return y;
}

// " max / rms |" of one array
template <class T>
std::string errors(const std::vector<T>& x, const Numbers& y) {
  if (x.empty()) return " - |";
  double largest = 0, most = 0, squares = 0;
  for (const Quad value : y) largest = std::fmax(largest, std::fabs(static_cast<double>(value)));
  const double ulp = std::ldexp(static_cast<double>(std::numeric_limits<T>::epsilon()), std::ilogb(largest));
  for (size_t n = 0; n < x.size(); ++n) {
    const double error = std::fabs(static_cast<double>(x[n] - y[n])) / ulp;
    most = std::isnan(error) ? INFINITY : std::fmax(most, error), squares += error * error;
  }
  char text[48];
  std::snprintf(text, sizeof text, " %.2f / %.3f |", most, std::sqrt(squares / static_cast<double>(x.size())));
  return text;
}

template <class T>
bool row(const Shape& shape, int32_t map) {
  static const char* const maps[] = {"", "softmax", "linear", "relu"};
  std::mt19937_64 engine(static_cast<uint64_t>(shape.N));
  Arrays<T> x, other;
  x.q = random_numbers<T>(shape.queries() * shape.D, engine), x.d_o = random_numbers<T>(shape.queries() * shape.D, engine);
  x.k = random_numbers<T>(shape.N * shape.D, engine), x.v = random_numbers<T>(shape.N * shape.D, engine);
  if (!run(shape, map, lamina_isa_name(0), x)) return false;
  std::string sets = lamina_isa_name(0);
  bool same = true;
  for (int32_t n = 1; n < lamina_isa_count(); ++n) {
    other = x;
    if (!run(shape, map, lamina_isa_name(n), other)) return false;
    const auto equal = [](const std::vector<T>& a, const std::vector<T>& b) {
      return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
    };
    const bool all = equal(x.o, other.o) && equal(x.lse, other.lse) && equal(x.d_q, other.d_q) && equal(x.d_k, other.d_k) &&
                     equal(x.d_v, other.d_v);
    sets += std::string(all ? " = " : " DIFFERS FROM ") + lamina_isa_name(n);
    same = same && all;
  }
  const Arrays<Quad> y = truth(shape, map, x);
  std::printf("| %lld x %lld, %lld | f%d | %s |%s%s", static_cast<long long>(shape.queries()), static_cast<long long>(shape.N),
              static_cast<long long>(shape.D), static_cast<int>(8 * sizeof(T)), maps[map], errors(x.o, y.o).c_str(),
              errors(x.lse, y.lse).c_str());
  if (shape.backward)
    std::printf("%s%s%s", errors(x.d_q, y.d_q).c_str(), errors(x.d_k, y.d_k).c_str(), errors(x.d_v, y.d_v).c_str());
  else
    std::printf(" - | - | - |");
  std::printf(" %s |\n", sets.c_str());
  std::fflush(stdout);
  return same;
}

}  // namespace

int main() {
  const Shape shapes[] = {{8, 8, true},    {32, 16, true},    {64, 32, true},    {128, 64, true},
                          {300, 64, true}, {4096, 64, false}, {65536, 64, false}};
  std::printf(
      "| queries x keys, width | type | map | O | lse | dQ | dK | dV | same bits |\n|---|---|---|---|---|---|---|---|---|\n");
  bool same = true;
  for (const Shape& shape : shapes)
    for (const int32_t map : {LAMINA_SOFTMAX, LAMINA_LINEAR, LAMINA_RELU}) {
      same = row<float>(shape, map) && same;
      same = row<double>(shape, map) && same;
    }
  return same ? 0 : 1;
}
