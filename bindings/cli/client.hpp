// What the commands share: failures with their exit codes, owners of handles, the catalogue and trajectories as C++ values.
#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "lamina/lamina.h"

namespace cli {

// Exit codes of the program; also 128 + the number of the signal that stopped a run.
enum Exit { success = 0, run_failed = 1, usage = 2, timed_out = 124, by_signal = 128, largest_exit = 255 };

// One line for stderr and the exit code that goes with it.
class Failure : public std::runtime_error {
 public:
  Failure(Exit exit_code, const std::string& text) : std::runtime_error(text), code(exit_code) {}
  Exit code;
};

// Throws a Failure with the library's text, less the function's name, if status is negative.
lamina_status check(lamina_status status);

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* handle) const {
    Free(handle);
  }
};
using Options = std::unique_ptr<lamina_options, Freed<lamina_options_free>>;
using Task = std::unique_ptr<lamina_task, Freed<lamina_task_free>>;
using Model = std::unique_ptr<lamina_model, Freed<lamina_model_free>>;
using Trajectory = std::unique_ptr<lamina_trajectory, Freed<lamina_trajectory_free>>;
using Trainer = std::unique_ptr<lamina_trainer, Freed<lamina_trainer_free>>;

// Calls a function of lamina.h whose last argument is T** out, and owns what came out.
template <class Owner, class Function, class... Arguments>
Owner make(Function function, Arguments... arguments) {
  typename Owner::pointer out = nullptr;
  check(function(arguments..., &out));
  return Owner(out);
}

struct Entry {
  int32_t kind;
  std::string key, owner, fallback;
  double minimum, maximum;
  std::string words, summary, description;
};
std::vector<Entry> catalogue(const std::string& scope);
const Entry* find(const std::vector<Entry>& entries, const std::string& key);
// Fails with exit code 2 unless `name` is a task.
void require_task(const std::string& name);
// "; did you mean X?" for the key that is nearest to `word`, "" if none is near.
std::string suggestion(const std::string& word, const std::vector<Entry>& entries);

struct Setting {
  std::string key, value;
};
// Splits each "key=value"; fails with exit code 2 where a key comes twice.
std::vector<Setting> parse_settings(const std::vector<std::string>& arguments);
// Options of `task` as set on the command line.
Options make_options(const std::string& task, const std::vector<Setting>& settings);

// A trajectory, column by column.
struct Table {
  struct Column {
    std::string name, definition;
    std::vector<double> values;
  };
  std::vector<Column> columns;

  size_t rows() const { return columns.empty() ? 0 : columns[0].values.size(); }
  const std::vector<double>* column(const std::string& name) const;
};
Table read_table(const lamina_trajectory* trajectory);
Table read_table(const lamina_trainer* trainer);

struct Crossing {
  std::string signal;
  double value;
  int64_t step;  // -1: not yet
  double before, after;
  double time;  // in steps; NaN: not yet
};
std::vector<Crossing> read_crossings(const lamina_trainer* trainer);

// The C locale's "%.<digits>g"; "nan", "inf", "-inf".
std::string format_number(double value, int digits);
std::vector<std::string> split(const std::string& text, char separator);

}  // namespace cli
