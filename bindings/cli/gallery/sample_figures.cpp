// The figures of in-context convergence on samples, and of its variants: sampled descent, a fixed set, the mask, the function class.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "gallery/figure.hpp"
#include "picture.hpp"

namespace cli {
namespace {

// Sampled descent beside descent on the population, and how far it ends from it against the batch.
Plot sampled(const Parameters& with) {
  const Finished exact = with.with({{"data", "population"}, {"batch", "0"}, {"seed", "1"}}).run();
  const char* const watched[] = {"A_0", "A_1", "B_1_0"};
  const std::vector<std::string> batches = with.list("batch"), seeds = with.list("seed");
  const double eta = with.number("step_size");
  Panel course("logits, " + batches.front() + " prompts a step, seed " + seeds.front(), {eta_t}, {"entry of Q"}),
      error("after the last update", {"prompts a step B", true}, {"root mean square error of A_1, A_k, B_{k,1}", true});
  error.x.tics = numbers_of(batches);
  Curve errors{"over " + std::to_string(seeds.size()) + " seeds; bars: from the best to the worst", Look::marks, Hue::blue},
      guide{"B^{-1/2}, through the last", Look::limit, Hue::grey};
  for (const std::string& batch : batches) {
    double all = 0, best = std::numeric_limits<double>::infinity(), worst = 0;
    for (const std::string& seed : seeds) {
      const Finished done = with.with({{"batch", batch}, {"seed", seed}}).run();
      double squares = 0;
      for (const char* entry : watched) squares += std::pow(done.last(entry) - exact.last(entry), 2) / 3;
      all += squares / static_cast<double>(seeds.size()), best = std::min(best, squares), worst = std::max(worst, squares);
      if (&batch != &batches.front() || &seed != &seeds.front()) continue;
      const char* const names[] = {"A_1, dominant", "A_k, rare", "B_{k,1}"};
      for (size_t i = 0; i < 3; ++i) {
        const std::string name = names[i];
        course.curves.push_back(scaled(curve_of(exact.table, watched[i], name + ", population", Look::predicted, hues[i]), eta));
        course.curves.push_back(scaled(curve_of(done.table, watched[i], name + ", sampled", Look::measured, hues[i]), eta));
      }
    }
    errors.x.push_back(std::strtod(batch.c_str(), nullptr));
    errors.y.push_back(std::sqrt(all)), errors.low.push_back(std::sqrt(best)), errors.high.push_back(std::sqrt(worst));
  }
  for (const double B : errors.x) guide.x.push_back(B), guide.y.push_back(errors.y.back() * std::sqrt(errors.x.back() / B));
  error.curves = {std::move(errors), std::move(guide)};
  return {"Sampled descent, K = " + with.text("features") + ", N = " + with.text("prompt_length") + ", p\u2081 = " + with.text("dominant") +
              ", \u03b7 = " + with.text("step_size"),
          2,
          {std::move(course), std::move(error)}};
}

// Descent on fixed sets: the loss on the set, and on the population.
Plot fixed_sets(const Parameters& with) {
  const double K = with.number("features"), p = with.number("dominant"), eta = with.number("step_size");
  std::string all;
  for (int k = 0; k < static_cast<int>(K); ++k) all += (k ? "," : "") + std::to_string(k);
  Plot plot{"Fixed sets of M prompts, K = " +
                with.text("features") + ", N = " + with.text("prompt_length") + ", \u03b7 = " + with.text("step_size") + ": too few leave a feature out",
            2, {}};
  size_t i = 0;
  for (const std::string& M : with.list("samples")) {
    const Finished done = with.with({{"samples", M}, {"watched", all}}).run();
    const Hue hue = hues[i++ % 6];
    Panel panel("M = " + M, {eta_t, true, eta}, {"loss", true, 1e-5, 1});
    Curve population = scaled(curve_of(done.table, "loss_0", "population", Look::dashed, hue), eta);
    for (double& y : population.y) y *= p;
    for (int k = 1; k < static_cast<int>(K); ++k) {
      const auto& of_query = *done.table.column("loss_" + std::to_string(k));
      for (size_t row = 0; row < population.y.size(); ++row) population.y[row] += (1 - p) / (K - 1) * of_query[row];
    }
    const double floor = theory("loss_infimum", done.task.get(), {}), last = eta * done.table.column("step")->back();
    panel.curves = {scaled(curve_of(done.table, "loss", "fixed set", Look::measured, hue), eta), std::move(population),
                    {"infimum on the population", Look::limit, Hue::grey, {eta, last}, {floor, floor}}};
    plot.panels.push_back(std::move(panel));
  }
  return plot;
}

// With and without the mask: where runs end against N, and the floor that the query's own weight leaves.
Plot mask(const Parameters& with) {
  const std::vector<std::string> lengths = with.list("prompt_length");
  const std::vector<double> numbers = numbers_of(lengths);
  const double K = with.number("features"), eta = with.number("step_size"), last = eta * with.number("steps");
  Panel course("N = " + lengths.front(), {eta_t, true, eta}, {"loss", true}),
      floors("infimum, and losses at \u03b7 t = " + format_number(last, 6), {"prompt length N", true}, {"loss", true, 1e-8});
  floors.x.tics = numbers;
  for (const bool masked : {true, false}) {
    const Hue hue = hues[masked ? 0 : 1];
    const std::string name = masked ? "query masked" : "query attends to itself";
    const Parameters here = with.with({{"mask", masked ? "yes" : "no"}});
    Curve law{name + ", infimum", Look::predicted, hue}, ends{name + ", end of a run", Look::marks, hue},
        estimate{masked ? "K/(4 \u03b7 t)" : "(K/N)\u00b2 / 2", Look::limit, hue};
    for (double N = numbers.front(); N <= numbers.back(); N = std::max(N + 1, std::round(1.05 * N))) {
      law.x.push_back(N), law.y.push_back(theory("loss_infimum", here.with({{"prompt_length", format_number(N, 9)}}).make_task().get(), {}));
      estimate.x.push_back(N), estimate.y.push_back(masked ? K / (4 * last) : 0.5 * K * K / (N * N));
    }
    for (const std::string& N : lengths) {
      const Finished done = here.with({{"prompt_length", N}}).run();
      ends.x.push_back(std::strtod(N.c_str(), nullptr)), ends.y.push_back(done.last("loss"));
      if (N != lengths.front()) continue;
      const double floor = theory("loss_infimum", done.task.get(), {});
      course.curves.push_back(scaled(curve_of(done.table, "loss", name, Look::measured, hue), eta));
      course.curves.push_back({name + ", infimum", Look::limit, hue, {eta, last}, {floor, floor}});
    }
    floors.curves.push_back(std::move(law)), floors.curves.push_back(std::move(ends)), floors.curves.push_back(std::move(estimate));
  }
  return {"Balanced features, K = " + with.text("features") + ", \u03b7 = " + with.text("step_size") + ": a query that attends to itself", 2,
          {std::move(course), std::move(floors)}};
}

// Second moments [K,K] as the option's text.
template <class Moment>
std::string moments_of(int K, Moment moment) {
  std::string text;
  for (int m = 0; m < K; ++m)
    for (int n = 0; n < K; ++n) text += (m + n ? "," : "") + format_number(moment(m, n), 17);
  return text;
}

// f at every recorded step but 0 of a run, in eta t.
template <class F>
Curve along(const Finished& done, double eta, const std::string& name, Hue hue, F f) {
  Curve curve{name, Look::predicted, hue, {}, {}};
  for (const double step : *done.table.column("step"))
    if (step > 0) curve.x.push_back(eta * step), curve.y.push_back(f(eta * step));
  return curve;
}

// Classes of functions: labels of another scale or with a part in common train as linear ones at another step size; features on which f is
// always the same, twins, share the attention.
Plot functions(const Parameters& with) {
  const int K = static_cast<int>(with.number("features"));
  const double eta = with.number("step_size"), c = with.number("scale"), rho = with.number("correlation"), others = K - 2;
  const Axis time{eta_t, true, eta};
  Panel attention("attention of a query to its own feature", time, {"E Attn_k"}), loss("its loss", time, {"loss L_k", true}),
      shared("query v_0 where f(v_0) = f(v_1) always", time, {"E Attn"}), logits("its logits", time, {"entry of Q"});
  for (Panel* panel : {&attention, &shared}) panel->y.minimum = 0, panel->y.maximum = 1.03;
  struct Class {
    std::string name;
    double variance, common;
    Look look;
  };
  const std::string scale = with.text("scale"), correlation = with.text("correlation");
  const Class classes[] = {{"f linear", 1, 0, Look::measured}, {"labels times " + scale, c * c, 0, Look::measured},
                           {"correlation " + correlation, 1, rho, Look::measured}};
  size_t i = 0;
  for (const Class& of : classes) {
    const Hue hue = hues[i++];
    const auto moment = [&](int m, int n) { return of.variance * (m == n ? 1 : of.common); };
    const Finished done = with.with({{"watched", "0"}, {"second_moments", moments_of(K, moment)}}).run();
    const Task linear = with.make_task();
    const double rate = of.variance * (1 - of.common);
    const auto flow = [&](double t) { return theory("flow_attention", linear.get(), {rate * t}); };
    const std::string law = i == 1 ? "gradient flow at t, " + scale + "\u00b2 t, (1 - " + correlation + ") t" : "";
    attention.curves.push_back(along(done, eta, law, hue, flow));
    attention.curves.push_back(scaled(curve_of(done.table, "attention_0", of.name, of.look, hue), eta));
    loss.curves.push_back(along(done, eta, i == 1 ? "gradient flow" : "", hue, [&](double t) {
      const double lacks = 1 - flow(t);
      return rate * 0.5 * lacks * lacks * K / (K - 1);
    }));
    loss.curves.push_back(scaled(curve_of(done.table, "loss_0", of.name, of.look, hue), eta));
  }
  // Twins are one feature of probability 2/K whose two logits share the slope. With b their attention, m = K - 2 others:
  //   db/dt = (1 + 1/m) (1 + 2/m) b^2 (1 - b)^3 / (2 K),   L_0 = 1/2 (1 - b)^2 (1 + 1/m),
  // the flow of a dominant feature p_1 = 2/K among m + 1 at K / (4 (K - 1)) of the time; logits by the odds and the column sum 0.
  const auto twin = [](int m, int n) { return m == n || (m < 2 && n < 2) ? 1.0 : 0.0; };
  const Finished twins = with.with({{"watched", "0"}, {"second_moments", moments_of(K, twin)}}).run();
  const Task pair = with.with({{"features", std::to_string(K - 1)}, {"dominant", format_number(2.0 / K, 17)}}).make_task();
  const auto both = [&](double t) { return theory("flow_attention", pair.get(), {t * K / (4.0 * (K - 1))}); };
  const auto logit = [&](double t) { return std::log(both(t) / (1 - both(t)) * others / 2) * others / (others + 2); };
  const auto run_of = [&](const char* column, const std::string& name, Look look, Hue hue) {
    return scaled(curve_of(twins.table, column, name, look, hue), eta);
  };
  shared.curves = {along(twins, eta, "half of the pair\u2019s, gradient flow", Hue::blue, [&](double t) { return both(t) / 2; }),
                   run_of("attention_0", "to itself", Look::measured, Hue::blue),
                   run_of("attention_0_1", "to its twin", Look::dashed, Hue::orange),
                   along(twins, eta, "each other, gradient flow", Hue::green, [&](double t) { return (1 - both(t)) / others; }),
                   run_of("attention_0_2", "to another", Look::measured, Hue::green)};
  logits.curves = {along(twins, eta, "A_0 = B_{0,1}, gradient flow", Hue::blue, logit), run_of("A_0", "A_0", Look::measured, Hue::blue),
                   run_of("B_0_1", "B_{0,1}, twin", Look::dashed, Hue::orange),
                   along(twins, eta, "-2 A_0 / (K - 2)", Hue::green, [&](double t) { return -2 * logit(t) / others; }),
                   run_of("B_0_2", "B_{0,2}, another", Look::measured, Hue::green)};
  loss.curves.push_back(
      along(twins, eta, "", hues[i], [&](double t) { return 0.5 * (1 - both(t)) * (1 - both(t)) * (1 + 1 / others); }));
  loss.curves.push_back(run_of("loss_0", "twins", Look::measured, hues[i]));
  return {"Classes of functions, K = " + with.text("features") + ", N = \u221e, \u03b7 = " + with.text("step_size"), 2,
          {std::move(attention), std::move(loss), std::move(shared), std::move(logits)}};
}

constexpr const char* paper = "arXiv 2310.05249 (Huang, Cheng, Liang, ICML 2024); none of its figures.";

constexpr std::array figures{
    Figure{"convergence_sampled", "in_context_convergence",
           "features=6 dimension=8 prompt_length=60 dominant=0.5 data=fresh batch=64,256,1024,4096 seed=1,2,3,4,5,6,7,8 step_size=4 "
           "steps=200 probes=weights",
           "Sampled descent beside the population's, and its error against the batch.", paper,
           "Derived: the population's course; errors fall as B^{-1/2}. Choices: K = 6, d = 8, N = 60, p_1 = 1/2, 200 steps of size 4, "
           "eight seeds.",
           sampled},
    Figure{"convergence_fixed_set", "in_context_convergence",
           "features=6 dimension=8 prompt_length=60 dominant=0.5 data=fixed samples=30,100,300,3000 step_size=4 steps=20000 "
           "record_per_decade=12 probes=increments",
           "Descent on fixed sets of prompts: loss on the set and on the population.", paper,
           "Derived: the exact population loss, its infimum. Choices: M = 30 to 3000 prompts, 20000 steps of size 4, one seed.",
           fixed_sets},
    Figure{"convergence_mask", "in_context_convergence",
           "features=10 prompt_length=50,70,100,140,200,300 step_size=20 steps=20000 record_per_decade=20 probes=none",
           "The query masked or not: losses, and infima against the prompt length.", paper,
           "The mask is remembered, not confirmed. Derived: the infimum of both; without the mask near (K/N)^2 / 2, a power of N. "
           "Choices: K = 10, 20000 steps of size 20; a masked run ends K/(4 eta t) above its infimum.",
           mask},
    Figure{"convergence_functions", "in_context_convergence",
           "features=6 prompt_length=inf scale=2 correlation=0.5 step_size=0.1 steps=30000 record_per_decade=60",
           "Classes of functions: labels of another scale, labels with a part in common, and two features that f never tells apart.",
           "arXiv 2310.05249 (Huang, Cheng, Liang, ICML 2024); nonlinear functions after arXiv 2507.20443 (Li, Duan, Liang); none of "
           "their figures.",
           "Derived: labels times c train as at c^2 times the step size, labels of correlation rho as at 1 - rho times; attention need not "
           "be unique: features on which f always agrees share it, and the loss still falls to its infimum; the flow of both in closed form. "
           "Choices: K = 6, N = infinity, f Gaussian.",
           functions},
};

}  // namespace

std::span<const Figure> sample_figures() {
  return figures;
}

}  // namespace cli
