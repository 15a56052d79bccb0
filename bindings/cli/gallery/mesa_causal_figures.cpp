// The figures of two more relatives: mesa-optimisation (arXiv 2405.16845) and causal structure (arXiv 2402.14735).
#include <array>
#include <cmath>

#include "gallery/figure.hpp"
#include "picture.hpp"

namespace cli {
namespace {

// The step c = a b and the excess along gradient flow from each start, beside the logistic closed form and where it ends.
Plot steps(const Parameters& with) {
  const std::vector<std::string> step_sizes = with.list("step_sizes");
  const Axis stretches{"stretches of gradient flow", true, 1};
  Panel learnt("the learnt step", stretches, {"c = a b"}), excess("loss over its least value", stretches, {"excess", true, 1e-12});
  size_t i = 0;
  double last = 0;
  for (const std::string& start : with.list("starts")) {
    const Finished done = with.with({{"start", start}, {"step_size", step_sizes[i % step_sizes.size()]}}).run();
    const Hue hue = hues[i++ % 6];
    last = done.table.column("step")->back();
    const double end = theory("mesa_step_size", done.task.get(), {});
    learnt.curves.push_back(curve_of(done.table, "c", start, Look::measured, hue));
    learnt.curves.push_back({start + ", theory", Look::limit, hue, {1, last}, {end, end}});
    excess.curves.push_back(curve_of(done.table, "predicted", start + ", closed form", Look::predicted, hue));
    excess.curves.push_back(curve_of(done.table, "excess", start + ", run", Look::measured, hue));
  }
  return {"Rotating sequences, d = " + with.text("dimension") + ", T = " + with.text("prompt_length") +
              ": one step of gradient descent in context",
          2,
          {std::move(learnt), std::move(excess)}};
}

// Both stages on each graph: attention on the parents, then how much tokens attend to themselves, and the loss above the posterior.
Plot causal(const Parameters& with) {
  const double turn = with.number("stage_one_steps");
  Panel parents("attention of a position on its parent", {"step"}, {"mean over positions"}),
      tokens("tokens: A\u2082", {"step"}, {"mean entry"}), loss("new sequences", {"step"}, {"cross-entropy (nats)"});
  parents.y.minimum = 0, parents.y.maximum = 1.03;
  size_t i = 0;
  double last = 0;
  for (const std::string& graph : with.list("graph")) {
    const Finished done = with.with({{"graph", graph}}).run();
    const Hue hue = hues[i++ % 6];
    last = done.table.column("step")->back();
    parents.curves.push_back(curve_of(done.table, "parent_attention", graph, Look::measured, hue));
    parents.curves.push_back(curve_of(done.table, "parent_attention_least", graph + ", least of all", Look::dashed, hue));
    tokens.curves.push_back(curve_of(done.table, "diagonal", graph + ", diagonal", Look::measured, hue));
    // Rows of A2 keep their sums, so the mean of the other entries is (beta_0 - diagonal) / (S - 1).
    const double S = done.run.number("vocabulary"), start = done.run.number("initial_scale");
    Curve law = curve_of(done.table, "diagonal", i == 1 ? "others, by conserved sums" : "", Look::predicted, hue);
    for (double& y : law.y) y = (start - y) / (S - 1);
    tokens.curves.push_back(std::move(law));
    tokens.curves.push_back(curve_of(done.table, "off_diagonal", graph + ", others", Look::dashed, hue));
    loss.curves.push_back(curve_of(done.table, "new_loss", graph, Look::measured, hue));
    const double posterior = done.last("new_loss") - done.last("new_excess");
    loss.curves.push_back({graph + ", posterior mean", Look::limit, hue, {0, last}, {posterior, posterior}});
  }
  tokens.y.maximum = 3;
  for (Panel* panel : {&parents, &tokens, &loss}) panel->marks = {{turn, "second stage"}};
  return {"Causal structure in two stages: S = " + with.text("vocabulary") + ", T = " + with.text("prompt_length"),
          2,
          {std::move(parents), std::move(tokens), std::move(loss)}};
}

constexpr std::array figures{
    Figure{"mesa_steps", "mesa_optimisation",
           "dimension=5 prompt_length=100 starts=gaussian,sparse,ones step_sizes=2e-4,3e-3,5e-4 optimiser=flow steps=400 "
           "probes=mesa_blocks,predicted",
           "Rotating sequences: the step of descent that linear attention learns from each start, and its course.",
           "arXiv 2405.16845 (Zheng et al., NeurIPS 2024), its code and captions; none of its figures.",
           "Stated: c = a b tends to 1/(5 sigma^2) for Gaussian starts and 1/scale^2 for sparse ones. Derived: the value at finite T for "
           "every start, and the logistic course of gradient flow. Choices: d = 5, T = 100, scale 1, 400 stretches of gradient flow; "
           "all ones within the block form.",
           steps},
    Figure{"causal_stages", "causal_structure",
           "graph=chain,icl,random vocabulary=10 prompt_length=20 stage_one_steps=120 steps=320 record_every=10 evaluation_samples=500",
           "Causal structure: attention on the parents in the first stage, tokens in the second, and the loss beside the posterior mean.",
           "arXiv 2402.14735 (Nichani, Damian, Lee, ICML 2024), the authors' code; none of its figures.",
           "Stated: two stages on a disentangled transformer. Derived: rows of both matrices keep their sums; the loss of the posterior "
           "mean from the children of the query's copies. Choices: S = 10, T = 20, alpha = 0.1, step sizes, one seed, 500 new sequences.",
           causal},
};

}  // namespace

std::span<const Figure> mesa_causal_figures() {
  return figures;
}

}  // namespace cli
