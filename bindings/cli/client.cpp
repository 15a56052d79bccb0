// Failures, catalogue, options and trajectories on top of lamina.h.
#include "client.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>

namespace cli {
namespace {

Exit exit_code(lamina_status status) {
  switch (status) {
    case LAMINA_E_ARGUMENT:
    case LAMINA_E_OPTION:
    case LAMINA_E_UNSUPPORTED:
      return usage;
    default:
      return run_failed;
  }
}

// Insertions, deletions, replacements and swaps of neighbours that turn a into b.
size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  std::iota(d[0].begin(), d[0].end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i)
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

}  // namespace

lamina_status check(lamina_status status) {
  if (status >= 0) return status;
  const std::string text = lamina_last_error();
  const size_t colon = text.find(": ");
  throw Failure(exit_code(status), colon == text.npos ? lamina_status_name(status) : text.substr(colon + 2));
}

std::vector<Entry> catalogue(const std::string& scope) {
  std::vector<Entry> entries;
  const int64_t count = lamina_catalogue_count(scope.c_str());
  for (int64_t i = 0; i < count; ++i) {
    lamina_catalogue_entry e;
    check(lamina_catalogue_entry_init(&e, sizeof e));
    check(lamina_catalogue_describe(scope.c_str(), i, &e));
    entries.push_back({e.kind, e.key, e.owner, e.fallback, e.minimum, e.maximum, e.words, e.summary, e.description});
  }
  return entries;
}

const Entry* find(const std::vector<Entry>& entries, const std::string& key) {
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.key == key; });
  return found == entries.end() ? nullptr : &*found;
}

std::string suggestion(const std::string& word, const std::vector<Entry>& entries) {
  const Entry* best = nullptr;
  size_t least = std::max<size_t>(1, word.size() / 3) + 1;  // a third of the letters may be wrong
  for (const Entry& entry : entries)
    if (const size_t d = distance(word, entry.key); d < least) least = d, best = &entry;
  return best ? "; did you mean " + best->key + "?" : "";
}

void require_task(const std::string& name) {
  const std::vector<Entry> tasks = catalogue("tasks");
  if (find(tasks, name)) return;
  std::string known;
  for (const Entry& task : tasks) known += (known.empty() ? "" : ", ") + task.key;
  throw Failure(usage, "\"" + name + "\" is not a task, must be one of " + known + suggestion(name, tasks));
}

std::vector<Setting> parse_settings(const std::vector<std::string>& arguments) {
  std::vector<Setting> settings;
  for (const std::string& argument : arguments) {
    const size_t equals = argument.find('=');
    if (equals == argument.npos || equals == 0)
      throw Failure(usage, "\"" + argument + "\" is not a setting, must be key=value");
    const std::string key = argument.substr(0, equals);
    for (const Setting& before : settings)
      if (before.key == key)
        throw Failure(usage, key + " is given twice, as " + before.value + " and " + argument.substr(equals + 1) + ", must be given once");
    settings.push_back({key, argument.substr(equals + 1)});
  }
  return settings;
}

Options make_options(const std::string& task, const std::vector<Setting>& settings) {
  const std::vector<Entry> known = catalogue(task);
  Options options = make<Options>(lamina_options_create);
  for (const Setting& setting : settings) {
    try {
      check(lamina_options_set_text(options.get(), setting.key.c_str(), setting.value.c_str()));
    } catch (const Failure& failure) {
      throw Failure(failure.code, failure.what() + suggestion(setting.key, known));
    }
  }
  return options;
}

const std::vector<double>* Table::column(const std::string& name) const {
  for (const Column& column : columns)
    if (column.name == name) return &column.values;
  return nullptr;
}

Table read_table(const lamina_trainer* trainer) {
  return read_table(make<Trajectory>(lamina_trainer_trajectory, trainer).get());
}

Table read_table(const lamina_trajectory* trajectory) {
  int64_t rows = 0, columns = 0;
  check(lamina_trajectory_rows(trajectory, &rows));
  check(lamina_trajectory_columns(trajectory, &columns));
  Table table;
  for (int64_t c = 0; c < columns; ++c) {
    const char *name = nullptr, *definition = nullptr;
    check(lamina_trajectory_column_name(trajectory, c, &name, &definition));
    std::vector<double> values(static_cast<size_t>(rows));
    check(lamina_trajectory_read(trajectory, c, values.data(), rows));
    table.columns.push_back({name, definition, std::move(values)});
  }
  return table;
}

std::vector<Crossing> read_crossings(const lamina_trainer* trainer) {
  std::vector<Crossing> crossings;
  int64_t count = 0;
  check(lamina_trainer_crossing_count(trainer, &count));
  for (int64_t i = 0; i < count; ++i) {
    lamina_crossing c;
    check(lamina_crossing_init(&c, sizeof c));
    check(lamina_trainer_crossing(trainer, i, &c));
    crossings.push_back({c.signal, c.value, c.step, c.before, c.after, c.time});
  }
  return crossings;
}

std::string format_number(double value, int digits) {
  char text[64];
  return {text, std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr};
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size() && !text.empty();) {
    const size_t end = std::min(text.find(separator, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

}  // namespace cli
