// Checkpoints: one tensor file with everything that is needed to continue with the same bits.
#include "train/tensor_file.hpp"
#include "train/trainer.hpp"

namespace lamina {
namespace {

constexpr const char* format = "lamina-checkpoint-1";

// What the user set, without what follows from defaults: made again from these, Settings are the same.
std::map<std::string, OptionValue> given_values(const Settings& settings) {
  std::map<std::string, OptionValue> given;
  for (const auto& [key, value] : settings.values())
    if (settings.given(key.c_str())) given.emplace(key, value);
  return given;
}

// What a task that is not made again from its settings must have in common with the saved one's.
Json shape_in_json(const Task& task) {
  Json json{{"length", task.positions()}};
  if (const RecallLaw* law = task.recall())
    json.update({{"vocabulary", law->vocabulary}, {"noise", law->noise}, {"triggers", law->triggers}});
  return json;
}

bool has_shape(const Json& run, const Task& task) {
  const Json shape = shape_in_json(task);
  for (const auto& [key, value] : shape.items())
    if (run.at(key) != value) return false;
  return true;
}

}  // namespace

void Trainer::save(const std::string& path) const {
  const Saved all = saved();
  write_tensor_file(path, format, all.content, all.tensors);
}

Saved Trainer::saved() const {
  Json run;
  run["task"] = task_->name();
  run["task_settings"] = to_json(given_values(task_->settings()));
  run["model_settings"] = to_json(given_values(model_->settings()));
  run["options"] = to_json(options_.values());
  run.update(shape_in_json(*task_));
  run["step"] = step_, run["recorded"] = recorded_, run["seconds"] = seconds_;
  run["probes"] = Json::array();
  for (const ProbeRow* probe : probes_) run["probes"].push_back(probe->name);
  std::vector<double> courses;
  for (const Course& course : courses_) courses.insert(courses.end(), course.numbers.begin(), course.numbers.end());
  return {std::move(run),
          {{"parameters", model_->parameters()}, {"optimiser", optimiser_->state()}, {"trajectory", trajectory_->values()},
           {"courses", std::move(courses)}, {"crossings", crossings_->state()},
           {"crossing_times", crossings_->times()}, {"stop_rules", stop_rules_.state()}}};
}

std::unique_ptr<Trainer> Trainer::load(const std::string& path, std::shared_ptr<const Task> task) {
  try {
    Saved saved;
    saved.content = read_tensor_file(path, format, saved.tensors);
    const Json& run = saved.content;
    const std::string name = run.at("task");
    if (!task) {
      if (name == "arrays" || name == "callback")
        fail(LAMINA_E_ARGUMENT, "task is NULL, must be the host's own task, which is not in the file");
      const TaskRow& row = find_task(name);
      task = row.create(Settings(row.options, options_in(run.at("task_settings"))));
    } else if (task->name() != name || !has_shape(run, *task) || to_json(given_values(task->settings())) != run.at("task_settings")) {
      fail(LAMINA_E_ARGUMENT, "task is another " + std::string(task->name()) + ", must be the task of the saved run, a " + name +
                                  " of the same options and shape");
    }
    return restored(saved, std::move(task));
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    fail(LAMINA_E_FORMAT, "path is " + path + ", which is not a checkpoint: " + error.what());
  }
}

std::unique_ptr<Trainer> Trainer::restored(const Saved& saved, std::shared_ptr<const Task> task, const Trainer* twin) {
  const Json& run = saved.content;
  const Tensors& tensors = saved.tensors;
  Options options = options_in(run.at("options"));
  const TaskRow* row = nullptr;
  for (const TaskRow& known : task_registry())
    if (known.name == std::string(task->name())) row = &known;
  const std::unique_ptr<Model> model = make_model(
      *task, Settings(model_options(), options_in(run.at("model_settings")), row ? row->defaults : std::span<const OptionDefault>{}));
  model->set_parameters(tensors.at("parameters"));  // first: the objective reads them
  options.set("probes", std::string("none"));
  auto trainer = std::make_unique<Trainer>(std::move(task), model.get(), options, twin, true);
  trainer->set_options(options_in(run.at("options")));
  for (const Json& probe : run.at("probes")) trainer->add_probe(probe.get<std::string>());
  trainer->build_columns();
  const auto& values = tensors.at("trajectory");
  const auto& state = tensors.at("optimiser");
  if (values.size() % trainer->trajectory_->columns().size() != 0 || state.size() != trainer->optimiser_->state().size())
    throw std::runtime_error("its tables have other sizes than the run needs");
  trainer->optimiser_->set_state(state);
  trainer->trajectory_->assign(values);
  trainer->step_ = integer_in(run, "step", 0, trainer->settings_.integer("steps"));
  trainer->recorded_ = integer_in(run, "recorded", -1, trainer->step_);
  if (tensors.contains("crossings")) {  // files of versions before these were written have neither
    const auto &crossings = tensors.at("crossings"), &rules = tensors.at("stop_rules");
    if (crossings.size() != trainer->crossings_->state().size() || rules.size() != trainer->stop_rules_.state().size())
      throw std::runtime_error("its crossings or stop rules are not those of its options");
    for (size_t i = 0; i < crossings.size(); i += Crossings::state_size)
      for (const double step : {crossings[i], crossings[i + Crossings::state_size - 1]})
        if (!(step >= -1 && step <= static_cast<double>(trainer->step_)))
          throw std::runtime_error("it has a crossing at a step that was not made");
    trainer->crossings_->set_state(crossings);
    if (tensors.contains("crossing_times")) {
      const auto& times = tensors.at("crossing_times");
      if (times.size() * Crossings::state_size != crossings.size()) throw std::runtime_error("its crossings have not a moment each");
      trainer->crossings_->set_times(times);
    }
    trainer->stop_rules_.set_state(rules);
  }
  if (tensors.contains("courses")) {  // nor these
    const auto& courses = tensors.at("courses");
    size_t at = 0;
    for (Course& course : trainer->courses_)
      for (double& number : course.numbers) number = at < courses.size() ? courses[at] : 0, ++at;
    if (at != courses.size()) throw std::runtime_error("its probes are not those of its options");
  }
  trainer->seconds_ = run.at("seconds");
  if (!(trainer->seconds_ >= 0)) throw std::runtime_error("its seconds are negative");
  const auto rows = trainer->trajectory_->rows();
  if (trainer->recorded_ != (rows > 0 ? static_cast<int64_t>(trainer->trajectory_->at(rows - 1, 0)) : -1))
    throw std::runtime_error("its last row is not of the step last recorded");
  return trainer;
}

}  // namespace lamina
