// Probes of rotating sequences: the blocks of the model, and whether it recovers the sequence.
#include <array>
#include <cmath>

#include "probe/probe.hpp"
#include "theory/rotation_population.hpp"

namespace lamina {
namespace {

constexpr int64_t recovered_prompts = 512, longest_recovered = 1 << 15;  // numbers in a prompt

bool always(const Model&, const Task&, const Settings&) { return true; }
bool drawable(const Model&, const Task& task, const Settings&) { return task.values() <= longest_recovered; }
bool literal(const Model& model, const Task&, const Settings&) { return model.settings().is("variant", "original"); }

// Of a literal model the means along the two diagonals, and the largest entry elsewhere.
struct Blocks {
  double a = 0, b = 0, off = 0;
};
Blocks blocks_of(const ProbeState& state) {
  const std::vector<double>& x = state.model().parameters();
  if (state.model().has_tensor("a")) return {x[0], x[1], 0};
  const int64_t d = state.task.rotation()->dimension, D = 2 * d, p = d * D;
  Blocks blocks;
  for (int64_t j = 0; j < d; ++j) {
    blocks.a += x[2 * p + (d + j) * D + j] / static_cast<double>(d);
    blocks.b += x[j * D + j] / static_cast<double>(d);
  }
  for (int64_t i = 0; i < std::ssize(x); ++i) {
    const bool value = i < p, key = i >= 2 * p && i < 2 * p + D * D;
    const int64_t row = value ? i / D : (i - 2 * p) / D, column = i % D;
    if ((value && row == column) || (key && row == d + column)) continue;
    blocks.off = std::max(blocks.off, std::abs(x[i]));
  }
  return blocks;
}

void blocks(const ProbeState& state, std::vector<double>& row) {
  const Blocks found = blocks_of(state);
  row.insert(row.end(), {found.a, found.b, found.a * found.b});
}

// Of test sequences without their last vector, the mean over coordinates that are not 0 of Re yhat_j / x_j.
void recovery(const ProbeState& state, std::vector<double>& row) {
  const int64_t d = state.task.rotation()->dimension, T = state.task.rotation()->length;
  Prompts whole, known;
  state.task.sample(Split::test, static_cast<uint64_t>(state.training.integer("seed")), 0, recovered_prompts, whole);
  known.resize(recovered_prompts, T - 1);
  for (int64_t i = 0; i < recovered_prompts; ++i) {
    const auto values = whole.values_of(i);
    known.values.insert(known.values.end(), values.begin(), values.end() - 2 * d);
  }
  std::vector<double> yhat(static_cast<size_t>(recovered_prompts * 2 * d));
  state.model().forward(known, LogitPart::all, yhat.data(), nullptr);
  double sum = 0, count = 0;
  for (int64_t i = 0; i < recovered_prompts; ++i) {
    const double *x = &whole.values_of(i)[static_cast<size_t>((T - 1) * 2 * d)], *y = &yhat[i * 2 * d];
    for (int64_t j = 0; j < 2 * d; j += 2) {
      const double square = x[j] * x[j] + x[j + 1] * x[j + 1];
      if (square == 0) continue;
      sum += (x[j] * y[j] + x[j + 1] * y[j + 1]) / square, count += 1;
    }
  }
  row.push_back(sum / count);
}

constexpr std::array rows{
    ProbeRow{"mesa_blocks", rotation_task, "a, b, and the step of gradient descent in context that they make.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"a", "W_KQ's lower left block is a I (its mean diagonal)"},
                                          {"b", "W_PV's left block is b I (its mean diagonal)"},
                                          {"c", "a b"}};
             },
             blocks, always, true},
    ProbeRow{"recovery_ratio", rotation_task, "Whether the last vector of test sequences is recovered.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"recovery_ratio", "mean of Re yhat_j / x_j over coordinates that are not 0; 1 is recovery"}};
             },
             recovery, drawable, true},
    ProbeRow{"off_diagonal", rotation_task, "How far W_PV and W_KQ are from their block form.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"off_diagonal", "largest absolute part of an entry off the two diagonals"}};
             },
             [](const ProbeState& state, std::vector<double>& row) { row.push_back(blocks_of(state).off); }, literal, true},
};

}  // namespace

std::span<const ProbeRow> rotation_probes() { return rows; }

}  // namespace lamina
