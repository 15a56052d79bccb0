// Reading a run's description from its trainer.
#include "description.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <thread>

namespace cli {
namespace {

std::vector<Tensor> read_tensors(const lamina_model* model) {
  int64_t count = 0, parameters = 0;
  check(lamina_model_tensor_count(model, &count));
  check(lamina_model_parameter_count(model, &parameters));
  std::vector<double> all(static_cast<size_t>(parameters));
  check(lamina_model_get_parameters(model, all.data(), parameters));
  std::vector<Tensor> tensors;
  for (int64_t i = 0; i < count; ++i) {
    lamina_tensor t;
    check(lamina_tensor_init(&t, sizeof t));
    check(lamina_model_tensor_describe(model, i, &t));
    const auto first = all.begin() + t.offset;
    tensors.push_back({t.name, {t.shape, t.shape + t.rank}, t.trained != 0, {first, first + t.count}});
  }
  return tensors;
}

}  // namespace

const std::string& Description::option(const std::string& key) const {
  static const std::string none;
  const Entry* entry = find(entries, key);
  return entry ? values[static_cast<size_t>(entry - entries.data())] : none;
}

double Description::number(const std::string& key) const {
  const std::string& text = option(key);
  return text.empty() ? std::numeric_limits<double>::quiet_NaN() : std::strtod(text.c_str(), nullptr);
}

const Tensor* Description::tensor(const std::string& name) const {
  for (const Tensor& t : tensors)
    if (t.name == name) return &t;
  return nullptr;
}

int Description::threads() const {
  const double asked = number("threads"), here = std::max(1u, std::thread::hardware_concurrency());
  return static_cast<int>(asked > 0 ? std::min(asked, here) : here);
}

Description describe(const lamina_trainer* trainer) {
  Description run;
  const Task task = make<Task>(lamina_trainer_task, trainer);
  run.task = lamina_task_name(task.get());
  run.entries = catalogue(run.task);
  for (const Entry& entry : run.entries) {
    const char* value = nullptr;
    check(lamina_trainer_option(trainer, entry.key.c_str(), &value));
    run.values.emplace_back(value);
  }
  const Model model = make<Model>(lamina_trainer_model, trainer);
  run.isa = lamina_model_isa(model.get());
  run.tensors = read_tensors(model.get());
  return run;
}

std::vector<double> theory_results(const char* name, const lamina_task* task, const std::vector<double>& arguments, size_t results) {
  std::vector<double> out(results);
  const auto count = static_cast<int64_t>(arguments.size());
  if (lamina_theory_evaluate(name, task, arguments.data(), count, out.data(), static_cast<int64_t>(results)) != LAMINA_OK)
    out.assign(results, std::numeric_limits<double>::quiet_NaN());
  return out;
}

double theory(const char* name, const lamina_task* task, const std::vector<double>& arguments) {
  return theory_results(name, task, arguments, 1)[0];
}

}  // namespace cli
