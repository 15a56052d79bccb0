// Parsing the option crossings, and watching its columns.
#include "train/crossings.hpp"

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
    sources_.push_back({column_of(all_.back().signal, model, task, suits)});
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

bool Crossings::look(int64_t step, double loss, double excess, const std::function<const ProbeState&()>& state) {
  values_[loss_column] = loss, values_[excess_column] = excess;
  const ProbeState* now = nullptr;
  for (const Watched& watched : probes_) {
    if (!wanted(watched.first, watched.columns)) continue;
    if (!now) now = &state();
    row_.clear();
    watched.probe->append_to(row_, *now);
    std::copy(row_.begin(), row_.end(), values_.begin() + static_cast<std::ptrdiff_t>(watched.first));
  }
  bool crossed = false;
  for (size_t i = 0; i < all_.size(); ++i) {
    Crossing& crossing = all_[i];
    Source& source = sources_[i];
    const double value = values_[source.column];
    if (crossing.step >= 0 || std::isnan(value)) continue;
    const double side = sign(value - crossing.value);
    if (source.seen < 0) source.side = side;
    if (side == 0 || side != source.side) {
      crossing.step = step, crossing.after = value;
      if (source.seen == step - 1) crossing.before = source.last;
      --open_, crossed = true;
    }
    source.last = value, source.seen = step;
  }
  return crossed;
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
    sources_[i].side = s[3], sources_[i].last = s[4], sources_[i].seen = static_cast<int64_t>(s[5]);
    open_ -= all_[i].step >= 0;
  }
}

}  // namespace lamina
