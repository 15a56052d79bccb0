// The gallery: each figure is one row, with its parameters, its source, and the function that trains and
// draws.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "description.hpp"
#include "plot.hpp"

namespace cli {

// A finished run, and what can be asked of it.
struct Finished {
  Trainer trainer;
  Task task;
  Table table;
  std::vector<Crossing> crossings;
  Description run;

  // The values at which every crossing of `signal` was reached and its steps; what was not reached is left out.
  Curve times(const std::string& signal, bool inverse) const;
  double last(const char* column) const;
};

struct Figure;

// What a figure is made with: its settings, some replaced by the user's. Lists name several runs; all settings are options of
// each run, but those that the figure has and its task does not.
class Parameters {
 public:
  Parameters(const Figure& figure, const std::vector<Setting>& given);
  const std::string& text(const std::string& key) const;
  double number(const std::string& key) const;
  std::vector<std::string> list(const std::string& key) const;
  // These with some replaced or added.
  Parameters with(const std::vector<Setting>& changes) const;
  Task make_task() const;
  Finished run() const;

 private:
  Options options() const;
  std::string task_;
  std::vector<Setting> settings_;
  std::vector<std::string> own_;  // keys that are no options
};

constexpr const char* eta_t = "{/:Italic \u03b7 t}";  // the label of a time axis
constexpr Hue hues[] = {Hue::blue, Hue::orange, Hue::green, Hue::purple, Hue::brown, Hue::grey};  // of curves in turn
// A curve in other units.
Curve scaled(Curve curve, double x, double y = 1);
std::vector<double> numbers_of(const std::vector<std::string>& words);

struct Figure {
  const char* name;
  const char* task;
  const char* settings;     // "key=value key=value"
  const char* summary;      // one sentence
  const char* source;       // the paper, and what of it was read
  const char* description;  // what is stated there, derived here, a choice
  Plot (*draw)(const Parameters& with);
};

std::span<const Figure> recall_figures();
std::span<const Figure> convergence_figures();
std::span<const Figure> relative_figures();
std::span<const Figure> mesa_causal_figures();
std::span<const Figure> sample_figures();

struct FigureRequest {
  std::string name;
  std::vector<std::string> settings;
  std::string csv, svg;
  bool quiet = false;
};
Exit make_figure(const FigureRequest& request);

// For lamina list and lamina describe: owner is the task, fallback the settings.
std::vector<Entry> figure_entries();

}  // namespace cli
