// What the opaque types of lamina.h are. Each shares what it needs, so that a host may free handles in any order.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "base/options.hpp"
#include "base/parallel.hpp"
#include "ensemble/ensemble.hpp"
#include "model/model.hpp"
#include "task/task.hpp"
#include "train/trainer.hpp"
#include "train/trajectory.hpp"

struct lamina_options {
  lamina::Options options;
};

struct lamina_task {
  explicit lamina_task(std::shared_ptr<const lamina::Task> made) : task(std::move(made)) {}

  std::shared_ptr<const lamina::Task> task;
  // Texts that lamina_task_token lent out; a const task may be asked by several threads.
  mutable std::mutex mutex;
  mutable std::map<int32_t, std::string> texts;
};

struct lamina_model {
  std::unique_ptr<lamina::Model> model;
  std::shared_ptr<const lamina::Team> team;  // as the model's option `threads` says
};

struct lamina_trainer {
  struct Run {
    std::unique_ptr<lamina::Trainer> trainer;
    std::atomic<bool> running{false};  // a callback must not change the run that it is called from
    // Values that lamina_trainer_option lent out; a const trainer may be asked by several threads.
    std::mutex mutex;
    std::map<std::string, std::string> options;
  };
  std::shared_ptr<Run> run;  // also held while running, so that a callback may free the handle
};

struct lamina_ensemble {
  struct Run {
    std::unique_ptr<lamina::Ensemble> ensemble;
    std::atomic<bool> running{false};
    // Values that lamina_ensemble_option lent out; a const ensemble may be asked by several threads.
    std::mutex mutex;
    std::set<std::string> texts;
  };
  std::shared_ptr<Run> run;
};

struct lamina_trajectory {
  std::shared_ptr<const lamina::Trajectory> trajectory;
};

namespace lamina::capi {

// The options of a create, where NULL means none.
inline Options given(const lamina_options* options) {
  return options ? options->options : Options();
}

// A handle of its own (model.cpp).
lamina_model* make_handle(std::unique_ptr<Model> model);

}  // namespace lamina::capi
