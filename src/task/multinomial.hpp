// How often each feature occurs among N independent draws, without the draws: the N are halved between the lower and the upper half of
// the features, each half again, down to single features. How many of n fall into the lower half is binomial, so K - 1 binomial
// numbers make one of Multinomial(N, p). Each is a look-up by one 32-bit word; of n + 1 outcomes that are right to 2^-32 their law is off by
// (n + 1) / 2 2^-32 in total variation, and all of K features by 2^-30 N at most, there being six halvings above a feature: 2^-23 for
// N = 100, in truth a tenth, for what is rounded has either sign.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/drawing.hpp"

namespace lamina {

// The law of a 32-bit word, as Walker's alias table in integers: outcome j has probability W_j / 2^32 exactly, the W_j integers of
// sum 2^32 with |W_j / 2^32 - p_j| <= 2^-32, for it is their sums up to j that are rounded. The columns are the fewest that are a power of
// two and hold all outcomes, of 4 bytes each.
class WordLaw {
 public:
  // weights >= 0, one positive at least, at most 2^16 of them.
  explicit WordLaw(std::span<const double> weights);
  std::span<const uint32_t> columns() const { return entries_; }
  int32_t draw(uint32_t word) const {
    // The upper bits of the word are the column; what is left, in the upper bits of 32, is compared with the column's threshold there,
    // whose lower bits hold the alias.
    const auto mask = static_cast<uint32_t>(entries_.size() - 1);
    const uint64_t product = static_cast<uint64_t>(word) * entries_.size();
    const auto column = static_cast<uint32_t>(product >> 32), rest = static_cast<uint32_t>(product) | mask;
    const uint32_t entry = entries_[column], alias = entry & mask, own = -static_cast<uint32_t>(rest < entry);
    return static_cast<int32_t>(alias ^ ((alias ^ column) & own));  // no branch, which could not be foretold
  }

 private:
  std::vector<uint32_t> entries_;
};

class Multinomial {
 public:
  static constexpr int64_t most_features = 64, lanes = kernels::drawing_lanes;

  // probability [K], positive, K <= most_features; N >= 0. Tables of at most 4 MB; one for all halves of a law that is the same for all.
  Multinomial(std::span<const double> probability, int64_t length);

  // N is the sum of so many numbers, each at most 127: counts of each are to be drawn and added.
  int64_t parts() const { return parts_; }
  // Counts of number `part` into counts [K, lanes], of K - 1 halves of words [., lanes] from the first-th on, as in kernels/drawing.hpp.
  void draw(int64_t part, const uint64_t* words, int64_t first, int32_t* counts) const;

 private:
  int64_t most_of_part() const { return parts_ == 0 ? 0 : (length_ + parts_ - 1) / parts_; }
  void halve(std::span<const double> probability, int64_t first, int64_t last);
  const uint32_t* binomials(double p);

  struct Laws {
    double p;
    std::unique_ptr<const uint32_t[]> columns;  // [n, 2^bits]: of n = 0 .. the longest part
  };

  int64_t length_, parts_;
  int bits_;  // that hold the longest part
  std::vector<kernels::Halving> halvings_;  // parents before children
  std::vector<Laws> laws_;
};

}  // namespace lamina
