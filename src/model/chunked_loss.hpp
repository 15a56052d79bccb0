// Loss and gradient over a set of prompts: chunks in parallel, their sums added in ascending order, so that the bits do not
// depend on threads.
#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "model/model.hpp"

namespace lamina {

// chunk_loss(first, last, slope) is the loss of prompts first..last-1; it adds to slope [parameters], which is null where
// gradient is.
template <class ChunkLoss>
double chunked_loss(int64_t count, int64_t chunk_length, size_t parameters, const Team& team, double* gradient,
                    const ChunkLoss& chunk_loss) {
  const int64_t chunks = (count + chunk_length - 1) / chunk_length;
  std::vector<double> losses(static_cast<size_t>(chunks));
  std::vector<std::vector<double>> slopes(static_cast<size_t>(chunks));
  team.for_each(chunks, [&](int64_t chunk, int) {
    const int64_t first = chunk * chunk_length, last = std::min(count, first + chunk_length);
    if (gradient) slopes[chunk].assign(parameters, 0.0);
    losses[chunk] = chunk_loss(first, last, gradient ? slopes[chunk].data() : nullptr);
  });
  if (gradient) std::fill_n(gradient, parameters, 0.0);
  for (size_t chunk = 0; gradient && chunk < slopes.size(); ++chunk)
    for (size_t i = 0; i < parameters; ++i) gradient[i] += slopes[chunk][i];
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

}  // namespace lamina
