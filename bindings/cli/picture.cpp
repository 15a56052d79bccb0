// The plot of a run's excess.
#include "picture.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "file.hpp"
#include "gnuplot.hpp"
#include "plot.hpp"

namespace cli {
namespace {

std::string title_of(const Description& run) {
  std::string title = run.task + ": ";
  if (!run.option("variant").empty()) title += run.option("variant") + ", ";
  if (!run.option("attention").empty()) title += run.option("attention") + " attention, ";
  const double noise = run.number("noise");
  if (!std::isnan(noise)) title += noise > 0 ? "noise " + format_number(noise, 4) + ", " : "noiseless, ";
  if (!run.option("features").empty()) title += "K = " + run.option("features") + ", ";
  if (std::isnan(noise) && !run.option("prompt_length").empty()) title += "N = " + run.option("prompt_length") + ", ";
  return title + run.option("data") + (run.option("data") == "fixed" ? " set of " + run.option("samples") : " data");
}

}  // namespace

Curve curve_of(const Table& table, const char* column, const std::string& name, Look look, Hue hue) {
  const auto* values = table.column(column);
  return values ? Curve{name, look, hue, *table.column("step"), *values} : Curve{};
}

Curve slope_of(const Table& table, const Description& run, const lamina_task* task) {
  const auto *steps = table.column("step"), *predicted = table.column("predicted"), *excess = table.column("excess");
  const std::string& norm = run.option("normalisation");
  const double slope = predicted ? theory("asymptotic_slope", task,
                                          {run.number("step_size"), norm == "l2"   ? 0.0
                                                                    : norm == "l1" ? 1.0
                                                                                   : 2.0})
                                 : 0;
  if (!(slope < 0) || steps->size() < 2) return {};
  size_t last = steps->size() - 1;  // where a log axis still shows it
  while (last > 0 && !((*predicted)[last] >= 1e-17)) --last;
  const double end = (*predicted)[last], length = std::min((*steps)[last], std::log((*excess)[0] / end) / -slope);
  char name[64];
  std::snprintf(name, sizeof name, "slope %.3g per step", slope);
  Curve line{name, Look::limit, Hue::grey, {}, {}};
  for (int i = 100; i >= 0; --i) {  // a curve where steps are on a log axis
    line.x.push_back((*steps)[last] - length * i / 100);
    line.y.push_back(end * std::exp(slope * -length * i / 100));
  }
  return line;
}

Curve floor_of(const Table& table, const Description& run, const lamina_task* task) {
  const Tensor* logit = run.tensor("noise_logit");
  const bool estimated = run.option("data") == "fixed" && run.option("estimate_noise") == "yes" &&
                         run.option("variant") == "full" && run.option("train_noise_logit") != "yes" &&
                         run.number("noise") > 0 && logit;
  if (!estimated) return {};
  const double estimate = 1 / (1 + std::exp(-logit->values[0]));
  const double floor = theory("estimate_excess", task, {run.number("noise"), estimate});
  char name[64];
  std::snprintf(name, sizeof name, "floor of the sample, KL = %.2g", floor);
  return {name, Look::other_limit, Hue::grey, *table.column("step"), std::vector<double>(table.column("step")->size(), floor)};
}

void draw(const std::string& path, const Table& table, const Description& run, const lamina_task* task) {
  Panel panel("", {"step"}, {run.option("noise").empty() ? "excess risk" : "excess risk (nats)", true});
  panel.x.logarithmic = run.number("record_per_decade") > 0;  // rows at log-spaced steps
  panel.x.minimum = panel.x.logarithmic ? 1 : 0;
  panel.x.maximum = std::max(table.column("step")->back(), panel.x.logarithmic ? 10.0 : 1.0);
  panel.curves = {curve_of(table, "predicted", "predicted", Look::predicted, Hue::blue), slope_of(table, run, task),
                  curve_of(table, "excess", "measured", Look::measured, Hue::blue),
                  // Dashed and on top: where outputs that were never seen do as well as the others, both curves still show.
                  curve_of(table, "unseen_excess", "measured, unseen outputs", Look::dashed, Hue::orange),
                  floor_of(table, run, task)};
  Plot plot{title_of(run), 1, {std::move(panel)}};
  if (!drop_unseen(plot)) throw Failure(run_failed, "no picture: no step has a positive excess, which a log axis could show");
  OutputFile file(path);
  file.write(run_gnuplot(script_of(plot)));
  file.commit();
}

}  // namespace cli
