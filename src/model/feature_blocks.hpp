// Raw prompts on features in blocks of 8 with the same query, one to a lane and features down the rows: where a prompt is longer than
// there are features, most of them occur in it, and rows cost less than lists. Formulas in feature_model.hpp.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lamina {

class FeatureBlocks {
 public:
  static constexpr int64_t lanes = 8;
  using Lanes = std::array<double, lanes>;

  int64_t size() const { return static_cast<int64_t>(blocks_.size()); }
  int32_t query(int64_t block) const { return blocks_[static_cast<size_t>(block)].query; }

  bool occurs(int64_t block, size_t lane, int64_t feature) const {
    return rows_[static_cast<size_t>(block) * features_ + static_cast<size_t>(feature)].count[lane] > 0;
  }

  // The next prompt, queries ascending: how often each of `features` features occurs, and the sums of its labels.
  void add(int32_t query, double weight, double target, const std::vector<double>& count, const std::vector<double>& value);
  // Fills the lanes that are left with copies of weight 0.
  void finish();

  // Losses of a block under attention weights proportional to column [features], by lane. slopes [features] may be null: to them
  // is added what becomes -dL/dq_n, by lane. softmax: self is the query's own weight (0 if masked); else the weights are the mapped
  // scores over the length.
  Lanes evaluate(int64_t block, const double* column, double self, bool softmax, Lanes* slopes) const;

 private:
  struct Block {
    int32_t query;
    int64_t filled = 0;
    Lanes weight{}, target{}, length{};
  };
  struct Row {
    Lanes count, mean;  // of one feature; the mean of no label is 0
  };
  size_t features_ = 0;
  std::vector<Block> blocks_;
  std::vector<Row> rows_;  // [blocks, features]
};

}  // namespace lamina
