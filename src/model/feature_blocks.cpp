// Filling blocks, and their loss and slopes; the loops over lanes are what a compiler makes vectors of.
#include "model/feature_blocks.hpp"

namespace lamina {

void FeatureBlocks::add(int32_t query, double weight, double target, const std::vector<double>& count, const std::vector<double>& value) {
  features_ = count.size();
  if (blocks_.empty() || blocks_.back().query != query || blocks_.back().filled == lanes) {
    finish();
    blocks_.push_back({query});
    rows_.resize(rows_.size() + features_);
  }
  Block& block = blocks_.back();
  const auto lane = static_cast<size_t>(block.filled++);
  block.weight[lane] = weight, block.target[lane] = target;
  Row* rows = &rows_[rows_.size() - features_];
  double length = 0;
  for (size_t n = 0; n < features_; ++n) {
    length += count[n];
    rows[n].count[lane] = count[n];
    rows[n].mean[lane] = count[n] > 0 ? value[n] / count[n] : 0;
  }
  block.length[lane] = length;
}

void FeatureBlocks::finish() {
  if (blocks_.empty()) return;
  Block& block = blocks_.back();
  Row* rows = &rows_[rows_.size() - features_];
  for (auto lane = static_cast<size_t>(block.filled); lane < lanes; ++lane) {
    block.length[lane] = block.length[0];
    for (size_t n = 0; n < features_; ++n) rows[n].count[lane] = rows[n].count[0], rows[n].mean[lane] = rows[n].mean[0];
  }
  block.filled = lanes;
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
      const double b = rows[n].count[l] * column[n];
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
      for (size_t l = 0; l < lanes; ++l) slopes[n][l] += rate[l] * (rows[n].count[l] * column[n]) * (rows[n].mean[l] - yhat[l]);
    for (size_t l = 0; l < lanes; ++l) slopes[static_cast<size_t>(block.query)][l] -= rate[l] * self * yhat[l];
  } else {
    for (size_t n = 0; n < features_; ++n)
      for (size_t l = 0; l < lanes; ++l) slopes[n][l] += rate[l] * rows[n].count[l] * rows[n].mean[l];
  }
  return loss;
}

}  // namespace lamina
