// Closed forms of next-token prediction and their rows in the registry; the formulas are in max_margin.hpp.
#include <array>
#include <cmath>

#include "kernels/scalar_math.hpp"
#include "theory/max_margin.hpp"
#include "theory/theory.hpp"

namespace lamina {

std::vector<double> feed_forward_max_margin(const NextTokenLaw& law) {
  const auto V = static_cast<size_t>(law.vocabulary);
  std::vector<double> W(V * V, -1 / static_cast<double>(V));
  for (size_t x = 0; x < V; ++x) W[static_cast<size_t>(law.next[x]) * V + x] += 1;
  return W;
}

std::vector<double> attention_max_margin(const NextTokenLaw& law) {
  const auto V = static_cast<size_t>(law.vocabulary);
  std::vector<double> W(V * V, 0.0);
  for (size_t q = 0; q < V; ++q) {
    double sum = 0, seen = 0;
    for (size_t x = 0; x < V; ++x)
      if (law.level[q * V + x] >= 0) sum += law.level[q * V + x], seen += 1;
    for (size_t x = 0; x < V; ++x)
      if (law.level[q * V + x] >= 0) W[x * V + q] = law.level[q * V + x] - sum / seen;
  }
  return W;
}

double collocation_loss(double vocabulary, double step_size, double steps) {
  return kernels::log1p((vocabulary - 1) * kernels::exp(-step_size * steps / std::sqrt(vocabulary - 1)));
}

namespace {

using Arguments = std::span<const double>;
using Results = std::span<double>;

double norm(const std::vector<double>& W) {
  double sum = 0;
  for (double w : W) sum += w * w;
  return std::sqrt(sum);
}

constexpr std::array rows{
    TheoryRow{"collocation_loss", "Loss of the collocations after t steps of normalised descent from zero: log(1 + (V-1) e^(-eta t / sqrt(V-1))).",
              "step_size, t -> loss", next_token_task, 2, 1,
              [](const Task* task, Arguments in, Results out) {
                out[0] = collocation_loss(static_cast<double>(task->next_token()->vocabulary), in[0], in[1]);
              }},
    TheoryRow{"max_margin_norms", "Frobenius norms of the max-margin matrices of the feed-forward part and of the attention.",
              "-> W_ov, W_kq", next_token_task, 0, 2,
              [](const Task* task, Arguments, Results out) {
                out[0] = norm(feed_forward_max_margin(*task->next_token())), out[1] = norm(attention_max_margin(*task->next_token()));
              }},
    TheoryRow{"attention_slope", "The limit of d ln(excess) / dt in the second stage of normalised descent: -eta / |W_kq*|.",
              "step_size -> slope", next_token_task, 1, 1,
              [](const Task* task, Arguments in, Results out) { out[0] = -in[0] / norm(attention_max_margin(*task->next_token())); }},
};

}  // namespace

std::span<const TheoryRow> next_token_forms() { return rows; }

}  // namespace lamina
