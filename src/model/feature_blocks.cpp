// Filling blocks, and their loss and slopes; the loops over lanes are what a compiler makes vectors of.
#include "model/feature_blocks.hpp"

#include <algorithm>

#include "base/memory.hpp"

namespace lamina {

void FeatureBlocks::arrange(std::span<const int32_t> queries, int64_t features, bool softmax) {
  features_ = static_cast<size_t>(features), softmax_ = softmax;
  std::vector<int64_t> place(features_ + 1, 0);
  for (const int32_t query : queries) ++place[static_cast<size_t>(query) + 1];
  blocks_.clear();
  for (size_t k = 0; k < features_; ++k) {
    place[k + 1] += place[k];
    for (int64_t first = place[k]; first < place[k + 1]; first += lanes)
      blocks_.push_back({static_cast<int32_t>(k), first, std::min(lanes, place[k + 1] - first)});
  }
  order_.resize(queries.size());
  for (size_t i = 0; i < queries.size(); ++i) {
    int64_t& next = place[static_cast<size_t>(queries[i])];
    order_[static_cast<size_t>(next++)] = static_cast<int64_t>(i);
  }
  const size_t rows = blocks_.size() * 2 * features_;
  allocate("prompts", sizeof(Lanes) * static_cast<double>(rows), [&] { rows_.resize(rows); });
}

std::vector<int32_t> FeatureBlocks::queries() const {
  std::vector<int32_t> all;
  for (const Block& b : blocks_)
    if (all.empty() || all.back() != b.query) all.push_back(b.query);
  return all;
}

void FeatureBlocks::put(int64_t block, int64_t lane, const Prompt& prompt) {
  Block& b = blocks_[static_cast<size_t>(block)];
  const auto l = static_cast<size_t>(lane);
  Lanes *occurs = occurs_of(block), *label = occurs + features_;
  const double from = softmax_ ? prompt.target : 0;
  double length = 0;
  for (size_t n = 0; n < features_; ++n) {
    length += prompt.occurs[n];
    occurs[n][l] = prompt.occurs[n], label[n][l] = prompt.mean[n] - from;
  }
  b.weight[l] = prompt.weight, b.target[l] = prompt.target, b.length[l] = length;
}

void FeatureBlocks::pad(int64_t block) {
  Block& b = blocks_[static_cast<size_t>(block)];
  Lanes *occurs = occurs_of(block), *label = occurs + features_;
  for (auto lane = static_cast<size_t>(b.filled); lane < lanes; ++lane) {
    b.length[lane] = b.length[0];
    for (size_t n = 0; n < features_; ++n) occurs[n][lane] = occurs[n][0], label[n][lane] = label[n][0];
  }
}

void FeatureBlocks::draw(const CountedPrompts& law, uint64_t seed, int64_t first, int64_t count, bool softmax, const Team& team) {
  allocate("prompts", (sizeof(CountedPrompts::Head) + sizeof(int32_t)) * static_cast<double>(count),
           [&] { heads_.resize(static_cast<size_t>(count)), asked_.resize(static_cast<size_t>(count)); });
  constexpr int64_t part = 256;  // queries at a time
  team.for_each((count + part - 1) / part, [&](int64_t chunk, int) {
    const int64_t from = chunk * part;
    law.queries(seed, Purpose::train, first + from, std::min(part, count - from), heads_.data() + from, asked_.data() + from);
  });
  arrange(asked_, law.features(), softmax);
  const int64_t length = chunk(law.features());
  team.for_each((size() + length - 1) / length, [&](int64_t chunk, int) {
    for (int64_t block = chunk * length; block < std::min(size(), (chunk + 1) * length); ++block) {
      Block& b = blocks_[static_cast<size_t>(block)];
      std::array<uint64_t, lanes> index;
      const CountedPrompts::Head* heads[lanes];
      for (int64_t l = 0; l < lanes; ++l) {
        const int64_t i = order_[static_cast<size_t>(b.first + (l < b.filled ? l : 0))];
        const auto lane = static_cast<size_t>(l);
        index[lane] = static_cast<uint64_t>(first + i), heads[lane] = &heads_[static_cast<size_t>(i)];
        b.weight[lane] = l < b.filled ? 1 / static_cast<double>(count) : 0;
      }
      Lanes *occurs = occurs_of(block), *label = occurs + features_;
      law.draw(seed, Purpose::train, index, heads, b.filled, occurs, label);
      b.target = label[b.query];
      b.length.fill(static_cast<double>(law.length()));
      if (!softmax) continue;
      for (size_t n = 0; n < features_; ++n)
        for (size_t l = 0; l < lanes; ++l) label[n][l] -= b.target[l];
    }
  });
}

FeatureBlocks::Lanes FeatureBlocks::evaluate(int64_t which, const double* column, double self, Lanes* slopes) const {
  const Block& block = blocks_[static_cast<size_t>(which)];
  const Lanes *occurs = occurs_of(which), *label = occurs + features_;
  // Two sums of each kind, so that one addition need not wait for the last.
  Lanes z[2]{}, s[2]{};
  for (size_t l = 0; l < lanes; ++l) z[0][l] = self;
  for (size_t n = 0; n < features_; ++n) {
    Lanes &zn = z[n % 2], &sn = s[n % 2];
    for (size_t l = 0; l < lanes; ++l) {
      const double b = occurs[n][l] * column[n];
      zn[l] += b, sn[l] += b * label[n][l];
    }
  }
  // delta = yhat - target; of softmax that is s / z less the query's own share of the target, its label being 0.
  Lanes delta, rate, loss;
  for (size_t l = 0; l < lanes; ++l) {
    const double scale = 1 / (softmax_ ? z[0][l] + z[1][l] : block.length[l]), sum = s[0][l] + s[1][l];
    delta[l] = softmax_ ? (sum - self * block.target[l]) * scale : sum * scale - block.target[l];
    rate[l] = block.weight[l] * delta[l] * scale;
    loss[l] = block.weight[l] * 0.5 * delta[l] * delta[l];
  }
  if (!slopes) return loss;
  if (softmax_) {
    for (size_t n = 0; n < features_; ++n)
      for (size_t l = 0; l < lanes; ++l) slopes[n][l] += rate[l] * (occurs[n][l] * column[n]) * (label[n][l] - delta[l]);
    for (size_t l = 0; l < lanes; ++l) slopes[static_cast<size_t>(block.query)][l] -= rate[l] * self * (block.target[l] + delta[l]);
  } else {
    for (size_t n = 0; n < features_; ++n)
      for (size_t l = 0; l < lanes; ++l) slopes[n][l] += rate[l] * occurs[n][l] * label[n][l];
  }
  return loss;
}

}  // namespace lamina
