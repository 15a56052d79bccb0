// Parsing the option crossings, and watching its columns.
#include "train/crossings.hpp"

#include <algorithm>
#include <boost/math/tools/toms748_solve.hpp>
#include <charconv>
#include <cmath>

namespace lamina {
namespace {

constexpr size_t loss_column = 0, excess_column = 1;

double sign(double x) {
  return static_cast<double>((x > 0) - (x < 0));
}

[[noreturn]] void refuse(const std::string& part, const std::string& why) {
  fail(LAMINA_E_OPTION, "crossings has \"" + part + "\", must be " + why);
}

Crossing parse(const std::string& part) {
  const size_t equals = part.find('=');
  if (equals == 0 || equals == part.npos) refuse(part, "column=value, as in excess=1e-3");
  Crossing crossing{part.substr(0, equals), 0};
  const char *first = part.data() + equals + 1, *last = part.data() + part.size();
  const auto [end, error] = std::from_chars(first, last, crossing.value);
  if (error != std::errc{} || end != last || !std::isfinite(crossing.value)) refuse(part, "column=value with a finite number");
  return crossing;
}

}  // namespace

Crossings::Crossings(const std::string& text, const Model& model, const Task& task, const std::function<bool(const ProbeRow&)>& suits) {
  for (size_t at = 0; at <= text.size() && !text.empty();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    all_.push_back(parse(text.substr(at, comma - at)));
    const size_t column = column_of(all_.back().signal, model, task, suits);
    const Watched* watched = probe_of(column);
    sources_.push_back({column, !watched || watched->probe->of_parameters()});
    at = comma + 1;
  }
  open_ = all_.size();
  values_.resize(columns_);
}

size_t Crossings::column_of(const std::string& signal, const Model& model, const Task& task, const std::function<bool(const ProbeRow&)>& suits) {
  if (signal == "loss") return loss_column;
  if (signal == "excess") return excess_column;
  std::string known = "loss, excess";
  for (const ProbeRow& probe : probe_registry()) {
    if (!suits(probe)) continue;
    const std::vector<Column> columns = probe.columns(model, task);
    for (size_t c = 0; c < columns.size(); ++c) {
      known += ", " + columns[c].name;
      if (columns[c].name != signal) continue;
      for (const Watched& watched : probes_)
        if (watched.probe == &probe) return watched.first + c;
      probes_.push_back({&probe, columns_, columns.size()});
      columns_ += columns.size();
      return probes_.back().first + c;
    }
  }
  refuse(signal, "a column of this run: " + known);
}

bool Crossings::wanted(size_t first, size_t columns) const {
  for (size_t i = 0; i < all_.size(); ++i)
    if (all_[i].step < 0 && sources_[i].column >= first && sources_[i].column < first + columns) return true;
  return false;
}

bool Crossings::watch_excess() const {
  return wanted(excess_column, 1);
}

bool Crossings::watch(const ProbeRow& probe) const {
  for (const Watched& watched : probes_)
    if (watched.probe == &probe) return wanted(watched.first, watched.columns);
  return false;
}

const Crossings::Watched* Crossings::probe_of(size_t column) const {
  for (const Watched& watched : probes_)
    if (column >= watched.first && column < watched.first + watched.columns) return &watched;
  return nullptr;
}

void Crossings::measure(const Watched& watched, Moments& now) {
  row_.clear();
  watched.probe->append_to(row_, now.state());
  std::ranges::copy(row_, values_.begin() + static_cast<std::ptrdiff_t>(watched.first));
}

double Crossings::read(const Source& source, Moments& now) {
  if (source.column == loss_column) return now.loss();
  if (source.column == excess_column) return now.excess();
  measure(*probe_of(source.column), now);
  return values_[source.column];
}

bool Crossings::look(int64_t step, Moments& now) {
  values_[loss_column] = now.loss();
  if (watch_excess()) values_[excess_column] = now.excess();
  for (const Watched& watched : probes_)
    if (wanted(watched.first, watched.columns)) measure(watched, now);
  std::vector<size_t> crossed;
  for (size_t i = 0; i < all_.size(); ++i) {
    const double value = values_[sources_[i].column], side = sign(value - all_[i].value);
    if (all_[i].step < 0 && !std::isnan(value) && (side == 0 || (sources_[i].seen >= 0 && side != sources_[i].side))) crossed.push_back(i);
  }
  std::vector<double> times;
  if (!crossed.empty()) times = times_of(crossed, step, now);
  size_t found = 0;
  for (size_t i = 0; i < all_.size(); ++i) {
    Crossing& crossing = all_[i];
    Source& source = sources_[i];
    const double value = values_[source.column];
    if (crossing.step >= 0 || std::isnan(value)) continue;
    if (source.seen < 0) source.side = sign(value - crossing.value);
    if (found < crossed.size() && crossed[found] == i) {
      crossing.step = step, crossing.time = times[found], crossing.after = value;
      if (source.seen == step - 1) crossing.before = source.last;
      --open_, ++found;
    }
    source.last = value, source.seen = step;
  }
  return !crossed.empty();
}

std::vector<double> Crossings::times_of(const std::vector<size_t>& crossed, int64_t step, Moments& now) {
  std::vector<double> times(crossed.size(), static_cast<double>(step));
  // Above the value or below it, as far as is measured at a moment; a moment at which the column is undefined is before the crossing.
  const auto height = [&](size_t i, double value) {
    return std::isnan(value) ? sources_[i].side : std::clamp(value - all_[i].value, -1e100, 1e100);
  };
  struct Open {
    size_t place, crossing;
    double height;  // where the present piece begins
  };
  std::vector<Open> open;
  for (size_t c = 0; c < crossed.size(); ++c) {
    const Source& source = sources_[crossed[c]];
    if (source.of_parameters && source.seen >= 0 && source.side != 0)
      open.push_back({c, crossed[c], height(crossed[c], source.seen == step - 1 ? source.last : std::nan(""))});
  }
  if (open.empty() || !now.turn_back()) return times;
  const std::vector<double> values = values_;
  for (double from = 0; !open.empty() && now.next(); from = now.end()) {
    const double to = now.end();
    std::erase_if(open, [&](Open& o) {
      const auto height_at = [&](double moment) {
        now.go_to(moment);
        return height(o.crossing, read(sources_[o.crossing], now));
      };
      const double from_height = o.height;
      o.height = height_at(to);
      if (sign(o.height) == sources_[o.crossing].side) return false;
      using namespace boost::math::policies;
      using Quiet = policy<domain_error<ignore_error>, evaluation_error<ignore_error>>;
      boost::uintmax_t most = 400;
      const auto narrow = [](double a, double b) { return b - a <= resolution; };
      const auto bracket = boost::math::tools::toms748_solve(height_at, from, to, from_height, o.height, narrow, most, Quiet());
      times[o.place] = static_cast<double>(step - 1) + bracket.second;
      return true;
    });
  }
  values_ = values;
  return times;
}

std::vector<double> Crossings::state() const {
  std::vector<double> state;
  for (size_t i = 0; i < all_.size(); ++i)
    state.insert(state.end(), {static_cast<double>(all_[i].step), all_[i].before, all_[i].after, sources_[i].side,
                               sources_[i].last, static_cast<double>(sources_[i].seen)});
  return state;
}

void Crossings::set_state(const std::vector<double>& state) {
  for (size_t i = 0; i < all_.size(); ++i) {
    const double* s = &state[state_size * i];
    all_[i].step = static_cast<int64_t>(s[0]), all_[i].before = s[1], all_[i].after = s[2];
    if (all_[i].step >= 0) all_[i].time = s[0];
    sources_[i].side = s[3], sources_[i].last = s[4], sources_[i].seen = static_cast<int64_t>(s[5]);
    open_ -= all_[i].step >= 0;
  }
}

std::vector<double> Crossings::times() const {
  std::vector<double> times;
  for (const Crossing& crossing : all_) times.push_back(crossing.time);
  return times;
}

void Crossings::set_times(const std::vector<double>& times) {
  for (size_t i = 0; i < all_.size(); ++i) all_[i].time = times[i];
}

}  // namespace lamina
