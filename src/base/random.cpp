// Words of Philox, and the normal transform, of words one at a time and many at once.
#include "base/random.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/drawing.hpp"
#include "kernels/inverse_normal.hpp"
#include "kernels/scalar_math.hpp"

namespace lamina {

void Random::refill() {
  block_ = r123::Philox4x64()(counter_, key_);
  ++counter_[0];
  used_ = 0;
}

void Random::words(std::span<uint64_t> out) {
  size_t i = 0;
  while (i < out.size() && used_ < 4) out[i++] = block_[used_++];
  for (; i + 4 <= out.size(); i += 4) {
    const auto block = r123::Philox4x64()(counter_, key_);
    ++counter_[0];
    for (size_t j = 0; j < 4; ++j) out[i + j] = block[j];
  }
  while (i < out.size()) out[i++] = word();
}

void words_of_samples(uint64_t seed, Purpose purpose, std::span<const uint64_t, 8> index, int64_t filled, int64_t first, int64_t blocks,
                      uint64_t* out) {
  constexpr size_t lanes = 8;
  const r123::Philox4x64::key_type key = Random::key(seed);
  for (int64_t b = 0; b < blocks; ++b, out += 4 * lanes) {
    for (size_t l = 0; l < static_cast<size_t>(filled); ++l) {
      const auto block = r123::Philox4x64()(Random::counter(static_cast<uint64_t>(first + b), purpose, index[l]), key);
      for (size_t j = 0; j < 4; ++j) out[j * lanes + l] = block[j];
    }
    for (size_t j = 0; j < 4; ++j) std::fill(out + j * lanes + filled, out + (j + 1) * lanes, out[j * lanes]);
  }
}

double Random::normal() {
  using kernels::InverseNormal;
  const double q = InverseNormal::probability(word()) - 0.5, size = std::fabs(q);
  if (size <= InverseNormal::central_half) return InverseNormal::central(q);
  const double r = std::sqrt(-kernels::log(0.5 - size));
  return std::copysign(r <= 5 ? InverseNormal::middle(r) : InverseNormal::beyond(r), q);
}

void Random::normals(std::span<double> out) {
  constexpr size_t most = 64;
  uint64_t word[most];
  for (size_t first = 0; first < out.size(); first += most) {
    const std::span<double> part = out.subspan(first, std::min(most, out.size() - first));
    words({word, part.size()});
    normals_of({word, part.size()}, part);
  }
}

void normals_of(std::span<const uint64_t> words, std::span<double> out) {
  kernels::drawing().normals(static_cast<int64_t>(out.size()), words.data(), out.data());
}

}  // namespace lamina
