// Runs written as one line of options, for tests: run("noise=0 variant=w_free steps=500").
#pragma once
#include <sstream>
#include <string>

#include "train/trainer.hpp"

namespace lamina::tests {

inline Options options_of(const std::string& line) {
  Options options;
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    options.set(word.substr(0, equals), word.substr(equals + 1));
  }
  return options;
}

inline std::shared_ptr<const Task> task_of(const std::string& name, const std::string& line) {
  const TaskRow& row = find_task(name);
  return row.create(Settings(row.options, options_of(line), row.defaults));
}
inline std::shared_ptr<const Task> recall_task(const std::string& line) { return task_of("in_context_recall", line); }
inline std::shared_ptr<const Task> convergence_task(const std::string& line) { return task_of("in_context_convergence", line); }

inline std::unique_ptr<Model> model_of(const Task& task, const std::string& line) {
  return make_model(task, Settings(model_options(), options_of(line)));
}

// A trainer; not yet run.
inline std::unique_ptr<Trainer> trainer_of(const std::string& line, const std::string& task = "in_context_recall") {
  return std::make_unique<Trainer>(task_of(task, line), nullptr, options_of(line));
}

// A finished run, with its columns by name.
class Experiment {
 public:
  explicit Experiment(const std::string& line, const std::string& task = "in_context_recall")
      : trainer(trainer_of(line, task)), status(trainer->run(0)), table(trainer->trajectory()) {}

  int64_t column(const std::string& name) const {
    for (size_t c = 0; c < table->columns().size(); ++c)
      if (table->columns()[c].name == name) return static_cast<int64_t>(c);
    throw std::runtime_error("no column " + name);
  }
  // The value in the row of a recorded step.
  double at(int64_t step, const std::string& name) const {
    for (int64_t r = 0; r < table->rows(); ++r)
      if (table->at(r, 0) == static_cast<double>(step)) return table->at(r, column(name));
    throw std::runtime_error("no row for step " + std::to_string(step));
  }
  double last(const std::string& name) const { return table->at(table->rows() - 1, column(name)); }
  // The first recorded step at which holds(row) is true, or -1.
  template <class Holds>
  int64_t first_step(Holds holds) const {
    for (int64_t r = 0; r < table->rows(); ++r)
      if (holds(r)) return static_cast<int64_t>(table->at(r, 0));
    return -1;
  }

  std::unique_ptr<Trainer> trainer;
  lamina_status status;
  std::shared_ptr<const Trajectory> table;
};

}  // namespace lamina::tests
