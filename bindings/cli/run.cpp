// A run: make or load the trainer, let it run until it ends or a signal stops it, then write all that was asked for.
#include "run.hpp"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "description.hpp"
#include "file.hpp"
#include "interruption.hpp"
#include "picture.hpp"
#include "progress.hpp"
#include "report.hpp"

namespace cli {
namespace {

bool same_value(const Entry& entry, const std::string& a, const std::string& b) {
  if (entry.kind == LAMINA_KIND_WORD || entry.kind == LAMINA_KIND_TEXT) return a == b;
  const std::vector<std::string> left = split(a, ','), right = split(b, ',');
  if (left.size() != right.size()) return false;
  for (size_t i = 0; i < left.size(); ++i)
    if (std::strtod(left[i].c_str(), nullptr) != std::strtod(right[i].c_str(), nullptr)) return false;
  return true;
}

// A resumed run goes on under its own options: settings that are repeated must agree with them.
void require_same(const Description& saved, const std::string& task, const std::vector<Setting>& settings,
                  const std::string& path) {
  if (saved.task != task) throw Failure(usage, "\"" + path + "\" holds a run of " + saved.task + ", not of " + task);
  for (const Setting& setting : settings) {
    const Entry* entry = find(saved.entries, setting.key);
    if (!entry)
      throw Failure(usage, "\"" + setting.key + "\" is not an option of task " + task + suggestion(setting.key, saved.entries));
    if (!same_value(*entry, setting.value, saved.option(setting.key)))
      throw Failure(usage, setting.key + " is " + setting.value + ", but the run in \"" + path + "\" has " +
                               saved.option(setting.key) + " and is resumed as it is");
  }
}

Trainer create(const RunRequest& request, const std::vector<Setting>& settings) {
  if (!request.resume.empty()) {
    Trainer trainer = make<Trainer>(lamina_trainer_load, request.resume.c_str(), static_cast<const lamina_task*>(nullptr));
    require_same(describe(trainer.get()), request.task, settings, request.resume);
    return trainer;
  }
  const Options options = make_options(request.task, settings);
  const Task task = make<Task>(lamina_task_create, request.task.c_str(), options.get());
  return make<Trainer>(lamina_trainer_create, task.get(), static_cast<const lamina_model*>(nullptr), options.get());
}

int64_t step_of(const lamina_trainer* trainer) {
  int64_t step = 0;
  check(lamina_trainer_step(trainer, &step));
  return step;
}

Outcome train(lamina_trainer* trainer, bool quiet, PeriodicSave& saves) {
  using Clock = std::chrono::steady_clock;
  Progress progress(trainer, quiet, saves);
  const int64_t before = step_of(trainer);
  const Clock::time_point start = Clock::now();
  const lamina_status status = lamina_trainer_run(trainer, 0);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  progress.finish();
  check(status);
  const int64_t step = step_of(trainer);
  return {status, step, step - before, seconds};
}

// Files, each attempted even if another fails: a run is not lost to a full disk or a missing gnuplot.
class Results {
 public:
  template <class Write>
  void write(const std::string& path, Write&& put) {
    if (path.empty()) return;
    try {
      put();
      written_.push_back(path);
    } catch (const Failure& failure) {
      std::fprintf(stderr, "lamina: %s\n", failure.what());
      failed_ = true;
    }
  }
  const std::vector<std::string>& written() const { return written_; }
  bool failed() const { return failed_; }

 private:
  std::vector<std::string> written_;
  bool failed_ = false;
};

}  // namespace

Exit run(const RunRequest& request) {
  require_task(request.task);
  const std::vector<Setting> settings = parse_settings(request.settings);
  const double save_every = seconds_between_saves(request.save_every, request.save);
  const Trainer trainer = create(request, settings);
  const bool printed = require_different({{"--csv", request.csv}, {"--svg", request.svg}, {"--save", request.save}});
  if (printed && request.json) throw Failure(usage, "--json and a file named - are given, must be one: both are the standard output");
  require_writable("--csv", request.csv, true);
  require_writable("--svg", request.svg, true);
  require_writable("--save", request.save, false);

  PeriodicSave saves(request.save, save_every, [&] { check(lamina_trainer_save(trainer.get(), request.save.c_str())); });
  // Until all is written: what a closing terminal or a service manager sends after the first signal ends nothing.
  const StopOnSignal signals([](void* running) { lamina_trainer_stop(static_cast<lamina_trainer*>(running)); }, trainer.get());
  const Outcome outcome = train(trainer.get(), request.quiet, saves);
  const Table table = read_table(trainer.get());
  const std::vector<Crossing> crossings = read_crossings(trainer.get());
  const Description description = describe(trainer.get());
  const Task task = make<Task>(lamina_trainer_task, trainer.get());

  Results results;
  results.write(request.csv, [&] {
    OutputFile file(request.csv);
    file.write(csv(table));
    file.commit();
  });
  results.write(request.save, [&] { check(lamina_trainer_save(trainer.get(), request.save.c_str())); });
  results.write(request.svg, [&] { draw(request.svg, table, description, task.get()); });

  if (request.json) {
    std::fputs(json(table, crossings, outcome, description, results.written()).c_str(), stdout);
  } else if (!request.quiet && !printed) {
    std::printf("%s%s\n%s\n", printed_table(table).c_str(), printed_crossings(crossings).c_str(), summary(outcome, description).c_str());
    for (const std::string& path : results.written()) std::printf("written: %s\n", path.c_str());
  }
  if (outcome.status == LAMINA_DIVERGED) {
    std::fprintf(stderr, "lamina: the run diverged at step %lld: a smaller step_size may help\n",
                 static_cast<long long>(outcome.step));
    return run_failed;
  }
  if (results.failed()) return run_failed;
  if (outcome.status == LAMINA_TIME_LIMIT) return timed_out;
  return outcome.status == LAMINA_STOPPED ? signals.code() : success;
}

}  // namespace cli
