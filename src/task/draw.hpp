// How tasks draw from finite sets: packed uniform tokens, alias tables, subsets, partial permutations, Dirichlet laws. Every draw comes from
// base/random.hpp, so it is a function of seed, stream and index; nothing here uses libm.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.hpp"
#include "base/random.hpp"
#include "task/task.hpp"

namespace lamina {

// The stream of a split: splits never share a number.
inline Purpose purpose_of(Split split) {
  return split == Split::train ? Purpose::train : split == Split::test ? Purpose::test : Purpose::unseen;
}

// Independent uniform draws on 0..range-1, several from each 64-bit word: u = word / 2^64 gives floor(u range), the fraction
// that is left gives the next. The k draws of a word fall on range^k cells of [0, 1); k is the largest with range^k <= 2^24, so
// the joint probability of the k draws is off by less than 2^-40, relatively (by range 2^-64 where one draw fills a word).
class PackedUniform {
 public:
  explicit PackedUniform(int64_t range);
  int64_t range() const { return range_; }
  // out[i] = base + draw.
  void fill(Random& random, int32_t base, std::span<int32_t> out) const;

 private:
  int64_t range_;
  int per_word_;
};

// Walker's alias tables, one per row, built by Vose's method: a draw costs one word and one look-up. Eight bytes an entry; each
// probability is right to 2^-32, and a column of weight 0 is never drawn.
class AliasTables {
 public:
  AliasTables() = default;
  AliasTables(int64_t rows, int64_t columns)
      : columns_(columns), entries_(allocate("alias tables of a law", static_cast<double>(rows * columns) * sizeof(Entry),
                                             [&] { return std::vector<Entry>(static_cast<size_t>(rows * columns)); })) {}
  bool empty() const { return entries_.empty(); }
  int64_t columns() const { return columns_; }
  // weights [columns], finite, >= 0, with a positive sum.
  void set(int64_t row, std::span<const double> weights);
  int32_t draw(int64_t row, Random& random) const { return of_word(row, random.word()); }
  // As many draws.
  void fill(int64_t row, Random& random, std::span<int32_t> out) const {
    constexpr size_t most = 64;
    uint64_t words[most];
    for (size_t first = 0; first < out.size(); first += most) {
      const size_t count = std::min(most, out.size() - first);
      random.words({words, count});
      for (size_t i = 0; i < count; ++i) out[first + i] = of_word(row, words[i]);
    }
  }

 private:
  struct Entry {
    uint32_t threshold = 0;
    int32_t alias = 0;
  };
  int32_t of_word(int64_t row, uint64_t word) const {
    const auto product = static_cast<Wide>(word) * static_cast<uint64_t>(columns_);
    const auto column = static_cast<int32_t>(product >> 64);
    const Entry& entry = entries_[static_cast<size_t>(row * columns_ + column)];
    const bool own = static_cast<uint32_t>(static_cast<uint64_t>(product) >> 32) < entry.threshold;
    return entry.alias + (column - entry.alias) * own;  // no branch, which could not be foretold
  }
  int64_t columns_ = 0;
  std::vector<Entry> entries_;
};

// A uniform m-subset of 0..n-1 in ascending order, by Floyd's method: m draws whatever n is.
void draw_subset(Random& random, int64_t n, int64_t m, std::vector<int64_t>& out);

// A uniform sequence of distinct elements of a fixed set by partial Fisher-Yates; the swaps are undone afterwards, so what is
// drawn depends on the stream alone and not on earlier draws.
class PartialShuffle {
 public:
  explicit PartialShuffle(std::vector<int32_t> elements) : elements_(std::move(elements)) {}
  // The first of the sequence is element `first` if first >= 0, else drawn too. out.size() elements.
  void draw(Random& random, int64_t first, std::span<int32_t> out);

 private:
  std::vector<int32_t> elements_;
  std::vector<int64_t> swaps_;
};

// Independent Gamma(shape, 1) variables, shape >= 0.05: the first so many candidates that exact rejection accepts. They are functions
// of multiples of 2^-53, and 1e-304 stands for all below: at shape 0.05 one in 10^15.
void draw_gammas(Random& random, double shape, std::span<double> out);

// `rows` laws from Dirichlet(concentration, .., concentration), one after the other in out [rows, out.size() / rows]: gamma variables
// over their sum. concentration >= 0.05.
void draw_dirichlet(Random& random, double concentration, size_t rows, std::span<double> out);

}  // namespace lamina
