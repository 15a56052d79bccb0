// The figures of in-context convergence on samples, and of its variants: sampled descent, a fixed set, the mask, the function class.
#include <algorithm>
#include <array>
#include <cmath>

#include "gallery/figure.hpp"
#include "picture.hpp"

namespace cli {
namespace {

// Sampled descent beside descent on the population, and how far it ends from it against the batch.
Plot sampled(const Parameters& with) {
  const Finished exact = with.with({{"data", "population"}, {"batch", "0"}, {"seed", "1"}}).run();
  const char* const watched[] = {"A_0", "A_1", "B_1_0"};
  const std::vector<std::string> batches = with.list("batch"), seeds = with.list("seed");
  Panel course("logits, " + batches.front() + " prompts a step", {"update"}, {"entry of Q"}),
      error("after the last update", {"prompts a step B", true}, {"root mean square error of an entry", true});
  error.x.tics = numbers_of(batches);
  Curve errors{"of A_1, A_k, and B_{k,1}, over seeds", Look::marks, Hue::blue}, guide{"B^{-1/2}, through the last", Look::limit, Hue::grey};
  for (const std::string& batch : batches) {
    double squares = 0;
    for (const std::string& seed : seeds) {
      const Finished done = with.with({{"batch", batch}, {"seed", seed}}).run();
      for (const char* entry : watched) squares += std::pow(done.last(entry) - exact.last(entry), 2);
      if (&batch != &batches.front() || &seed != &seeds.front()) continue;
      const char* const names[] = {"A_1, dominant", "A_k, rare", "B_{k,1}"};
      for (size_t i = 0; i < 3; ++i) {
        course.curves.push_back(curve_of(exact.table, watched[i], std::string(names[i]) + ", population", Look::predicted, hues[i]));
        course.curves.push_back(curve_of(done.table, watched[i], std::string(names[i]) + ", sampled", Look::measured, hues[i]));
      }
    }
    errors.x.push_back(std::strtod(batch.c_str(), nullptr)), errors.y.push_back(std::sqrt(squares / 3 / static_cast<double>(seeds.size())));
  }
  for (const double B : errors.x) guide.x.push_back(B), guide.y.push_back(errors.y.back() * std::sqrt(errors.x.back() / B));
  error.curves = {std::move(errors), std::move(guide)};
  return {"Sampled descent, K = " + with.text("features") + ", N = " + with.text("prompt_length") + ", p\u2081 = " + with.text("dominant"),
          2,
          {std::move(course), std::move(error)}};
}

// Descent on fixed sets: the loss on the set, and on the population.
Plot fixed_sets(const Parameters& with) {
  const double K = with.number("features"), p = with.number("dominant");
  std::string all;
  for (int k = 0; k < static_cast<int>(K); ++k) all += (k ? "," : "") + std::to_string(k);
  Plot plot{"Fixed sets of M prompts, K = " + with.text("features") + ", N = " + with.text("prompt_length") + ": too few leave a feature out", 2, {}};
  size_t i = 0;
  for (const std::string& M : with.list("samples")) {
    const Finished done = with.with({{"samples", M}, {"watched", all}}).run();
    const Hue hue = hues[i++ % 6];
    Panel panel("M = " + M, {"update", true, 1, 1e5}, {"loss", true, 1e-6, 1});
    Curve population = curve_of(done.table, "loss_0", "population", Look::dashed, hue);
    for (double& y : population.y) y *= p;
    for (int k = 1; k < static_cast<int>(K); ++k) {
      const auto& of_query = *done.table.column("loss_" + std::to_string(k));
      for (size_t row = 0; row < population.y.size(); ++row) population.y[row] += (1 - p) / (K - 1) * of_query[row];
    }
    const double floor = theory("loss_infimum", done.task.get(), {}), last = done.table.column("step")->back();
    panel.curves = {curve_of(done.table, "loss", "fixed set", Look::measured, hue), std::move(population),
                    {"infimum on the population", Look::limit, Hue::grey, {1, last}, {floor, floor}}};
    plot.panels.push_back(std::move(panel));
  }
  return plot;
}

// With and without the mask: where runs end against N, and the floor that the query's own weight leaves.
Plot mask(const Parameters& with) {
  Panel course("N = " + with.list("prompt_length").front(), {"update", true, 1}, {"loss", true, 1e-3, 1}),
      floors("infimum of the loss", {"prompt length N", true}, {"loss", true, 1e-8});
  const std::vector<std::string> lengths = with.list("prompt_length");
  floors.x.tics = numbers_of(lengths);
  const double K = with.number("features");
  for (const bool masked : {true, false}) {
    const Hue hue = hues[masked ? 0 : 1];
    const std::string name = masked ? "query masked" : "query attends to itself";
    Curve law{name, Look::predicted, hue}, ends{name + ", end of a run", Look::marks, hue}, estimate{"(K/N)\u00b2 / 2", Look::limit, hue};
    for (const std::string& N : lengths) {
      const Finished done = with.with({{"prompt_length", N}, {"mask", masked ? "yes" : "no"}}).run();
      const double n = std::strtod(N.c_str(), nullptr), floor = theory("loss_infimum", done.task.get(), {});
      law.x.push_back(n), law.y.push_back(floor), ends.x.push_back(n), ends.y.push_back(done.last("loss"));
      estimate.x.push_back(n), estimate.y.push_back(0.5 * K * K / (n * n));
      if (N != lengths.front()) continue;
      const double last = done.table.column("step")->back();
      course.curves.push_back(curve_of(done.table, "loss", name, Look::measured, hue));
      course.curves.push_back({name + ", infimum", Look::limit, hue, {1, last}, {floor, floor}});
    }
    floors.curves.push_back(std::move(law)), floors.curves.push_back(std::move(ends));
    if (!masked) floors.curves.push_back(std::move(estimate));
  }
  return {"Balanced features, K = " + with.text("features") + ": a query that attends to itself", 2, {std::move(course), std::move(floors)}};
}

constexpr const char* paper = "arXiv 2310.05249 (Huang, Cheng, Liang, ICML 2024); none of its figures.";

constexpr std::array figures{
    Figure{"convergence_sampled", "in_context_convergence",
           "features=6 dimension=8 prompt_length=60 dominant=0.5 data=fresh batch=64,256,1024,4096 seed=1,2,3,4 step_size=4 steps=200 probes=weights",
           "Sampled descent beside the population's, and its error against the batch.", paper,
           "Derived: the population's course; errors fall as B^{-1/2}. Choices: K = 6, d = 8, N = 60, p_1 = 1/2, 200 steps of size 4, four seeds.",
           sampled},
    Figure{"convergence_fixed_set", "in_context_convergence",
           "features=6 dimension=8 prompt_length=60 dominant=0.5 data=fixed samples=30,100,300,3000 step_size=4 steps=20000 "
           "record_per_decade=12 probes=increments",
           "Descent on fixed sets of prompts: loss on the set and on the population.", paper,
           "Derived: the exact population loss, its infimum. Choices: M = 30 to 3000 prompts, 20000 steps of size 4, one seed.", fixed_sets},
    Figure{"convergence_mask", "in_context_convergence",
           "features=10 prompt_length=50,70,100,140,200,300 step_size=20 steps=20000 record_per_decade=20 probes=none",
           "The query masked or not: losses, and infima against the prompt length.", paper,
           "The mask is remembered, not confirmed. Derived: the infimum of both; without the mask near (K/N)^2 / 2, a power of N. Choices: K = 10, 20000 steps of size 20.",
           mask},
};

}  // namespace

std::span<const Figure> sample_figures() {
  return figures;
}

}  // namespace cli
