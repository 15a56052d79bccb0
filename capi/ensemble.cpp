// lamina.h, section ensemble: many runs, their progress, their tables, and their file.
#include "capi/check.hpp"
#include "capi/guard.hpp"
#include "capi/handles.hpp"
#include "ensemble/tables.hpp"

using namespace lamina;
using namespace lamina::capi;

namespace {

// As in trainer.cpp: a callback must not change the ensemble that called it.
class Running {
 public:
  explicit Running(lamina_ensemble* ensemble) : run_(ensemble->run) {
    if (run_->running.exchange(true)) fail(LAMINA_E_STATE, "ensemble is running, must not be: a callback of its own is under way");
  }
  ~Running() { run_->running.store(false); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  Ensemble* operator->() const { return run_->ensemble.get(); }

 private:
  std::shared_ptr<lamina_ensemble::Run> run_;
};

lamina_ensemble* make_handle(std::unique_ptr<Ensemble> ensemble) {
  auto run = std::make_shared<lamina_ensemble::Run>();
  run->ensemble = std::move(ensemble);
  return new lamina_ensemble{std::move(run)};
}

const Ensemble& opened(const lamina_ensemble* ensemble) {
  require(ensemble, "ensemble");
  return *ensemble->run->ensemble;
}

const Axis& axis_at(const Ensemble& ensemble, int64_t axis) {
  require_range("axis", axis, 0, static_cast<int64_t>(ensemble.axes().size()) - 1);
  return ensemble.axes()[static_cast<size_t>(axis)];
}

void require_member(const Ensemble& ensemble, int64_t member) { require_range("member", member, 0, ensemble.count() - 1); }

std::span<const double> numbers(const char* name, const double* values, int64_t count) {
  require_range("count", count, 0, largest_count);
  if (count > 0) require(values, name);
  return {values, static_cast<size_t>(count)};
}

std::string text_or_none(const char* text) { return text ? text : ""; }

}  // namespace

lamina_status lamina_ensemble_create(const char* name, const lamina_task* task, const lamina_options* options, lamina_ensemble** out) {
  return guard("lamina_ensemble_create", [&] {
    if (!task) require(name, "name");
    require(out, "out");
    require_isa();
    const std::string of_task = task ? task->task->name() : name;
    if (name && of_task != name)
      fail(LAMINA_E_ARGUMENT, "name is \"" + std::string(name) + "\", must be NULL or the name of the task, " + of_task);
    *out = make_handle(std::make_unique<Ensemble>(of_task, task ? task->task : nullptr, given(options)));
  });
}

void lamina_ensemble_free(lamina_ensemble* ensemble) {
  guard("lamina_ensemble_free", [&] { delete ensemble; });
}

lamina_status lamina_ensemble_vary(lamina_ensemble* ensemble, const char* key, const char* values) {
  return guard("lamina_ensemble_vary", [&] {
    require(ensemble, "ensemble");
    require(key, "key");
    require(values, "values");
    const Running running(ensemble);
    running->vary(key, std::string(values));
  });
}

lamina_status lamina_ensemble_count(const lamina_ensemble* ensemble, int64_t* out) {
  return guard("lamina_ensemble_count", [&] {
    require(ensemble, "ensemble");
    require(out, "out");
    *out = opened(ensemble).count();
  });
}

lamina_status lamina_ensemble_axis_count(const lamina_ensemble* ensemble, int64_t* out) {
  return guard("lamina_ensemble_axis_count", [&] {
    require(ensemble, "ensemble");
    require(out, "out");
    *out = static_cast<int64_t>(opened(ensemble).axes().size());
  });
}

lamina_status lamina_ensemble_axis(const lamina_ensemble* ensemble, int64_t axis, const char** key, int64_t* count) {
  return guard("lamina_ensemble_axis", [&] {
    const Axis& found = axis_at(opened(ensemble), axis);
    require(key, "key");
    require(count, "count");
    *key = found.key.c_str(), *count = static_cast<int64_t>(found.values.size());
  });
}

lamina_status lamina_ensemble_axis_value(const lamina_ensemble* ensemble, int64_t axis, int64_t index, const char** text, double* number,
                                         int32_t* is_number) {
  return guard("lamina_ensemble_axis_value", [&] {
    const Axis& found = axis_at(opened(ensemble), axis);
    require_range("index", index, 0, static_cast<int64_t>(found.values.size()) - 1);
    require(text, "text");
    const auto place = static_cast<size_t>(index);
    *text = found.texts[place].c_str();
    if (number) *number = found.numeric() ? std::get<double>(found.values[place]) : static_cast<double>(index);
    if (is_number) *is_number = found.numeric();
  });
}

lamina_status lamina_ensemble_option(const lamina_ensemble* ensemble, int64_t member, const char* key, const char** out) {
  return guard("lamina_ensemble_option", [&] {
    const Ensemble& all = opened(ensemble);
    require_member(all, member);
    require(key, "key");
    require(out, "out");
    std::string value = all.option(member, key);
    const std::lock_guard lock(ensemble->run->mutex);
    *out = ensemble->run->texts.insert(std::move(value)).first->c_str();
  });
}

lamina_status lamina_ensemble_options(const lamina_ensemble* ensemble, int64_t member, lamina_options** out) {
  return guard("lamina_ensemble_options", [&] {
    const Ensemble& all = opened(ensemble);
    require_member(all, member);
    require(out, "out");
    *out = new lamina_options{all.options(member)};
  });
}

lamina_status lamina_ensemble_on_progress(lamina_ensemble* ensemble, lamina_ensemble_progress_function function, void* user,
                                          double seconds) {
  return guard("lamina_ensemble_on_progress", [&] {
    require(ensemble, "ensemble");
    if (!(seconds >= 0)) fail_argument("seconds", seconds, "at least 0");
    const Running running(ensemble);
    if (!function) {
      running->on_progress(nullptr, 0);
      return;
    }
    const auto call = [function, user](const EnsembleProgress& at) {
      const lamina_ensemble_progress progress{sizeof(lamina_ensemble_progress), 0, at.ended, at.members, at.failed, at.seconds,
                                              at.steps, at.all_steps};
      const HostCall host;
      return function(user, &progress) == 0;
    };
    running->on_progress(call, seconds);
  });
}

lamina_status lamina_ensemble_run(lamina_ensemble* ensemble) {
  return guard("lamina_ensemble_run", [&]() -> lamina_status {
    require(ensemble, "ensemble");
    const Running running(ensemble);
    return running->run();
  });
}

// No guard: this may be called from a signal handler.
void lamina_ensemble_stop(lamina_ensemble* ensemble) {
  if (ensemble) ensemble->run->ensemble->stop();
}

lamina_status lamina_ensemble_status(const lamina_ensemble* ensemble, int64_t member, lamina_status* status, const char** text) {
  return guard("lamina_ensemble_status", [&] {
    const Ensemble& all = opened(ensemble);
    require_member(all, member);
    require(status, "status");
    *status = all.member(member).status;
    if (text) *text = all.member(member).text.c_str();
  });
}

lamina_status lamina_ensemble_trajectory(const lamina_ensemble* ensemble, int64_t member, lamina_trajectory** out) {
  return guard("lamina_ensemble_trajectory", [&] {
    const Ensemble& all = opened(ensemble);
    require_member(all, member);
    require(out, "out");
    const Member& of = all.member(member);
    if (!of.trajectory)
      fail(LAMINA_E_STATE, "member is " + std::to_string(member) + ", which has " + (of.ended() ? "failed: " + of.text : "not ended"));
    *out = new lamina_trajectory{of.trajectory};
  });
}

lamina_status lamina_ensemble_table(const lamina_ensemble* ensemble, lamina_trajectory** out) {
  return guard("lamina_ensemble_table", [&] {
    require(ensemble, "ensemble");
    require(out, "out");
    *out = new lamina_trajectory{table_of(opened(ensemble))};
  });
}

lamina_status lamina_ensemble_summary(const lamina_ensemble* ensemble, const char* column, const char* over, const double* quantiles,
                                      int64_t count, lamina_trajectory** out) {
  return guard("lamina_ensemble_summary", [&] {
    require(ensemble, "ensemble");
    require(column, "column");
    const auto asked = numbers("quantiles", quantiles, count);
    require(out, "out");
    *out = new lamina_trajectory{summary_of(opened(ensemble), {column, text_or_none(over)}, asked)};
  });
}

lamina_status lamina_ensemble_times(const lamina_ensemble* ensemble, const char* column, const double* levels, int64_t count,
                                    lamina_trajectory** out) {
  return guard("lamina_ensemble_times", [&] {
    require(ensemble, "ensemble");
    require(column, "column");
    const auto asked = numbers("levels", levels, count);
    require(out, "out");
    *out = new lamina_trajectory{times_of(opened(ensemble), column, asked)};
  });
}

lamina_status lamina_ensemble_exponents(const lamina_ensemble* ensemble, const char* column, const char* along, const char* over,
                                        const double* levels, int64_t count, double confidence, lamina_trajectory** out) {
  return guard("lamina_ensemble_exponents", [&] {
    require(ensemble, "ensemble");
    require(column, "column");
    require(along, "along");
    const auto asked = numbers("levels", levels, count);
    require(out, "out");
    *out = new lamina_trajectory{exponents_of(opened(ensemble), {column, text_or_none(over)}, along, asked, confidence)};
  });
}

lamina_status lamina_ensemble_save(const lamina_ensemble* ensemble, const char* path) {
  return guard("lamina_ensemble_save", [&] {
    require(ensemble, "ensemble");
    require(path, "path");
    opened(ensemble).save(path);
  });
}

lamina_status lamina_ensemble_load(const char* path, const lamina_task* task, lamina_ensemble** out) {
  return guard("lamina_ensemble_load", [&] {
    require(path, "path");
    require(out, "out");
    require_isa();
    *out = make_handle(Ensemble::load(path, task ? task->task : nullptr));
  });
}
