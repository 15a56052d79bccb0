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
  const Axis time{"time of gradient flow", true};
  Panel learnt("the learnt step", time, {"c = a b"}), excess("loss over its least value", time, {"excess", true, 1e-12});
  size_t i = 0;
  for (const std::string& start : with.list("starts")) {
    const std::string& step_size = step_sizes[i % step_sizes.size()];
    const Finished done = with.with({{"start", start}, {"step_size", step_size}}).run();
    const Hue hue = hues[i++ % 6];
    const double unit = std::strtod(step_size.c_str(), nullptr), last = unit * done.table.column("step")->back();
    const auto of_run = [&](const char* column, const std::string& name, Look look) {
      return scaled(curve_of(done.table, column, name, look, hue), unit);
    };
    const double end = theory("mesa_step_size", done.task.get(), {});
    learnt.curves.push_back(of_run("c", start, Look::measured));
    learnt.curves.push_back({start + ", theory", Look::limit, hue, {unit, last}, {end, end}});
    excess.curves.push_back(of_run("predicted", start + ", closed form", Look::predicted));
    excess.curves.push_back(of_run("excess", start + ", run", Look::measured));
  }
  return {"Rotating sequences, d = " + with.text("dimension") + ", T = " + with.text("prompt_length") +
              ": one step of gradient descent in context",
          2,
          {std::move(learnt), std::move(excess)}};
}

// The diagonal of an S x S block of tokens and its other entries. Rows keep their sums, so the mean of the others is known.
void add_block(Panel& panel, const Finished& done, const char* diagonal, const char* others, const std::string& graph, Hue hue) {
  const bool first = panel.curves.empty();
  panel.curves.push_back(curve_of(done.table, diagonal, graph + ", diagonal", Look::measured, hue));
  Curve law = curve_of(done.table, diagonal, first ? "others, by conserved sums" : "", Look::predicted, hue);
  const double start = law.y.front(), others_at_start = done.table.column(others)->front(), S = done.run.number("vocabulary");
  for (double& y : law.y) y = others_at_start + (start - y) / (S - 1);
  panel.curves.push_back(std::move(law));
  panel.curves.push_back(curve_of(done.table, others, graph + ", others", Look::dashed, hue));
}

// Training on each graph: attention on the parents, how much tokens attend to themselves and are read as themselves, and the loss above
// the posterior mean. The reduced model is trained in two stages and has no matrix of read-outs.
Plot causal(const Parameters& with) {
  const bool stages = with.text("variant") == "reduced";
  Panel parents("attention of a position on its parent", {"step"}, {"mean over positions"}),
      tokens(stages ? "tokens: A\u2082" : "tokens: their block of A\u2082", {"step"}, {"mean entry"}),
      read_out("attended tokens: their block of W", {"step"}, {"mean entry"}), loss("new sequences", {"step"}, {"cross-entropy (nats)"});
  parents.y.minimum = 0, parents.y.maximum = 1.03;
  size_t i = 0;
  double last = 0;
  for (const std::string& graph : with.list("graph")) {
    const Finished done = with.with({{"graph", graph}}).run();
    const Hue hue = hues[i++ % 6];
    last = done.table.column("step")->back();
    parents.curves.push_back(curve_of(done.table, "parent_attention", graph, Look::measured, hue));
    parents.curves.push_back(curve_of(done.table, "parent_attention_least", graph + ", least of all", Look::dashed, hue));
    add_block(tokens, done, "diagonal", "off_diagonal", graph, hue);
    if (!stages) add_block(read_out, done, "read_out_diagonal", "read_out_others", graph, hue);
    loss.curves.push_back(curve_of(done.table, "new_loss", graph, Look::measured, hue));
    const double posterior = done.last("new_loss") - done.last("new_excess");
    loss.curves.push_back({graph + ", posterior mean", Look::limit, hue, {0, last}, {posterior, posterior}});
  }
  const std::string sizes = ": S = " + with.text("vocabulary") + ", T = " + with.text("prompt_length");
  if (!stages) {
    const double uniform = std::log(with.number("vocabulary"));
    loss.curves.push_back({"log S, a uniform guess", Look::limit, Hue::grey, {0, last}, {uniform, uniform}});
    return {"Causal structure by a two-layer transformer" + sizes, 2, {std::move(parents), std::move(tokens), std::move(read_out), std::move(loss)}};
  }
  tokens.y.maximum = 3;
  for (Panel* panel : {&parents, &tokens, &loss}) panel->marks = {{with.number("stage_one_steps"), "second stage"}};
  return {"Causal structure in two stages" + sizes, 3, {std::move(parents), std::move(tokens), std::move(loss)}};
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
           "variant=reduced graph=chain,icl,random vocabulary=10 prompt_length=20 stage_one_steps=120 steps=320 record_every=10 evaluation_samples=500",
           "Causal structure: attention on the parents in the first stage, tokens in the second, and the loss beside the posterior mean.",
           "arXiv 2402.14735 (Nichani, Damian, Lee, ICML 2024), the authors' code; none of its figures.",
           "Stated: two stages on a disentangled transformer. Derived: rows of both matrices keep their sums; the loss of the posterior "
           "mean from the children of the query's copies. Choices: S = 10, T = 20, alpha = 0.1, step sizes, one seed, 500 new sequences.",
           causal},
    Figure{"causal_transformer", "causal_structure",
           "variant=catformer graph=icl,chain vocabulary=4 prompt_length=10 step_size=4 batch=256 steps=3000 record_every=50 "
           "evaluation_samples=4000",
           "Causal structure: the two-layer transformer finds the graph, compares tokens and reads them, all at once from zero.",
           "arXiv 2402.14735 (Nichani, Damian, Lee, ICML 2024), the authors' code; none of its figures.",
           "Stated: the first layer learns the graph, the second which tokens to look at. Derived: rows of both blocks of tokens keep "
           "their sums; the loss of the posterior mean from the children of the query's copies, which roots can better. Choices: sizes "
           "below the code's, step size 4 with a cosine to 0, one seed, 4000 new sequences.",
           causal},
};

}  // namespace

std::span<const Figure> mesa_causal_figures() {
  return figures;
}

}  // namespace cli
