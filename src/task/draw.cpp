// Packed uniform tokens, alias tables, subsets, partial permutations, Dirichlet laws.
#include "task/draw.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/own_set.hpp"
#include "kernels/scalar_math.hpp"

namespace lamina {

PackedUniform::PackedUniform(int64_t range) : range_(range), per_word_(1) {
  constexpr int64_t cells = int64_t{1} << 24;
  for (int64_t product = range * range; range > 1 && product <= cells; product *= range) ++per_word_;
}

void PackedUniform::fill(Random& random, int32_t base, std::span<int32_t> out) const {
  if (range_ == 1) {
    std::fill(out.begin(), out.end(), base);
    return;
  }
  constexpr size_t lanes = 4;  // independent chains of multiplications, and the words of one Philox block
  const auto range = static_cast<uint64_t>(range_);
  uint64_t fraction[16 * lanes];  // of several blocks at once, whose rounds need not wait for each other
  const auto next = [range, base](uint64_t& f) {
    const auto product = static_cast<Wide>(f) * range;
    f = static_cast<uint64_t>(product);
    return base + static_cast<int32_t>(product >> 64);
  };
  const size_t block = lanes * static_cast<size_t>(per_word_);
  size_t i = 0;
  while (i + block <= out.size()) {
    const size_t blocks = std::min<size_t>(16, (out.size() - i) / block);
    random.words({fraction, blocks * lanes});
    for (const uint64_t* f = fraction; f < fraction + blocks * lanes; f += lanes, i += block) {
      uint64_t a = f[0], b = f[1], c = f[2], d = f[3];  // in registers
      int32_t* target = out.data() + i;
      for (int j = 0; j < per_word_; ++j, target += lanes) target[0] = next(a), target[1] = next(b), target[2] = next(c), target[3] = next(d);
    }
  }
  if (i == out.size()) return;
  random.words({fraction, lanes});
  for (size_t lane = 0; i < out.size(); ++i, lane = (lane + 1) % lanes) out[i] = next(fraction[lane]);
}

void AliasTables::set(int64_t row, std::span<const double> weights) {
  const auto n = static_cast<size_t>(columns_);
  double sum = 0;
  for (double w : weights) sum += w;
  std::vector<double> height(n);  // weight in units of the mean: each column of the table holds 1 in all
  std::vector<int32_t> small, large;
  for (size_t j = 0; j < n; ++j) {
    height[j] = weights[j] / sum * static_cast<double>(n);
    (height[j] < 1 ? small : large).push_back(static_cast<int32_t>(j));
  }
  Entry* entry = entries_.data() + static_cast<size_t>(row) * n;
  while (!small.empty() && !large.empty()) {
    const int32_t s = small.back(), l = large.back();
    small.pop_back();
    entry[s] = {static_cast<uint32_t>(height[static_cast<size_t>(s)] * 0x1p32), l};
    double& rest = height[static_cast<size_t>(l)];
    rest -= 1 - height[static_cast<size_t>(s)];
    if (rest < 1) {
      large.pop_back();
      small.push_back(l);
    }
  }
  // What is left is full up to rounding. A column of weight 0 is never left: while it waits, the others hold two columns'
  // worth.
  for (const std::vector<int32_t>* left : {&large, &small}) {
    for (int32_t j : *left) entry[j] = {0, j};
  }
}

void draw_subset(Random& random, int64_t n, int64_t m, std::vector<int64_t>& out) {
  out.clear();
  for (int64_t last = n - m; last < n; ++last) {
    const int64_t candidate = random.below(last + 1);
    const auto place = std::lower_bound(out.begin(), out.end(), candidate);
    if (place != out.end() && *place == candidate) {
      out.push_back(last);  // larger than every element so far
    } else {
      out.insert(place, candidate);
    }
  }
}

void PartialShuffle::draw(Random& random, int64_t first, std::span<int32_t> out) {
  const auto n = static_cast<int64_t>(elements_.size());
  swaps_.clear();
  for (size_t i = 0; i < out.size(); ++i) {
    const auto place = static_cast<int64_t>(i);
    const int64_t other = i == 0 && first >= 0 ? first : place + random.below(n - place);
    std::swap(elements_[i], elements_[static_cast<size_t>(other)]);
    swaps_.push_back(other);
    out[i] = elements_[i];
  }
  for (size_t i = out.size(); i-- > 0;) std::swap(elements_[i], elements_[static_cast<size_t>(swaps_[i])]);
}

namespace {

constexpr size_t most_candidates = 256;

// On (0, 1], a multiple of 2^-53.
double uniform(uint64_t word) { return 1 - static_cast<double>(word >> 11) * 0x1p-53; }

// Candidates: a variable is accepted where the log of a uniform number is at most its bound. Two words make one.
struct Candidates {
  double x[most_candidates], bound[most_candidates], log_uniform[most_candidates];
};

// shape < 1: Ahrens and Dieter, "Computer methods for sampling from gamma, beta, Poisson and binomial distributions", Computing 12
// (1974), 223-246, algorithm GS. Of p uniform on (0, b), b = 1 + shape / e, p <= 1 gives x = p^(1/shape) <= 1, accepted with probability
// e^-x; others x = -log((b - p) / shape) > 1, accepted with x^(shape - 1).
void propose_small(double shape, std::span<const uint64_t> words, const kernels::Table<double>& table, Candidates& out) {
  const size_t count = words.size();
  const double b = 1 + shape * 0x1.78b56362cef38p-2;
  for (size_t i = 0; i < count; ++i) {
    const double p = b * uniform(words[i]);
    out.bound[i] = p <= 1 ? p : (b - p) / shape;
  }
  table.log(static_cast<int64_t>(count), out.bound, out.bound);
  for (size_t i = 0; i < count; ++i) out.x[i] = std::max(out.bound[i] / shape, -700.0);
  table.exp(static_cast<int64_t>(count), out.x, out.x);
  for (size_t i = 0; i < count; ++i) {
    const bool above = b * uniform(words[i]) > 1;
    if (above) out.x[i] = -out.bound[i];
    out.bound[i] = above ? (shape - 1) * kernels::log(out.x[i]) : -out.x[i];
  }
}

// shape >= 1: Marsaglia and Tsang, "A simple method for generating gamma variables", ACM Transactions on Mathematical Software 26 (2000),
// 363-372. Of z normal, x = d v with v = (1 + c z)^3 > 0, accepted with probability exp(z^2 / 2 + d - d v + d log v).
void propose_large(double shape, std::span<const uint64_t> words, const kernels::Table<double>& table, Candidates& out) {
  const size_t count = words.size();
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  double z[most_candidates], root[most_candidates];
  normals_of(words, {z, count});
  for (size_t i = 0; i < count; ++i) root[i] = std::max(1 + c * z[i], 0x1p-1000);  // one that is not positive is never accepted
  table.log(static_cast<int64_t>(count), root, out.bound);
  for (size_t i = 0; i < count; ++i) {
    const double v = root[i] * root[i] * root[i];
    out.x[i] = d * v;
    out.bound[i] = 0.5 * z[i] * z[i] + d - out.x[i] + 3 * d * out.bound[i];
  }
}

}  // namespace

void draw_gammas(Random& random, double shape, std::span<double> out) {
  const kernels::Table<double>& table = *kernels::own_set().f64;
  Candidates candidates;
  uint64_t words[2 * most_candidates];
  for (size_t done = 0; done < out.size();) {
    const size_t needed = out.size() - done, count = std::min(most_candidates, needed + needed / 8 + 4);  // of shape 0.1 one in twelve is refused
    random.words({words, 2 * count});
    (shape < 1 ? propose_small : propose_large)(shape, {words, count}, table, candidates);
    for (size_t i = 0; i < count; ++i) candidates.log_uniform[i] = uniform(words[count + i]);
    table.log(static_cast<int64_t>(count), candidates.log_uniform, candidates.log_uniform);
    for (size_t i = 0; i < count && done < out.size(); ++i) {
      out[done] = candidates.x[i];
      done += candidates.log_uniform[i] <= candidates.bound[i];
    }
  }
}

void draw_dirichlet(Random& random, double concentration, size_t rows, std::span<double> out) {
  draw_gammas(random, concentration, out);
  const size_t n = out.size() / rows;
  for (size_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (double g : out.subspan(row * n, n)) sum += g;
    for (double& g : out.subspan(row * n, n)) g /= sum;
  }
}

}  // namespace lamina
