// Prompts of in_context_convergence as counts of features, where they are longer than there are features: 8 of them at a time, in lanes. A
// prompt's stream: its query and the halvings of the first part of its counts, its labels, the halvings of the other parts; a half of a
// word each.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/random.hpp"
#include "task/multinomial.hpp"
#include "task/task.hpp"

namespace lamina {

class CountedPrompts {
 public:
  static constexpr int64_t lanes = Multinomial::lanes;

  // law.features <= law.length and Multinomial::most_features. root [K, K]: a Cholesky factor of the second moments of labels; empty:
  // labels are standard normal.
  CountedPrompts(const FeatureLaw& law, std::vector<double> root);

  int64_t features() const { return features_; }
  int64_t length() const { return length_; }
  // How many words of its stream a prompt takes.
  uint64_t words() const { return static_cast<uint64_t>(half_ * (counts_.parts() + 1)); }

  // The first words of prompts, from which their queries come, so that prompts with the same query can be drawn side by side.
  struct Head {
    std::array<uint64_t, 4> word;
  };
  // Of prompts first..first+count-1, those of a split whose purpose is given.
  void queries(uint64_t seed, Purpose purpose, int64_t first, int64_t count, Head* heads, int32_t* query) const;
  // One prompt a lane, index[l] with heads[l]; lanes from `filled` >= 1 on are copies of the first. occurs, label [K, lanes]: how often
  // each feature occurs, and its label; label may be null.
  using Lanes = std::array<double, lanes>;
  void draw(uint64_t seed, Purpose purpose, std::span<const uint64_t, lanes> index, const Head* const (&heads)[lanes], int64_t filled,
            Lanes* occurs, Lanes* label) const;

 private:
  int64_t features_, length_, half_;  // half_: words of features_ halves
  Multinomial counts_;
  WordLaw query_;
  std::vector<double> root_;
};

}  // namespace lamina
