// An ensemble: one run for every element of a product of lists of option values, each with the bits of that run alone.
// Members are numbered with the last axis fastest. Each is trained by one thread; the threads share the members.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/options.hpp"
#include "base/parallel.hpp"
#include "task/task.hpp"
#include "train/trainer.hpp"

namespace lamina {

struct Axis {
  std::string key;
  OptionKind kind;
  std::vector<OptionValue> values;
  std::vector<std::string> texts;  // of the values, as options take them

  bool numeric() const { return kind == OptionKind::number || kind == OptionKind::integer; }
};

struct Member {
  lamina_status status = LAMINA_STOPPED;  // until it has ended
  std::string text;                       // why it failed
  std::shared_ptr<const Trajectory> trajectory;  // null until it has ended, and if it failed
  std::vector<Crossing> crossings;               // as its option `crossings` names them
  std::shared_ptr<const Saved> begun;            // where time_limit ended it, or where a file has it and no flight has gone on with it

  bool ended() const { return status != LAMINA_STOPPED; }
};

struct EnsembleProgress {
  int64_t ended = 0, members = 0, failed = 0;
  double seconds = 0;
  double steps = 0, all_steps = 0;  // made, and in all; a member that has ended counts as whole
};

class Ensemble {
 public:
  // task may be null: each member makes the task `name`; else it is everybody's, and its name is `name`. Throws Error.
  Ensemble(const std::string& name, std::shared_ptr<const Task> task, const Options& options);
  ~Ensemble();

  // One more axis: values of one option, "0.1,0.5,1", "0..199" for integers; of a text or an array separated by ';'.
  void vary(const std::string& key, const std::string& values);
  void vary(const std::string& key, std::vector<OptionValue> values);
  const std::string& task_name() const { return name_; }
  const std::vector<Axis>& axes() const { return axes_; }
  int64_t count() const { return static_cast<int64_t>(members_.size()); }
  const Member& member(int64_t i) const { return members_[static_cast<size_t>(i)]; }
  // The place of member i on an axis.
  size_t place(int64_t i, size_t axis) const { return static_cast<size_t>(i) / strides_[axis] % axes_[axis].values.size(); }
  // What makes the run of member i alone.
  Options options(int64_t i) const;
  // The value of a key in member i, as text: its axis's, or what was set, or the catalogue's default.
  std::string option(int64_t i, const std::string& key) const;

  // The function returns false to cancel. It is called by the thread that called run, outside parallel regions.
  void on_progress(std::function<bool(const EnsembleProgress&)> function, double seconds);
  // Trains what has not ended, goes on with what time_limit ended, and tries again what failed. LAMINA_OK when all have ended, however;
  // LAMINA_STOPPED.
  lamina_status run();
  void stop() noexcept { stop_.store(true, std::memory_order_relaxed); }
  EnsembleProgress progress() const;

  // One safetensors file with the members that have ended and the states of those under way or out of time (ensemble_file.cpp).
  void save(const std::string& path) const;
  static std::unique_ptr<Ensemble> load(const std::string& path, std::shared_ptr<const Task> task);

 private:
  using Clock = std::chrono::steady_clock;
  // Members under way, on one thread at a time. They share the prompts they draw.
  struct Flight {
    std::vector<int64_t> members;
    std::vector<std::unique_ptr<Trainer>> trainers;
    int64_t turn = 1;  // steps that each makes before the next
  };

  void prepare();
  std::vector<std::vector<int64_t>> groups() const;
  double read_steps(int64_t i) const;
  double steps_of(int64_t i) const;
  int64_t step_of(const Flight& flight, size_t i) const;
  int64_t begun_step(int64_t i) const;
  std::unique_ptr<Trainer> trainer_of(int64_t i, const Trainer* twin);
  void work(Flight& flight, Clock::time_point end);
  bool take(Flight& flight);
  void advance(Flight& flight);
  void train(Flight& flight, size_t i);
  void end(int64_t i, lamina_status status, std::shared_ptr<const Trajectory> trajectory, std::vector<Crossing> crossings) noexcept;
  void fail_member(int64_t i) noexcept;
  std::shared_ptr<const Task> task_of(int64_t i);
  void release_task(int64_t i) noexcept;
  size_t task_number(int64_t i) const;

  std::string name_;
  std::shared_ptr<const Task> task_;  // everybody's, or null
  Options options_;
  Team team_;
  double steps_ = 0;  // of a member, unless an axis says
  std::vector<Axis> axes_;
  std::vector<size_t> strides_;
  std::vector<Member> members_;

  std::vector<Flight> flights_;                // one for each thread; kept between runs
  std::vector<std::vector<int64_t>> waiting_;  // groups that no flight has taken
  std::atomic<size_t> taken_{0};
  struct Shared {
    std::shared_ptr<const Task> task;
    int64_t users = 0;  // members that have not ended
  };
  std::mutex tasks_mutex_;  // of tasks_
  std::map<size_t, Shared> tasks_;  // by task_number

  std::function<bool(const EnsembleProgress&)> progress_;
  double progress_seconds_ = 0, seconds_ = 0;
  std::atomic<int64_t> ended_{0}, failed_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace lamina
