// A run: a model descends an objective, and a trajectory is recorded. The loop is in trainer.cpp.
#pragma once
#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/options.hpp"
#include "base/parallel.hpp"
#include "model/model.hpp"
#include "optimiser/optimiser.hpp"
#include "probe/probe.hpp"
#include "task/task.hpp"
#include "train/crossings.hpp"
#include "train/objective.hpp"
#include "train/schedule.hpp"
#include "train/stop_rules.hpp"
#include "train/trajectory.hpp"

namespace lamina {

class Evaluation;
struct Saved;  // tensor_file.hpp

struct Progress {
  int64_t step = 0, steps = 0;
  double loss = 0, excess = 0, seconds = 0, steps_per_second = 0;
};

class Trainer {
 public:
  // model may be null: one is made from the options. twin may be null: a run of the same task, model options, data, samples, batch
  // and seed, whose drawn prompts are used too; two such runs are then run on one thread at a time. resumed: the model is one that a
  // saved run had come to. Throws Error.
  Trainer(std::shared_ptr<const Task> task, const Model* model, const Options& options, const Trainer* twin = nullptr, bool resumed = false);
  ~Trainer();

  void watch(const std::string& probe);
  // The function returns false to cancel.
  void on_progress(std::function<bool(const Progress&)> function, double seconds);
  // At most `steps` more updates (0: all that remain of the option `steps`). LAMINA_OK or a positive status.
  // Unless settled, model() may lag behind: bringing it up to date costs d^2 where descent moves fewer numbers.
  lamina_status run(int64_t steps, bool settled = true);
  void settle() { objective_->write(*model_); }
  void stop() noexcept { stop_.store(true, std::memory_order_relaxed); }
  int64_t step() const { return step_; }
  int64_t steps() const { return settings_.integer("steps"); }
  const Model& model() const { return *model_; }
  const std::shared_ptr<const Task>& task() const { return task_; }
  // The value that holds for a key of the task, the model or the trainer, as text.
  std::string option(const std::string& key) const;
  // Those that the option `crossings` names, in its order.
  const std::vector<Crossing>& crossings() const { return crossings_->all(); }
  // A snapshot that later steps do not change.
  std::shared_ptr<const Trajectory> trajectory() const;

  // One safetensors file, whole or not at all (checkpoint.cpp).
  void save(const std::string& path) const;
  static std::unique_ptr<Trainer> load(const std::string& path, std::shared_ptr<const Task> task);
  // What such a file holds, of a settled model, and the run again, whose task is the saved one's. Throws any std::exception where it is no run's.
  Saved saved() const;
  static std::unique_ptr<Trainer> restored(const Saved& saved, std::shared_ptr<const Task> task, const Trainer* twin = nullptr);

 private:
  bool suits(const ProbeRow& probe) const;
  bool starts_by_options() const;
  void choose_probes();
  void add_probe(const std::string& name);
  void build_columns();
  void set_options(const Options& options);
  const Loss& evaluate(bool with_excess);
  const ProbeState& state();  // as probes read it at the present step
  void advance();               // the probes that go by every step
  class Retrace;
  bool look();  // whether a watched column crossed its value at the present step (retrace.cpp); may throw Stopped
  bool records(const ProbeRow& probe) const { return std::ranges::count(probes_, &probe) > 0; }
  void record();
  bool finite(const Loss& loss) const;
  struct Stopped {};  // thrown into an update that is asked to end, and into its retracing
  void slope(std::span<const double> x, std::span<double> gradient);  // the objective's gradient at other variables
  // What the loss has its excess measured from; 0 where the objective has its own measure. Computed when first asked for.
  double infimum();
  // Loss and excess on the exact law at the present step, whatever data is descended; of tasks that make_exact serves.
  Loss exact();
  void require_infima();  // where a target or a crossing waits for an excess

  std::shared_ptr<const Task> task_;
  Options options_;       // as given, for the checkpoint
  Settings settings_;
  Team team_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Objective> objective_;
  std::unique_ptr<Optimiser> optimiser_;
  std::unique_ptr<Evaluation> evaluation_;
  const ProbeState state_;
  std::unique_ptr<Crossings> crossings_;
  Schedule schedule_;
  StopRules stop_rules_;
  std::vector<const ProbeRow*> probes_;
  struct Course {
    const ProbeRow* probe;
    std::vector<double> numbers;
    bool open = true;  // a step may still change them
  };
  std::vector<Course> courses_;  // of probes with advance that are recorded or that a crossing reads
  std::shared_ptr<Trajectory> trajectory_;
  std::vector<double> gradient_;
  std::function<bool(const Progress&)> progress_;
  double progress_seconds_ = 0;
  double seconds_ = 0;
  std::optional<double> infimum_;
  int64_t step_ = 0, recorded_ = -1;
  Loss loss_;  // of the step evaluated_, whose gradient is in gradient_
  int64_t evaluated_ = -1;
  bool evaluated_excess_ = false;
  std::atomic<bool> stop_{false};
  bool host_model_ = false;  // it came with parameters of its own
};

std::span<const OptionRow> trainer_options();

}  // namespace lamina
