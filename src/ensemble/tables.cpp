// Tables of an ensemble. Members and rows come in the order of the members; sums in the same order.
#include "ensemble/tables.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <string_view>

#include "ensemble/statistics.hpp"
#include "kernels/scalar_math.hpp"

namespace lamina {
namespace {

constexpr double absent = std::numeric_limits<double>::quiet_NaN();

Column column_of(const Axis& axis) {
  std::string definition = "option " + axis.key;
  if (!axis.numeric())
    for (size_t i = 0; i < axis.texts.size(); ++i) definition += (i ? ", " : ": ") + std::to_string(i) + " = " + axis.texts[i];
  return {axis.key, std::move(definition)};
}

double value_of(const Ensemble& ensemble, int64_t member, size_t axis) {
  const Axis& a = ensemble.axes()[axis];
  const size_t place = ensemble.place(member, axis);
  return a.numeric() ? std::get<double>(a.values[place]) : static_cast<double>(place);
}

// The places of some axes in the list of all.
using Axes = std::vector<size_t>;

Axes all_axes(const Ensemble& ensemble) {
  Axes all;
  for (size_t a = 0; a < ensemble.axes().size(); ++a) all.push_back(a);
  return all;
}

size_t find_axis(const Ensemble& ensemble, const char* name, const std::string& key) {
  std::string known;
  for (size_t a = 0; a < ensemble.axes().size(); ++a) {
    if (ensemble.axes()[a].key == key) return a;
    known += (known.empty() ? "" : ", ") + ensemble.axes()[a].key;
  }
  fail(LAMINA_E_ARGUMENT, std::string(name) + " is \"" + key + "\", must be an axis" + (known.empty() ? ", and there is none" : ": " + known));
}

void remove_axes(const Ensemble& ensemble, const char* name, const std::string& keys, Axes& axes) {
  for (size_t at = 0; !keys.empty() && at <= keys.size();) {
    const size_t comma = std::min(keys.find(',', at), keys.size());
    std::erase(axes, find_axis(ensemble, name, keys.substr(at, comma - at)));
    at = comma + 1;
  }
}

std::vector<Column> columns_of(const Ensemble& ensemble, const Axes& axes) {
  std::vector<Column> columns;
  for (size_t a : axes) columns.push_back(column_of(ensemble.axes()[a]));
  return columns;
}

std::vector<double> values_of(const Ensemble& ensemble, int64_t member, const Axes& axes) {
  std::vector<double> values;
  for (size_t a : axes) values.push_back(value_of(ensemble, member, a));
  return values;
}

// Members that agree on `axes`, in the order of their first.
std::vector<std::vector<int64_t>> members_by(const Ensemble& ensemble, const Axes& axes) {
  std::map<std::vector<size_t>, size_t> known;
  std::vector<std::vector<int64_t>> groups;
  for (int64_t i = 0; i < ensemble.count(); ++i) {
    std::vector<size_t> places;
    for (size_t a : axes) places.push_back(ensemble.place(i, a));
    const size_t group = known.emplace(std::move(places), groups.size()).first->second;
    if (group == groups.size()) groups.emplace_back();
    groups[group].push_back(i);
  }
  return groups;
}

std::optional<int64_t> find_column(const Trajectory& trajectory, const std::string& name) {
  for (size_t c = 0; c < trajectory.columns().size(); ++c)
    if (trajectory.columns()[c].name == name) return static_cast<int64_t>(c);
  return std::nullopt;
}

// Fails, with the names there are, if members have trajectories and none has the column.
void require_column(const Ensemble& ensemble, const std::string& name) {
  const Trajectory* some = nullptr;
  for (int64_t i = 0; i < ensemble.count(); ++i) {
    const auto& trajectory = ensemble.member(i).trajectory;
    if (!trajectory) continue;
    for (const Crossing& crossing : ensemble.member(i).crossings)
      if (crossing.signal == name) return;
    if (find_column(*trajectory, name)) return;
    some = trajectory.get();
  }
  if (!some) fail(LAMINA_E_STATE, "column is \"" + name + "\", but no member has ended with a trajectory: run the ensemble first");
  std::string known;
  for (const Column& column : some->columns()) known += (known.empty() ? "" : ", ") + column.name;
  fail(LAMINA_E_ARGUMENT, "column is \"" + name + "\", must be one of " + known);
}

// When, in steps, the column is first on the other side of the level than the start, or at it: found exactly, or the first such row.
double time_to(const Member& member, const std::string& name, double level) {
  if (!member.trajectory) return absent;
  for (const Crossing& crossing : member.crossings)
    if (crossing.signal == name && crossing.value == level) return crossing.time;
  const Trajectory& trajectory = *member.trajectory;
  const auto column = find_column(trajectory, name);
  if (!column || trajectory.rows() == 0) return absent;
  double first = absent;  // of the rows that have a number
  for (int64_t r = 0; r < trajectory.rows(); ++r) {
    const double value = trajectory.at(r, *column);
    if (std::isnan(first)) first = value;
    if (first > level ? value <= level : value >= level) return trajectory.at(r, 0);
  }
  return absent;
}

// The levels asked for, or those that the members' crossings of this column have.
std::vector<double> levels_of(const Ensemble& ensemble, const std::string& column, std::span<const double> asked) {
  std::vector<double> levels(asked.begin(), asked.end());
  for (int64_t i = 0; asked.empty() && i < ensemble.count(); ++i)
    for (const Crossing& crossing : ensemble.member(i).crossings)
      if (crossing.signal == column && std::ranges::find(levels, crossing.value) == levels.end()) levels.push_back(crossing.value);
  if (levels.empty()) fail(LAMINA_E_ARGUMENT, "levels is empty, must be given where no member's option crossings has " + column);
  for (double level : levels)
    if (!std::isfinite(level)) fail(LAMINA_E_ARGUMENT, "levels has " + number_text(level) + ", must be finite");
  return levels;
}

// After a target or a vanished gradient a run stays where it is. One that diverged, was out of time or has fewer steps would not.
bool keeps_its_value(lamina_status status) { return status == LAMINA_TARGET_REACHED || status == LAMINA_GRADIENT_VANISHED; }

}  // namespace

Table table_of(const Ensemble& ensemble) {
  const Axes axes = all_axes(ensemble);
  std::vector<Column> columns{{"member", "number of the run, the last axis fastest"}};
  for (Column& column : columns_of(ensemble, axes)) columns.push_back(std::move(column));
  columns.push_back({"status", "why the run ended: 0 finished, positive ended early, negative failed"});
  const size_t before = columns.size();
  std::map<std::string, size_t> place;
  for (int64_t i = 0; i < ensemble.count(); ++i) {
    if (!ensemble.member(i).trajectory) continue;
    for (const Column& column : ensemble.member(i).trajectory->columns())
      if (place.emplace(column.name, columns.size()).second) columns.push_back(column);
  }
  const size_t width = columns.size();
  auto table = std::make_shared<Trajectory>(std::move(columns));
  std::vector<double> row;
  for (int64_t i = 0; i < ensemble.count(); ++i) {
    const Member& member = ensemble.member(i);
    if (!member.ended()) continue;
    row.assign({static_cast<double>(i)});
    for (double value : values_of(ensemble, i, axes)) row.push_back(value);
    row.push_back(member.status);
    row.resize(width, absent);
    if (!member.trajectory) {
      table->record(row);
      continue;
    }
    std::vector<size_t> to;
    for (const Column& column : member.trajectory->columns()) to.push_back(place.at(column.name));
    for (int64_t r = 0; r < member.trajectory->rows(); ++r) {
      std::fill(row.begin() + static_cast<int64_t>(before), row.end(), absent);
      for (size_t c = 0; c < to.size(); ++c) row[to[c]] = member.trajectory->at(r, static_cast<int64_t>(c));
      table->record(row);
    }
  }
  return table;
}

Table summary_of(const Ensemble& ensemble, const Statistic& what, std::span<const double> quantiles) {
  require_column(ensemble, what.column);
  Axes axes = all_axes(ensemble);
  remove_axes(ensemble, "over", what.over, axes);
  std::vector<Column> columns = columns_of(ensemble, axes);
  columns.push_back({"step", "updates made"});
  columns.push_back({"members", "runs with a number for " + what.column + " at this step, or at their end by a target or a vanished gradient"});
  columns.push_back({"ended", "of these runs, those that had ended, and count with their last number"});
  columns.push_back({"mean", "mean of " + what.column + " over these runs"});
  for (double p : quantiles) {
    if (!(p >= 0 && p <= 1)) fail(LAMINA_E_ARGUMENT, "quantiles has " + number_text(p) + ", must be in [0, 1]");
    columns.push_back({"q" + number_text(p), "quantile " + number_text(p) + " of " + what.column + " over these runs"});
  }
  auto table = std::make_shared<Trajectory>(std::move(columns));
  for (const std::vector<int64_t>& members : members_by(ensemble, axes)) {
    struct Step {
      int64_t rows = 0;
      std::vector<double> values;
    };
    std::map<double, Step> steps;
    std::vector<double> ends;                     // last steps
    std::vector<std::pair<double, double>> kept;  // of runs whose descent ended where it was: last step and value
    for (int64_t i : members) {
      const auto& trajectory = ensemble.member(i).trajectory;
      const auto column = trajectory ? find_column(*trajectory, what.column) : std::nullopt;
      if (!column || trajectory->rows() == 0) continue;
      for (int64_t r = 0; r < trajectory->rows(); ++r) {
        Step& at = steps[trajectory->at(r, 0)];
        ++at.rows;
        if (const double value = trajectory->at(r, *column); !std::isnan(value)) at.values.push_back(value);
      }
      const int64_t last = trajectory->rows() - 1;
      const double value = trajectory->at(last, *column);
      ends.push_back(trajectory->at(last, 0));
      if (keeps_its_value(ensemble.member(i).status) && !std::isnan(value)) kept.emplace_back(ends.back(), value);
    }
    for (auto& [step, at] : steps) {
      // Rows that only some have, such as those of a crossing: statistics there would be of another set of runs than beside.
      if (at.rows < std::ranges::count_if(ends, [step = step](double end) { return end >= step; })) continue;
      std::vector<double>& at_step = at.values;
      const auto own = static_cast<double>(at_step.size());
      for (const auto& [end, value] : kept)
        if (end < step) at_step.push_back(value);
      const auto all = static_cast<double>(at_step.size());
      std::vector<double> row = values_of(ensemble, members[0], axes);
      double sum = 0;
      for (double value : at_step) sum += value;
      row.insert(row.end(), {step, all, all - own, sum / all});
      std::ranges::sort(at_step);
      for (double p : quantiles) row.push_back(quantile(at_step, p));
      table->record(row);
    }
  }
  return table;
}

Table times_of(const Ensemble& ensemble, const std::string& column, std::span<const double> asked) {
  require_column(ensemble, column);
  const std::vector<double> levels = levels_of(ensemble, column, asked);
  const Axes axes = all_axes(ensemble);
  std::vector<Column> columns{{"member", "number of the run, the last axis fastest"}};
  for (Column& axis : columns_of(ensemble, axes)) columns.push_back(std::move(axis));
  columns.push_back({"status", "why the run ended: 0 finished, positive ended early, negative failed"});
  columns.push_back({"level", "level of " + column});
  columns.push_back({"time", "first step at which " + column + " is at the level or beyond it"});
  auto table = std::make_shared<Trajectory>(std::move(columns));
  for (int64_t i = 0; i < ensemble.count(); ++i) {
    const Member& member = ensemble.member(i);
    if (!member.ended()) continue;
    for (double level : levels) {
      std::vector<double> row{static_cast<double>(i)};
      for (double value : values_of(ensemble, i, axes)) row.push_back(value);
      row.insert(row.end(), {static_cast<double>(member.status), level, time_to(member, column, level)});
      table->record(row);
    }
  }
  return table;
}

namespace {

// Members without those that repeat another's option values, the seed's apart, and its table bit for bit: of a task in which nothing is
// random the runs of all seeds are one, not independent points.
std::vector<int64_t> distinct(const Ensemble& ensemble, const std::vector<int64_t>& members) {
  const auto bytes = [&](int64_t i) {
    const std::vector<double>& values = ensemble.member(i).trajectory->values();
    return std::string_view(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
  };
  std::vector<int64_t> kept;
  std::map<std::pair<std::vector<size_t>, std::string_view>, int64_t> seen;
  for (int64_t i : members) {
    std::vector<size_t> places;
    for (size_t a = 0; a < ensemble.axes().size(); ++a)
      if (ensemble.axes()[a].key != "seed") places.push_back(ensemble.place(i, a));
    if (!ensemble.member(i).trajectory || seen.emplace(std::pair(std::move(places), bytes(i)), i).second) kept.push_back(i);
  }
  return kept;
}

}  // namespace

Table exponents_of(const Ensemble& ensemble, const Statistic& what, const std::string& along, std::span<const double> asked,
                   double confidence) {
  require_column(ensemble, what.column);
  const std::vector<double> levels = levels_of(ensemble, what.column, asked);
  if (!(confidence > 0 && confidence < 1)) fail(LAMINA_E_ARGUMENT, "confidence is " + number_text(confidence) + ", must be in (0, 1)");
  const bool by_level = along == "level";
  Axes axes = all_axes(ensemble);
  remove_axes(ensemble, "over", what.over, axes);
  const size_t axis = by_level ? 0 : find_axis(ensemble, "along", along);
  if (by_level) {
    for (double level : levels)
      if (!(level > 0)) fail(LAMINA_E_ARGUMENT, "levels has " + number_text(level) + ", must be positive with along=level");
  } else {
    std::erase(axes, axis);
    const Axis& a = ensemble.axes()[axis];
    for (const OptionValue& value : a.values)
      if (!a.numeric() || !(std::get<double>(value) > 0 && std::isfinite(std::get<double>(value))))
        fail(LAMINA_E_ARGUMENT, "along is " + along + ", must be an axis of positive finite numbers, or level");
  }
  std::vector<Column> columns = columns_of(ensemble, axes);
  if (!by_level) columns.push_back({"level", "level of " + what.column + " that is reached at the time"});
  const std::string interval = "bound of the " + number_text(100 * confidence) + " % confidence interval of the exponent";
  for (Column& column : std::vector<Column>{{"exponent", by_level ? "d log time / d log 1/level" : "d log time / d log " + along},
                                            {"error", "standard error of the exponent"},
                                            {"lower", "lower " + interval},
                                            {"upper", "upper " + interval},
                                            {"intercept", "log time where the logarithm of the other is 0"},
                                            {"r_squared", "fraction of the variance of log time that the line explains"},
                                            {"points", "times that the line is fitted to; seeds that change nothing are one"},
                                            {"missing", "runs that never reached the level, or at step 0: left out"}})
    columns.push_back(std::move(column));
  auto table = std::make_shared<Trajectory>(std::move(columns));
  for (const std::vector<int64_t>& all : members_by(ensemble, axes)) {
    const std::vector<int64_t> members = distinct(ensemble, all);
    std::vector<double> x, y;
    double missing = 0;
    const auto collect = [&](double level) {
      for (int64_t i : members) {
        const double time = time_to(ensemble.member(i), what.column, level);
        if (!(time > 0)) {
          ++missing;
          continue;
        }
        x.push_back(by_level ? -kernels::log(level) : kernels::log(value_of(ensemble, i, axis)));
        y.push_back(kernels::log(time));
      }
    };
    const auto write = [&](std::span<const double> level) {
      const Line line = fit_line(x, y, confidence);
      std::vector<double> row = values_of(ensemble, members[0], axes);
      row.insert(row.end(), level.begin(), level.end());
      row.insert(row.end(), {line.slope, line.error, line.lower, line.upper, line.intercept, line.r_squared,
                             static_cast<double>(line.points), missing});
      table->record(row);
      x.clear(), y.clear(), missing = 0;
    };
    for (size_t l = 0; l < levels.size(); ++l) {
      collect(levels[l]);
      if (!by_level) write({&levels[l], 1});
    }
    if (by_level) write({});
  }
  return table;
}

}  // namespace lamina
