// lamina.h, section trainer: a run, its progress, and its file.
#include "capi/check.hpp"
#include "capi/guard.hpp"
#include "capi/handles.hpp"
#include "train/catalogue.hpp"

using namespace lamina;
using namespace lamina::capi;

namespace {

// Marks a run as under way, and fails where one is: a callback must not change the run that called it.
class Running {
 public:
  explicit Running(lamina_trainer* trainer) : run_(trainer->run) {
    if (run_->running.exchange(true))
      fail(LAMINA_E_STATE, "trainer is running, must not be: a callback of its own is under way");
  }
  ~Running() { run_->running.store(false); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  Trainer* operator->() const { return run_->trainer.get(); }

 private:
  std::shared_ptr<lamina_trainer::Run> run_;
};

lamina_trainer* make_handle(std::unique_ptr<Trainer> trainer) {
  auto run = std::make_shared<lamina_trainer::Run>();
  run->trainer = std::move(trainer);
  return new lamina_trainer{std::move(run)};
}

}  // namespace

lamina_status lamina_trainer_create(const lamina_task* task, const lamina_model* model, const lamina_options* options,
                                    lamina_trainer** out) {
  return guard("lamina_trainer_create", [&] {
    require(task, "task");
    require(out, "out");
    require_isa();
    const Options set = given(options);
    require_options_of(task->task->name(), set);
    if (model && task->task->kind() == recall_task && model->model->kind() == recall_task) {
      const int64_t vocabulary = task->task->law().vocabulary;
      require_range("the model's vocabulary", model->model->law().vocabulary, vocabulary, vocabulary);
    }
    *out = make_handle(std::make_unique<Trainer>(task->task, model ? model->model.get() : nullptr, set));
  });
}

void lamina_trainer_free(lamina_trainer* trainer) {
  guard("lamina_trainer_free", [&] { delete trainer; });
}

lamina_status lamina_trainer_watch(lamina_trainer* trainer, const char* probe) {
  return guard("lamina_trainer_watch", [&] {
    require(trainer, "trainer");
    require(probe, "probe");
    const Running running(trainer);
    running->watch(probe);
  });
}

lamina_status lamina_trainer_on_progress(lamina_trainer* trainer, lamina_progress_function function, void* user,
                                         double seconds) {
  return guard("lamina_trainer_on_progress", [&] {
    require(trainer, "trainer");
    if (!(seconds >= 0)) fail_argument("seconds", seconds, "at least 0");
    const Running running(trainer);
    if (!function) {
      running->on_progress(nullptr, 0);
      return;
    }
    const auto call = [function, user](const Progress& at) {
      const lamina_progress progress{sizeof(lamina_progress), 0, at.step, at.steps, at.loss, at.excess, at.seconds,
                                     at.steps_per_second};
      const HostCall host;
      return function(user, &progress) == 0;
    };
    running->on_progress(call, seconds);
  });
}

lamina_status lamina_trainer_run(lamina_trainer* trainer, int64_t steps) {
  return guard("lamina_trainer_run", [&]() -> lamina_status {
    require(trainer, "trainer");
    require_range("steps", steps, 0, INT64_MAX);
    const Running running(trainer);
    return running->run(steps);
  });
}

// No guard: this may be called from a signal handler.
void lamina_trainer_stop(lamina_trainer* trainer) {
  if (trainer) trainer->run->trainer->stop();
}

lamina_status lamina_trainer_step(const lamina_trainer* trainer, int64_t* out) {
  return guard("lamina_trainer_step", [&] {
    require(trainer, "trainer");
    require(out, "out");
    *out = trainer->run->trainer->step();
  });
}

lamina_status lamina_crossing_init(lamina_crossing* crossing, uint32_t size) {
  return guard("lamina_crossing_init", [&] { init_struct("crossing", crossing, size); });
}

lamina_status lamina_trainer_crossing_count(const lamina_trainer* trainer, int64_t* out) {
  return guard("lamina_trainer_crossing_count", [&] {
    require(trainer, "trainer");
    require(out, "out");
    *out = static_cast<int64_t>(trainer->run->trainer->crossings().size());
  });
}

lamina_status lamina_trainer_crossing(const lamina_trainer* trainer, int64_t index, lamina_crossing* out) {
  return guard("lamina_trainer_crossing", [&] {
    require(trainer, "trainer");
    read_struct("out", out);
    const std::vector<Crossing>& all = trainer->run->trainer->crossings();
    require_range("index", index, 0, static_cast<int64_t>(all.size()) - 1);
    const Crossing& c = all[static_cast<size_t>(index)];
    write_struct(out, lamina_crossing{0, 0, c.signal.c_str(), c.value, c.step, c.before, c.after, c.time});
  });
}

lamina_status lamina_trainer_option(const lamina_trainer* trainer, const char* key, const char** out) {
  return guard("lamina_trainer_option", [&] {
    require(trainer, "trainer");
    require(key, "key");
    require(out, "out");
    lamina_trainer::Run& run = *trainer->run;
    const std::lock_guard lock(run.mutex);
    auto found = run.options.find(key);
    if (found == run.options.end()) found = run.options.emplace(key, run.trainer->option(key)).first;
    *out = found->second.c_str();
  });
}

lamina_status lamina_trainer_task(const lamina_trainer* trainer, lamina_task** out) {
  return guard("lamina_trainer_task", [&] {
    require(trainer, "trainer");
    require(out, "out");
    *out = new lamina_task(trainer->run->trainer->task());
  });
}

lamina_status lamina_trainer_model(const lamina_trainer* trainer, lamina_model** out) {
  return guard("lamina_trainer_model", [&] {
    require(trainer, "trainer");
    require(out, "out");
    *out = capi::make_handle(trainer->run->trainer->model().clone());
  });
}

lamina_status lamina_trainer_trajectory(const lamina_trainer* trainer, lamina_trajectory** out) {
  return guard("lamina_trainer_trajectory", [&] {
    require(trainer, "trainer");
    require(out, "out");
    *out = new lamina_trajectory{trainer->run->trainer->trajectory()};
  });
}

lamina_status lamina_trainer_save(const lamina_trainer* trainer, const char* path) {
  return guard("lamina_trainer_save", [&] {
    require(trainer, "trainer");
    require(path, "path");
    trainer->run->trainer->save(path);
  });
}

lamina_status lamina_trainer_load(const char* path, const lamina_task* task, lamina_trainer** out) {
  return guard("lamina_trainer_load", [&] {
    require(path, "path");
    require(out, "out");
    require_isa();
    *out = make_handle(Trainer::load(path, task ? task->task : nullptr));
  });
}
