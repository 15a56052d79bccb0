// Packed uniform tokens, alias tables, subsets, partial permutations, Dirichlet laws.
#include "task/draw.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

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

// The log of a Gamma(shape, 1) variable, shape >= 1, by rejection: Marsaglia and Tsang, "A simple method for generating gamma
// variables", ACM Transactions on Mathematical Software 26 (2000), 363-372.
double draw_log_gamma(Random& random, double shape) {
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = random.normal(), root = 1 + c * x;
    if (root <= 0) continue;
    const double log_v = 3 * kernels::log(root), v = root * root * root;
    if (kernels::log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * log_v) return kernels::log(d) + log_v;
  }
}

}  // namespace

void draw_dirichlet(Random& random, double concentration, std::span<double> out) {
  // Gamma(a) is Gamma(a + 1) U^(1/a); logs, since U^(1/a) may underflow.
  double most = -std::numeric_limits<double>::infinity(), sum = 0;
  for (double& g : out) {
    g = draw_log_gamma(random, concentration + 1) + kernels::log(1 - random.uniform()) / concentration;
    most = std::max(most, g);
  }
  for (double& g : out) g = kernels::exp(std::max(g - most, -700.0)), sum += g;
  for (double& g : out) g /= sum;
}

}  // namespace lamina
