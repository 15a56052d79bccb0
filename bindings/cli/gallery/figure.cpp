// lamina figure: from a row of the gallery to its picture and its table.
#include "gallery/figure.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "file.hpp"
#include "gnuplot.hpp"

namespace cli {
namespace {

std::vector<const Figure*> all_figures() {
  std::vector<const Figure*> all;
  for (const auto figures : {recall_figures(), convergence_figures(), sample_figures(), relative_figures(), mesa_causal_figures()})
    for (const Figure& figure : figures) all.push_back(&figure);
  return all;
}

const Figure& find_figure(const std::string& name) {
  std::string known;
  for (const Figure* figure : all_figures()) {
    if (figure->name == name) return *figure;
    known += (known.empty() ? "" : ", ") + std::string(figure->name);
  }
  throw Failure(usage, "\"" + name + "\" is not a figure, must be one of " + known + suggestion(name, figure_entries()));
}

const Setting* find_setting(const std::vector<Setting>& settings, const std::string& key) {
  for (const Setting& setting : settings)
    if (setting.key == key) return &setting;
  return nullptr;
}

std::vector<Setting> merged(std::vector<Setting> settings, const std::vector<Setting>& changes) {
  for (const Setting& change : changes) {
    std::erase_if(settings, [&](const Setting& setting) { return setting.key == change.key; });
    settings.push_back(change);
  }
  return settings;
}

}  // namespace

Parameters::Parameters(const Figure& figure, const std::vector<Setting>& given) : task_(figure.task) {
  const std::vector<Setting> settings = parse_settings(split(figure.settings, ' '));
  const std::vector<Entry> known = catalogue(task_);
  for (const Setting& setting : settings)
    if (!find(known, setting.key)) own_.push_back(setting.key);
  settings_ = merged(settings, given);
}

const std::string& Parameters::text(const std::string& key) const {
  const Setting* setting = find_setting(settings_, key);
  if (!setting) throw Failure(run_failed, "the figure has no setting " + key);
  return setting->value;
}

double Parameters::number(const std::string& key) const {
  return std::strtod(text(key).c_str(), nullptr);
}
std::vector<std::string> Parameters::list(const std::string& key) const {
  return split(text(key), ',');
}

Parameters Parameters::with(const std::vector<Setting>& changes) const {
  Parameters changed = *this;
  changed.settings_ = merged(settings_, changes);
  return changed;
}

Options Parameters::options() const {
  std::vector<Setting> settings = settings_;
  std::erase_if(settings,
                [&](const Setting& setting) { return std::find(own_.begin(), own_.end(), setting.key) != own_.end(); });
  return make_options(task_, settings);
}

Task Parameters::make_task() const {
  const Options set = options();
  return make<Task>(lamina_task_create, task_.c_str(), set.get());
}

Finished Parameters::run() const {
  const Options set = options();
  Finished done;
  done.task = make<Task>(lamina_task_create, task_.c_str(), set.get());
  done.trainer = make<Trainer>(lamina_trainer_create, done.task.get(), static_cast<const lamina_model*>(nullptr), set.get());
  if (check(lamina_trainer_run(done.trainer.get(), 0)) == LAMINA_DIVERGED)
    throw Failure(run_failed, "a run of the figure diverged: a smaller step_size may help");
  done.table = read_table(done.trainer.get());
  done.crossings = read_crossings(done.trainer.get());
  done.run = describe(done.trainer.get());
  return done;
}

Curve scaled(Curve curve, double x, double y) {
  for (double& v : curve.x) v *= x;
  for (std::vector<double>* values : {&curve.y, &curve.low, &curve.high})
    for (double& v : *values) v *= y;
  return curve;
}

std::vector<double> numbers_of(const std::vector<std::string>& words) {
  std::vector<double> numbers;
  for (const std::string& word : words) numbers.push_back(std::strtod(word.c_str(), nullptr));
  return numbers;
}

Curve Finished::times(const std::string& signal, bool inverse) const {
  Curve curve{"", Look::marks, Hue::blue, {}, {}};
  for (const Crossing& c : crossings)
    if (c.signal == signal && c.step >= 0)
      curve.x.push_back(inverse ? 1 / c.value : c.value), curve.y.push_back(c.time);
  return curve;
}

double Finished::last(const char* column) const {
  const auto* values = table.column(column);
  return values && !values->empty() ? values->back() : std::nan("");
}

Exit make_figure(const FigureRequest& request) {
  const Figure& figure = find_figure(request.name);
  const std::string svg = request.svg.empty() && request.csv.empty() ? request.name + ".svg" : request.svg;
  const bool quiet = require_different({{"--csv", request.csv}, {"--svg", svg}}) || request.quiet;
  require_writable("--csv", request.csv, true);
  require_writable("--svg", svg, true);
  Plot plot = figure.draw(Parameters(figure, parse_settings(request.settings)));
  if (!drop_unseen(plot)) throw Failure(run_failed, "nothing of the figure can be drawn: are its runs too short?");
  for (const auto& [path, content] : {std::pair(request.csv, false), std::pair(svg, true)}) {
    if (path.empty()) continue;
    OutputFile file(path);
    file.write(content ? run_gnuplot(script_of(plot)) : csv(plot));
    file.commit();
    if (!quiet) std::printf("written: %s\n", path.c_str());
  }
  return success;
}

std::vector<Entry> figure_entries() {
  std::vector<Entry> entries;
  for (const Figure* f : all_figures())
    entries.push_back(
        {LAMINA_KIND_NAME, f->name, f->task, f->settings, 0, 0, "", f->summary, std::string(f->source) + " " + f->description});
  return entries;
}

}  // namespace cli
