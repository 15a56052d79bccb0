// Prompts on features as the model reads them: in blocks, or as lists of the features that occur.
#pragma once
#include <algorithm>
#include <numeric>

#include "model/feature_blocks.hpp"
#include "model/model.hpp"

namespace lamina {

// The features of one prompt are entries first..last-1 of the lists.
struct FeaturePrompt {
  int32_t query;
  int64_t first, last;
  double weight, target;  // target: y_query
};

class FeaturePrompts final : public CompiledPrompts {
 public:
  bool averaged = false;
  std::vector<int32_t> queries;  // that occur, ascending
  FeatureBlocks blocks;          // of raw prompts longer than there are features; else the lists below
  std::vector<FeaturePrompt> prompts;  // by query
  std::vector<int32_t> feature;
  std::vector<double> count, label;  // how often it occurs; its mean label, less the target for softmax
  FeatureCounts drawn;               // what the model drew, where it did

  // Lists of prompts with these queries, by read(i), a prompt as a block takes it. relative: labels less the target.
  template <class Read>
  void list(std::span<const int32_t> query, int64_t features, bool relative, const Read& read) {
    queries.clear(), prompts.clear(), feature.clear(), count.clear(), label.clear();
    std::vector<int64_t> order(query.size());
    std::iota(order.begin(), order.end(), int64_t{0});
    std::ranges::stable_sort(order, {}, [&](int64_t i) { return query[static_cast<size_t>(i)]; });
    for (const int64_t i : order) {
      const int32_t asked = query[static_cast<size_t>(i)];
      if (queries.empty() || queries.back() != asked) queries.push_back(asked);
      const FeatureBlocks::Prompt p = read(i);
      const auto first = static_cast<int64_t>(feature.size());
      for (int64_t n = 0; n < features; ++n) {
        if (p.occurs[n] == 0) continue;
        feature.push_back(static_cast<int32_t>(n)), count.push_back(p.occurs[n]);
        label.push_back(relative ? p.mean[n] - p.target : p.mean[n]);
      }
      prompts.push_back({asked, first, static_cast<int64_t>(feature.size()), p.weight, p.target});
    }
  }
};

}  // namespace lamina
