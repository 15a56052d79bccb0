// How often each feature occurs among N independent draws, without the draws: the N are halved between the lower and the upper half of
// the features, each half again, down to single features. How many of n fall into the lower half is binomial, so K - 1 binomial
// numbers make one of Multinomial(N, p). Each is a look-up by one 32-bit word; of n + 1 outcomes that are right to 2^-32 their law is off by
// (n + 1) / 2 2^-32 in total variation, and all of K features by 2^-30 N at most, there being six halvings above a feature: 2^-23 for
// N = 100, in truth a tenth, for what is rounded has either sign.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace lamina {

// Laws of a 32-bit word, as Walker's alias tables in integers: outcome j of a law has probability W_j / 2^32 exactly, the W_j integers of
// sum 2^32 with |W_j / 2^32 - p_j| <= 2^-32, for it is their sums up to j that are rounded. The columns of a law are a power of two, of 4
// bytes each.
class WordLaws {
 public:
  // weights >= 0, one positive at least, at most 2^16 of them. The number of the law: 0, 1, ..
  size_t add(std::span<const double> weights);
  int32_t draw(size_t law, uint32_t word) const {
    const Law& l = laws_[law];
    // The upper bits of the word are the column; what is left, in the upper bits of 32, is compared with the column's threshold there,
    // whose lower bits hold the alias.
    const uint64_t product = static_cast<uint64_t>(word) * (static_cast<uint64_t>(l.mask) + 1);
    const auto column = static_cast<uint32_t>(product >> 32), rest = static_cast<uint32_t>(product) | l.mask;
    const uint32_t entry = entries_[l.first + column];
    const uint32_t alias = entry & l.mask, own = -static_cast<uint32_t>(rest < entry);
    return static_cast<int32_t>(alias ^ ((alias ^ column) & own));  // no branch, which could not be foretold
  }

 private:
  struct Law {
    uint32_t first, mask;  // its columns: first .. first + mask
  };
  std::vector<Law> laws_;
  std::vector<uint32_t> entries_;
};

class Multinomial {
 public:
  static constexpr int64_t most_features = 64;

  // probability [K], positive, K <= most_features; N >= 0. Tables of at most 3 MB; one for all halves of a law that is the same for all.
  Multinomial(std::span<const double> probability, int64_t length);

  // N is the sum of so many numbers, each at most 127: counts of each are to be drawn and added.
  int64_t parts() const { return parts_; }
  // Counts of number `part` into counts [K, lanes], of K - 1 halves of words from the first-th on: half i of a lane is
  // word[lane * stride + i / 2], its lower half first.
  void draw(int64_t part, int64_t lanes, const uint64_t* words, int64_t stride, int64_t first, int32_t* counts) const;

 private:
  struct Half {
    int64_t first, middle;  // features first .. middle - 1 of those that begin with `first`
    size_t law;             // of n = 0: the binomial laws are one after the other
  };
  void halve(std::span<const double> probability, int64_t first, int64_t last);
  size_t binomials(double p);

  int64_t features_, length_, parts_;
  std::vector<Half> halves_;  // parents before children
  WordLaws laws_;
  std::vector<std::pair<double, size_t>> known_;  // p, and the law of n = 0
};

}  // namespace lamina
