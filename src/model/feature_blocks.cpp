// Filling blocks, and their loss and slopes; the loops over lanes are what a compiler makes vectors of.
#include "model/feature_blocks.hpp"

#include <algorithm>

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
  rows_.resize(blocks_.size() * features_);
}

void FeatureBlocks::put(int64_t block, int64_t lane, const Prompt& prompt) {
  Block& b = blocks_[static_cast<size_t>(block)];
  const auto l = static_cast<size_t>(lane);
  Row* rows = &rows_[static_cast<size_t>(block) * features_];
  const double from = softmax_ ? prompt.target : 0;
  double length = 0;
  for (size_t n = 0; n < features_; ++n) {
    length += prompt.occurs[n];
    rows[n].occurs[l] = prompt.occurs[n], rows[n].label[l] = prompt.mean[n] - from;
  }
  b.weight[l] = prompt.weight, b.target[l] = prompt.target, b.length[l] = length;
}

void FeatureBlocks::pad(int64_t block) {
  Block& b = blocks_[static_cast<size_t>(block)];
  Row* rows = &rows_[static_cast<size_t>(block) * features_];
  for (auto lane = static_cast<size_t>(b.filled); lane < lanes; ++lane) {
    b.length[lane] = b.length[0];
    for (size_t n = 0; n < features_; ++n) rows[n].occurs[lane] = rows[n].occurs[0], rows[n].label[lane] = rows[n].label[0];
  }
}

FeatureBlocks::Lanes FeatureBlocks::evaluate(int64_t which, const double* column, double self, Lanes* slopes) const {
  const Block& block = blocks_[static_cast<size_t>(which)];
  const Row* rows = &rows_[static_cast<size_t>(which) * features_];
  // Two sums of each kind, so that one addition need not wait for the last.
  Lanes z[2]{}, s[2]{};
  for (size_t l = 0; l < lanes; ++l) z[0][l] = self;
  for (size_t n = 0; n < features_; ++n) {
    Lanes &zn = z[n % 2], &sn = s[n % 2];
    for (size_t l = 0; l < lanes; ++l) {
      const double b = rows[n].occurs[l] * column[n];
      zn[l] += b, sn[l] += b * rows[n].label[l];
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
      for (size_t l = 0; l < lanes; ++l) slopes[n][l] += rate[l] * (rows[n].occurs[l] * column[n]) * (rows[n].label[l] - delta[l]);
    for (size_t l = 0; l < lanes; ++l) slopes[static_cast<size_t>(block.query)][l] -= rate[l] * self * (block.target[l] + delta[l]);
  } else {
    for (size_t n = 0; n < features_; ++n)
      for (size_t l = 0; l < lanes; ++l) slopes[n][l] += rate[l] * rows[n].occurs[l] * rows[n].label[l];
  }
  return loss;
}

}  // namespace lamina
