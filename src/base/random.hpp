// Counter-based random numbers (Philox 4x64-10 of Random123): a draw is a function of seed, stream and index, so that any
// sample can be made on any thread in any order. Transforms use no libm.
#pragma once
#include <Random123/philox.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace lamina {

__extension__ typedef unsigned __int128 Wide;

// What a stream is for: streams with different purposes never share a number.
enum class Purpose : uint64_t { train = 1, test = 2, unseen = 3, weights = 4, shuffle = 5, embedding = 6, construction = 7 };

// The numbers of sample `index` of one purpose under one seed, in order.
class Random {
 public:
  Random(uint64_t seed, Purpose purpose, uint64_t index) : counter_(counter(0, purpose, index)), key_(key(seed)) {}
  // Philox makes of counter and key the words 4 block .. 4 block + 3.
  static r123::Philox4x64::ctr_type counter(uint64_t block, Purpose purpose, uint64_t index) {
    return {{block, index, static_cast<uint64_t>(purpose), 0}};
  }
  static r123::Philox4x64::key_type key(uint64_t seed) { return {{seed, 0x6c616d696e61}}; }

  uint64_t word() {
    if (used_ == 4) refill();
    return block_[used_++];
  }
  // Uniform on [0, 1), a multiple of 2^-53.
  double uniform() { return static_cast<double>(word() >> 11) * 0x1p-53; }
  // Uniform on 0..bound-1, bias below bound 2^-64.
  int64_t below(int64_t bound) {
    return static_cast<int64_t>((static_cast<Wide>(word()) * static_cast<uint64_t>(bound)) >> 64);
  }
  bool bernoulli(double probability) { return uniform() < probability; }
  // The next words, all at once: as many calls of word() give the same.
  void words(std::span<uint64_t> out);
  // Leaves out the next words; of a stream of which none was taken.
  void skip(uint64_t count) {
    counter_[0] = count / 4;
    for (count %= 4; count > 0; --count) word();
  }
  // Standard normal by inversion (Wichura, AS 241), relative error 1e-15; one word each.
  double normal();
  void normals(std::span<double> out);

 private:
  void refill();

  r123::Philox4x64::ctr_type counter_;
  r123::Philox4x64::key_type key_;
  r123::Philox4x64::ctr_type block_{};
  int used_ = 4;
};

// Words of 8 samples beside each other: 4 first .. 4 (first + blocks) - 1 of each into out [4 blocks, 8]. Of `filled` samples alone; the
// other columns are copies of that of the first.
void words_of_samples(uint64_t seed, Purpose purpose, std::span<const uint64_t, 8> index, int64_t filled, int64_t first, int64_t blocks,
                      uint64_t* out);

// What Random::normals makes of its words: out[i] of words[i].
void normals_of(std::span<const uint64_t> words, std::span<double> out);

}  // namespace lamina
