// A sweep: make or load the ensemble, let it run until all members have ended or a signal stops it, then write and print what was asked for.
#include "sweep.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "file.hpp"
#include "interruption.hpp"

namespace cli {
namespace {

using Ensemble = std::unique_ptr<lamina_ensemble, Freed<lamina_ensemble_free>>;

// A key with several values is an axis; with one an option.
bool is_axis(const Entry& entry, const std::string& value) {
  if (entry.kind == LAMINA_KIND_TEXT || entry.kind == LAMINA_KIND_ARRAY) return value.find(';') != value.npos;
  return value.find(',') != value.npos || (entry.kind == LAMINA_KIND_INTEGER && value.find("..") != value.npos);
}

Ensemble create(const SweepRequest& request) {
  if (!request.resume.empty()) {
    if (!request.task.empty()) throw Failure(usage, "\"" + request.task + "\" is given, but a sweep is resumed as it is");
    return make<Ensemble>(lamina_ensemble_load, request.resume.c_str(), static_cast<const lamina_task*>(nullptr));
  }
  require_task(request.task);
  const std::vector<Setting> settings = parse_settings(request.settings);
  const std::vector<Entry> entries = catalogue(request.task);
  std::vector<Setting> fixed, axes;
  for (const Setting& setting : settings) {
    const Entry* entry = find(entries, setting.key);
    (entry && is_axis(*entry, setting.value) ? axes : fixed).push_back(setting);
  }
  const Options options = make_options(request.task, fixed);
  Ensemble ensemble = make<Ensemble>(lamina_ensemble_create, request.task.c_str(), static_cast<const lamina_task*>(nullptr),
                                     static_cast<const lamina_options*>(options.get()));
  for (const Setting& axis : axes) check(lamina_ensemble_vary(ensemble.get(), axis.key.c_str(), axis.value.c_str()));
  return ensemble;
}

struct Counts {
  int64_t ended = 0, members = 0, failed = 0;
  double seconds = 0, next = 1;
  bool terminal = false, quiet = false;
  PeriodicSave* saves = nullptr;
};

// A line redrawn on a terminal; elsewhere at 1, 2, 4, ... seconds and at the end. The end is saved by the caller.
int32_t tell(void* user, const lamina_ensemble_progress* at) {
  Counts& counts = *static_cast<Counts*>(user);
  if (at->ended < at->members) counts.saves->look();
  if (counts.quiet) return 0;
  counts.ended = at->ended, counts.members = at->members, counts.failed = at->failed, counts.seconds = at->seconds;
  const bool last = at->ended == at->members;
  if (!counts.terminal && !last && at->seconds < counts.next) return 0;
  while (counts.next <= at->seconds) counts.next *= 2;
  std::string left;
  if (at->steps > 0 && !last)
    left = "  " + format_number(std::floor(1000 * at->steps / at->all_steps) / 10, 4) + " % of steps  " +
           format_number(std::ceil(at->seconds * (at->all_steps / at->steps - 1)), 6) + " s left";
  std::fprintf(stderr, "%srun %lld/%lld%s%s%s", counts.terminal ? "\r" : "", static_cast<long long>(at->ended),
               static_cast<long long>(at->members), at->failed ? ("  failed " + std::to_string(at->failed)).c_str() : "", left.c_str(),
               counts.terminal ? "\033[K" : "\n");
  return 0;
}

lamina_status train(lamina_ensemble* ensemble, bool quiet, PeriodicSave& saves) {
  Counts counts;
  counts.terminal = isatty(STDERR_FILENO) != 0, counts.quiet = quiet, counts.saves = &saves;
  const double often = quiet ? saves.every() : std::min(saves.every(), 0.1);
  if (!quiet || saves.wanted()) check(lamina_ensemble_on_progress(ensemble, tell, &counts, often));
  const lamina_status status = lamina_ensemble_run(ensemble);
  if (counts.terminal && counts.members > 0) std::fputc('\n', stderr);
  check(lamina_ensemble_on_progress(ensemble, nullptr, nullptr, 0));
  return check(status);
}

// Tables whose columns of words, texts and arrays are read from the axes.
class Words {
 public:
  explicit Words(const lamina_ensemble* ensemble) {
    int64_t axes = 0;
    check(lamina_ensemble_axis_count(ensemble, &axes));
    for (int64_t a = 0; a < axes; ++a) {
      const char *key = nullptr, *text = nullptr;
      int64_t count = 0;
      check(lamina_ensemble_axis(ensemble, a, &key, &count));
      keys_.push_back(key);
      texts_.emplace_back(), numbers_.emplace_back();
      for (int64_t i = 0; i < count; ++i) {
        int32_t is_number = 0;
        double number = 0;
        check(lamina_ensemble_axis_value(ensemble, a, i, &text, &number, &is_number));
        if (is_number) numbers_.back().push_back(number);
        else texts_.back().push_back(text);
      }
    }
  }

