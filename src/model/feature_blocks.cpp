// Filling blocks, and their loss and slopes; the loops over lanes are what a compiler makes vectors of.
#include "model/feature_blocks.hpp"

#include <algorithm>

namespace lamina {

void FeatureBlocks::arrange(std::span<const int32_t> queries, int64_t features) {
  features_ = static_cast<size_t>(features);
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
  double length = 0;
  for (size_t n = 0; n < features_; ++n) {
    length += prompt.occurs[n];
    rows[n].occurs[l] = prompt.occurs[n], rows[n].mean[l] = prompt.mean[n];
  }
  b.weight[l] = prompt.weight, b.target[l] = prompt.target, b.length[l] = length;
}

void FeatureBlocks::pad(int64_t block) {
  Block& b = blocks_[static_cast<size_t>(block)];
  Row* rows = &rows_[static_cast<size_t>(block) * features_];
  for (auto lane = static_cast<size_t>(b.filled); lane < lanes; ++lane) {
    b.length[lane] = b.length[0];
    for (size_t n = 0; n < features_; ++n) rows[n].occurs[lane] = rows[n].occurs[0], rows[n].mean[lane] = rows[n].mean[0];
  }
}

FeatureBlocks::Lanes FeatureBlocks::evaluate(int64_t which, const double* column, double self, bool softmax, Lanes* slopes) const {
  const Block& block = blocks_[static_cast<size_t>(which)];
  const Row* rows = &rows_[static_cast<size_t>(which) * features_];
  // Two sums of each kind, so that one addition need not wait for the last.
  Lanes z[2]{}, s[2]{};
  for (size_t l = 0; l < lanes; ++l) z[0][l] = self;
  for (size_t n = 0; n < features_; ++n) {
    Lanes &zn = z[n % 2], &sn = s[n % 2];
    for (size_t l = 0; l < lanes; ++l) {
      const double b = rows[n].occurs[l] * column[n];
      zn[l] += b, sn[l] += b * rows[n].mean[l];
    }
  }
  Lanes yhat, rate, loss;
  for (size_t l = 0; l < lanes; ++l) {
    const double scale = 1 / (softmax ? z[0][l] + z[1][l] : block.length[l]);
    yhat[l] = (s[0][l] + s[1][l]) * scale;
    const double delta = yhat[l] - block.target[l];
    rate[l] = block.weight[l] * delta * scale;
    loss[l] = block.weight[l] * 0.5 * delta * delta;
  }
  if (!slopes) return loss;
  if (softmax) {
    for (size_t n = 0; n < features_; ++n)
      for (size_t l = 0; l < lanes; ++l) slopes[n][l] += rate[l] * (rows[n].occurs[l] * column[n]) * (rows[n].mean[l] - yhat[l]);
    for (size_t l = 0; l < lanes; ++l) slopes[static_cast<size_t>(block.query)][l] -= rate[l] * self * yhat[l];
  } else {
    for (size_t n = 0; n < features_; ++n)
      for (size_t l = 0; l < lanes; ++l) slopes[n][l] += rate[l] * rows[n].occurs[l] * rows[n].mean[l];
  }
  return loss;
}

}  // namespace lamina
