// What a run was: its task, the value of every option, the model as it stands. Read from the trainer, so also after a resume.
#pragma once
#include <string>
#include <vector>

#include "client.hpp"

namespace cli {

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  bool trained;
  std::vector<double> values;
};

struct Description {
  std::string task;
  std::vector<Entry> entries;       // of the task's scope, and
  std::vector<std::string> values;  // for each the value that held, as text
  std::string isa;
  std::vector<Tensor> tensors;

  const std::string& option(const std::string& key) const;  // "" for a key that the task does not have
  double number(const std::string& key) const;
  const Tensor* tensor(const std::string& name) const;
  int threads() const;  // at most so many: the option, and what is available
};

Description describe(const lamina_trainer* trainer);

// The results of a closed form, for `task` (may be null); NaN where it does not apply.
std::vector<double> theory_results(const char* name, const lamina_task* task, const std::vector<double>& arguments, size_t results);
double theory(const char* name, const lamina_task* task, const std::vector<double>& arguments);

}  // namespace cli