  const std::vector<std::string>& axes() const { return keys_; }
  bool is_axis(const std::string& key) const { return std::find(keys_.begin(), keys_.end(), key) != keys_.end(); }
  // The numbers of an axis; empty for words, texts and arrays.
  const std::vector<double>& numbers(size_t axis) const { return numbers_[axis]; }
  std::string cell(const std::string& column, double value, int digits) const {
    const auto axis = std::find(keys_.begin(), keys_.end(), column);
    if (axis != keys_.end())
      if (const auto& texts = texts_[static_cast<size_t>(axis - keys_.begin())]; !texts.empty()) return texts[static_cast<size_t>(value)];
    return format_number(value, digits);
  }

 private:
  std::vector<std::string> keys_;
  std::vector<std::vector<std::string>> texts_;  // empty for numbers
  std::vector<std::vector<double>> numbers_;
};

// RFC 4180: a cell with a comma or a quote stands in quotes.
std::string quoted(const std::string& cell) {
  if (cell.find_first_of(",\"\n") == cell.npos) return cell;
  std::string text = "\"";
  for (char c : cell) text += c == '"' ? std::string("\"\"") : std::string(1, c);
  return text + "\"";
}

void write_csv(const std::string& path, const Table& table, const Words& words) {
  OutputFile file(path);
  std::string text;
  for (const Table::Column& column : table.columns) text.append(column.name).append(",");
  text.back() = '\n';
  for (size_t row = 0; row < table.rows(); ++row) {
    for (const Table::Column& column : table.columns) text.append(quoted(words.cell(column.name, column.values[row], 17))).append(",");
    text.back() = '\n';
    if (text.size() < 1 << 20) continue;
    file.write(text);
    text.clear();
  }
  file.write(text);
  file.commit();
}

void print(const Table& table, const Words& words, const std::vector<size_t>& rows) {
  std::vector<std::string> lines(rows.size() + 1);
  for (const Table::Column& column : table.columns) {
    std::vector<std::string> cells{column.name};
    for (size_t row : rows) cells.push_back(std::isnan(column.values[row]) ? "-" : words.cell(column.name, column.values[row], 6));
    const size_t width = std::ranges::max(cells, {}, &std::string::size).size() + 2;
    for (size_t i = 0; i < cells.size(); ++i) lines[i] += std::string(width - cells[i].size(), ' ') + cells[i];
  }
  for (const std::string& line : lines) std::printf("%s\n", line.c_str());
}

std::vector<double> numbers(const char* option, const std::string& text) {
  std::vector<double> values;
  for (const std::string& part : split(text, ',')) {
    char* end = nullptr;
    values.push_back(std::strtod(part.c_str(), &end));
    if (part.empty() || *end) throw Failure(usage, std::string(option) + " is \"" + text + "\", must be numbers with commas");
  }
  return values;
}

// The rows of the last step of each group, for the terminal.
std::vector<size_t> last_steps(const Table& summary) {
  const std::vector<double>& step = *summary.column("step");
  std::vector<size_t> rows;
  for (size_t row = 0; row < step.size(); ++row)
    if (row + 1 == step.size() || step[row + 1] <= step[row]) rows.push_back(row);
  return rows;
}

std::vector<size_t> all_rows(const Table& table) {
  std::vector<size_t> rows(table.rows());
  for (size_t row = 0; row < rows.size(); ++row) rows[row] = row;
  return rows;
}

// How the members ended, in words; the first failures on stderr.
std::string endings(const lamina_ensemble* ensemble, int64_t& failed, int64_t& out_of_time) {
  int64_t members = 0, shown = 0;
  check(lamina_ensemble_count(ensemble, &members));
  std::vector<std::pair<std::string, int64_t>> counts;
  for (int64_t i = 0; i < members; ++i) {
    lamina_status status = LAMINA_OK;
    const char* text = nullptr;
    check(lamina_ensemble_status(ensemble, i, &status, &text));
    const char* const words[] = {"finished", "not ended", "diverged", "ended by a vanished gradient", "reached a target", "ended by time_limit"};
    const std::string word = status < 0 ? "failed" : status < 6 ? words[status] : lamina_status_name(status);
    out_of_time += status == LAMINA_TIME_LIMIT;
    const auto found = std::ranges::find(counts, word, &std::pair<std::string, int64_t>::first);
    if (found == counts.end()) counts.emplace_back(word, 1);
    else ++found->second;
    if (status < 0 && ++failed && ++shown <= 5) std::fprintf(stderr, "lamina: run %lld failed: %s\n", static_cast<long long>(i), text);
  }
  std::string all;
  for (const auto& [word, count] : counts) all += (all.empty() ? "" : ", ") + std::to_string(count) + " " + word;
  return all;
}

std::string list_of(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// The keys of --over that are axes. An option with one value is none, and there is nothing to take together over it.
std::string checked_over(const SweepRequest& request, const lamina_ensemble* ensemble, const Words& words) {
  std::string axes;
  for (const std::string& key : split(request.over, ',')) {
    const char* value = nullptr;
    if (words.is_axis(key)) axes += (axes.empty() ? "" : ",") + key;
    else if (lamina_ensemble_option(ensemble, 0, key.c_str(), &value) < 0)
      throw Failure(usage, "--over has \"" + key + "\", must be axes with commas" +
                               (words.axes().empty() ? ", and there is none" : ": " + list_of(words.axes())));
  }
  return axes;
}

void check_along(const std::string& along, const std::vector<double>& levels, const Words& words) {
  if (along.empty()) return;
  std::vector<std::string> allowed;
  for (size_t a = 0; a < words.axes().size(); ++a) {
    const std::vector<double>& values = words.numbers(a);
    if (!values.empty() && std::ranges::all_of(values, [](double v) { return v > 0 && std::isfinite(v); })) allowed.push_back(words.axes()[a]);
  }
  allowed.push_back("level");
  if (std::ranges::find(allowed, along) == allowed.end())
    throw Failure(usage, "--along is \"" + along + "\", must be an axis of positive finite numbers, or level: " + list_of(allowed));
  for (const double level : levels)
    if (along == "level" && !(level > 0)) throw Failure(usage, "--levels has " + format_number(level, 6) + ", must be positive with --along level");
}

// The columns that members have, and the columns that they watch for crossings.
struct Columns {
  std::vector<std::string> columns, watched;

  void add(const Table& table, const std::vector<Crossing>& crossings) {
    const auto insert = [](std::vector<std::string>& names, const std::string& name) {
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    };
    for (const Table::Column& column : table.columns) insert(columns, column.name);
    for (const Crossing& crossing : crossings) insert(watched, crossing.signal);
  }
  bool has(const std::string& column) const {
    return std::ranges::find(columns, column) != columns.end() || watches(column);
  }
  bool watches(const std::string& column) const { return std::ranges::find(watched, column) != watched.end(); }
};

// Refuses, before the first step, a --column that no run will have, and times to no level. Members are made, one after another, until
// one has the column; of those that differ only by seed or by numbers of the trainer, which no column depends on, one. Those that
// cannot be made fail in the sweep, each alone.
void check_column(const lamina_ensemble* ensemble, const SweepRequest& request, bool levels_wanted, const Words& words) {
  Columns known;
  const auto done = [&] { return known.has(request.column) && (!levels_wanted || known.watches(request.column)); };
  const std::vector<Entry> entries = catalogue(request.task);
  std::vector<std::string> kinds;
  int64_t members = 0;
  check(lamina_ensemble_count(ensemble, &members));
  for (int64_t i = 0; i < members && !done(); ++i) {
    std::string kind;
    for (const std::string& key : words.axes()) {
      const Entry* entry = find(entries, key);
      const bool number = entry && (entry->kind == LAMINA_KIND_NUMBER || entry->kind == LAMINA_KIND_INTEGER);
      if (key == "seed" || (number && entry->owner == "trainer")) continue;
      const char* value = nullptr;
      check(lamina_ensemble_option(ensemble, i, key.c_str(), &value));
      kind.append(value).append("\n");
    }
    if (std::ranges::find(kinds, kind) != kinds.end()) continue;
    kinds.push_back(std::move(kind));
    try {
      const Options options = make<Options>(lamina_ensemble_options, ensemble, i);
      check(lamina_options_set_text(options.get(), "threads", "1"));
      const Task task = make<Task>(lamina_task_create, request.task.c_str(), static_cast<const lamina_options*>(options.get()));
      const Trainer trainer = make<Trainer>(lamina_trainer_create, task.get(), static_cast<const lamina_model*>(nullptr),
                                            static_cast<const lamina_options*>(options.get()));
      known.add(read_table(trainer.get()), read_crossings(trainer.get()));
    } catch (const Failure&) {
    }
  }
  if (known.columns.empty() || done()) return;
  if (!known.has(request.column)) {
    std::vector<Entry> near;
    for (const std::string& column : known.columns) near.push_back({0, column, "", "", 0, 0, "", "", ""});
    throw Failure(usage, "--column is \"" + request.column + "\", must be one of " + list_of(known.columns) + suggestion(request.column, near));
  }
  throw Failure(usage, "--levels is \"\", must be levels of " + request.column + " where no run's option crossings has it" +
                           (known.watched.empty() ? "" : ": they have " + list_of(known.watched)));
}

}  // namespace

Exit sweep(const SweepRequest& request) {
  const std::vector<double> levels = numbers("--levels", request.levels), quantiles = numbers("--quantiles", request.quantiles);
  const auto level_count = static_cast<int64_t>(levels.size());
  const bool quiet = require_different({{"--csv", request.csv}, {"--summary", request.summary}, {"--times", request.times},
                                        {"--exponents", request.exponents}, {"--save", request.save}}) || request.quiet;  // of tables
  const double save_every = seconds_between_saves(request.save_every, request.save);
  if (!request.exponents.empty() && request.along.empty()) throw Failure(usage, "--exponents is given, and needs --along");
  for (const double level : levels)
    if (!std::isfinite(level)) throw Failure(usage, "--levels has " + format_number(level, 6) + ", must be finite numbers");
  for (const double p : quantiles)
    if (!(p >= 0 && p <= 1)) throw Failure(usage, "--quantiles has " + format_number(p, 6) + ", must be numbers in [0, 1]");
  if (!(request.confidence > 0 && request.confidence < 1))
    throw Failure(usage, "--confidence is " + format_number(request.confidence, 6) + ", must be in (0, 1)");
  const Ensemble owner = create(request);
  lamina_ensemble* const ensemble = owner.get();
  require_writable("--csv", request.csv, true);
  require_writable("--summary", request.summary, true);
  require_writable("--times", request.times, true);
  require_writable("--exponents", request.exponents, true);
  require_writable("--save", request.save, false);
  const Words words(ensemble);
  const std::string over = checked_over(request, ensemble, words);
  check_along(request.along, levels, words);
  // A resumed sweep has its file, so that what is asked wrongly loses nothing.
  if (request.resume.empty()) check_column(ensemble, request, levels.empty() && !(request.times.empty() && request.along.empty()), words);

  PeriodicSave saves(request.save, save_every, [&] { check(lamina_ensemble_save(ensemble, request.save.c_str())); });
  // Until all is written: what a closing terminal or a service manager sends after the first signal ends nothing.
  const StopOnSignal signals([](void* running) { lamina_ensemble_stop(static_cast<lamina_ensemble*>(running)); }, ensemble);
  const lamina_status status = train(ensemble, request.quiet, saves);
  bool broken = false;
  const auto attempt = [&](auto&& write) {  // a sweep is not lost to a full disk
    try {
      write();
    } catch (const Failure& failure) {
      std::fprintf(stderr, "lamina: %s\n", failure.what());
      broken = true;
    }
  };
  const auto table_of = [](auto function, auto... arguments) { return read_table(make<Trajectory>(function, arguments...).get()); };
  const lamina_ensemble* const ended = ensemble;
  if (!request.save.empty()) attempt([&] { check(lamina_ensemble_save(ended, request.save.c_str())); });
  if (!request.csv.empty()) attempt([&] { write_csv(request.csv, table_of(lamina_ensemble_table, ended), words); });
  if (!request.summary.empty() || !quiet)
    attempt([&] {
      const Table table = table_of(lamina_ensemble_summary, ended, request.column.c_str(), over.c_str(), quantiles.data(),
                                   static_cast<int64_t>(quantiles.size()));
      if (!request.summary.empty()) write_csv(request.summary, table, words);
      if (quiet) return;
      std::printf("%s at the last step\n", request.column.c_str());
      print(table, words, last_steps(table));
    });
  if (!request.times.empty())
    attempt([&] { write_csv(request.times, table_of(lamina_ensemble_times, ended, request.column.c_str(), levels.data(), level_count), words); });
  if (!request.along.empty())
    attempt([&] {
      const Table table = table_of(lamina_ensemble_exponents, ended, request.column.c_str(), request.along.c_str(), over.c_str(), levels.data(),
                                   level_count, request.confidence);
      if (!request.exponents.empty()) write_csv(request.exponents, table, words);
      if (quiet) return;
      std::printf("%s\n", table.column("exponent") ? table.columns[table.columns.size() - 8].definition.c_str() : "");
      print(table, words, all_rows(table));
    });
  int64_t failed = 0, out_of_time = 0;
  const std::string how = endings(ended, failed, out_of_time);
  if (!quiet) std::printf("%s\n", how.c_str());
  if (status == LAMINA_STOPPED) return signals.code();
  if (broken || failed) return run_failed;
  return out_of_time > 0 ? timed_out : success;
}

}  // namespace cli
