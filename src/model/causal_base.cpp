// Prompts of causal structure and the loss of their posterior mean.
#include "model/causal_base.hpp"

#include "kernels/scalar_math.hpp"

namespace lamina {

void CausalBase::require_law_of(const Task& task) const {
  const CausalLaw& given = *task.causal();
  if (S_ != given.vocabulary) fail_other_law("vocabulary", static_cast<double>(S_), static_cast<double>(given.vocabulary));
  if (T_ != given.length) fail_other_law("prompt_length", static_cast<double>(T_), static_cast<double>(given.length));
  if (law_.parent != given.parent || law_.concentration != given.concentration || law_.smoothing != given.smoothing)
    fail(LAMINA_E_ARGUMENT, "model is made for another graph, concentration or smoothing, must be made for the task's");
}

std::unique_ptr<CompiledPrompts> CausalBase::compile(const Prompts& prompts, std::span<const double> weights, const Team& team) const {
  auto out = std::make_unique<Sequences>();
  out->prompts = prompts;
  out->weight.assign(weights.begin(), weights.end());
  if (weights.empty()) out->weight.assign(static_cast<size_t>(prompts.count), 1 / static_cast<double>(prompts.count));
  out->baseline.resize(static_cast<size_t>(prompts.count));
  constexpr int64_t part = 64;
  team.for_each((prompts.count + part - 1) / part, [&](int64_t chunk, int) {
    for (int64_t i = chunk * part; i < std::min(prompts.count, (chunk + 1) * part); ++i)
      out->baseline[static_cast<size_t>(i)] = out->weight[static_cast<size_t>(i)] * baseline(prompts, i);
  });
  return out;
}

double CausalBase::loss_of(std::span<const double> pi, std::span<const double> f) const {
  double loss = 0;
  for (size_t y = 0; y < pi.size(); ++y)
    if (pi[y] > 0) loss -= pi[y] * kernels::log(f[y] + smoothing_);
  return loss;
}

double CausalBase::baseline(const Prompts& prompts, int64_t i) const {
  std::vector<double> f(static_cast<size_t>(S_), law_.concentration);
  const auto row = prompts.row(i);
  double sum = static_cast<double>(S_) * law_.concentration;
  for (int64_t j = 0; j < T_; ++j)
    if (is_child(row, j)) f[static_cast<size_t>(row[static_cast<size_t>(j)])] += 1, sum += 1;
  for (double& p : f) p /= sum;
  return loss_of(prompts.values_of(i), f);
}

}  // namespace lamina
