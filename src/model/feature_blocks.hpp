// Raw prompts on features in blocks of 8 with the same query, one to a lane and features down the rows: where a prompt is longer than
// there are features, most of them occur in it, and rows cost less than lists. Formulas in feature_model.hpp.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/parallel.hpp"
#include "task/counted_prompts.hpp"

namespace lamina {

class FeatureBlocks {
 public:
  static constexpr int64_t lanes = 8;
  using Lanes = std::array<double, lanes>;
  // Blocks that are evaluated one after the other, which fixes the order of summation: some twenty microseconds of work, for less is
  // not worth another thread's waking.
  static constexpr int64_t chunk(int64_t features) { return std::max<int64_t>(8, 2048 / features); }

  int64_t size() const { return static_cast<int64_t>(blocks_.size()); }
  std::vector<int32_t> queries() const;  // that occur, ascending
  int32_t query(int64_t block) const { return blocks_[static_cast<size_t>(block)].query; }

  bool occurs(int64_t block, size_t lane, int64_t feature) const {
    return occurs_of(block)[feature][lane] > 0;
  }

  // Blocks for prompts with these queries, in ascending order of query and then of prompt; to be filled. For softmax attention, whose
  // weights add up to 1, rows hold how far a label is from the target: yhat - target is their mean, and loses nothing where it is small.
  void arrange(std::span<const int32_t> queries, int64_t features, bool softmax);
  // A prompt as lane of a block: how often each feature occurs, and the mean of its labels (of none: any finite number).
  struct Prompt {
    const double *occurs, *mean;  // [features]
    double weight, target;
  };
  // Fills a block with the prompts that read(i) gives; lanes that are left get copies of weight 0. Different blocks may be filled on
  // different threads.
  template <class Read>
  void fill(int64_t block, const Read& read) {
    const Block& b = blocks_[static_cast<size_t>(block)];
    for (int64_t lane = 0; lane < b.filled; ++lane) put(block, lane, read(order_[static_cast<size_t>(b.first + lane)]));
    pad(block);
  }

  // Blocks of prompts first..first+count-1 of the training split, equal weights: drawn with the same query side by side, in their place.
  void draw(const CountedPrompts& law, uint64_t seed, int64_t first, int64_t count, bool softmax, const Team& team);

  // Losses of a block under attention weights proportional to column [features], by lane. slopes [features] may be null: to them
  // is added what becomes -dL/dq_n, by lane. softmax: self is the query's own weight (0 if masked); else the weights are the mapped
  // scores over the length.
  Lanes evaluate(int64_t block, const double* column, double self, Lanes* slopes) const;

 private:
  struct Block {
    int32_t query;
    int64_t first, filled;  // of order_
    Lanes weight{}, target{}, length{};
  };
  void put(int64_t block, int64_t lane, const Prompt& prompt);
  void pad(int64_t block);
  const Lanes* occurs_of(int64_t block) const { return &rows_[static_cast<size_t>(block) * 2 * features_]; }
  Lanes* occurs_of(int64_t block) { return &rows_[static_cast<size_t>(block) * 2 * features_]; }

  size_t features_ = 0;
  bool softmax_ = false;
  std::vector<Block> blocks_;
  std::vector<Lanes> rows_;     // [blocks, 2, features]: how often each occurs; their mean labels, less the target for softmax
  std::vector<int64_t> order_;  // prompts by query
  std::vector<CountedPrompts::Head> heads_;  // of those that are drawn here
  std::vector<int32_t> asked_;
};

}  // namespace lamina
