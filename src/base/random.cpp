// Words of Philox, and the normal transform, of words one at a time and many at once.
#include "base/random.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/inverse_normal.hpp"
#include "kernels/normals.hpp"
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
  kernels::normals_of_words()(static_cast<int64_t>(out.size()), words.data(), out.data());
}

}  // namespace lamina
