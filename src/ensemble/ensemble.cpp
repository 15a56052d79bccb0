// The members of an ensemble: which options each has, which share prompts and tasks, and who trains them when.
#include "ensemble/ensemble.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "train/catalogue.hpp"
#include "train/tensor_file.hpp"

namespace lamina {
namespace {

constexpr int64_t most_members = 1'000'000;
constexpr size_t largest_flight = 16;   // members that share prompts, and so are in memory together
constexpr int64_t longest_turn = 4096;  // steps
constexpr double long_turn = 2e-3, shortest_round = 0.02;  // seconds

// Options that the prompts of a run and the model's reading of them cannot depend on: those of the descent and of the record.
bool leaves_prompts_alone(const std::string& key) {
  for (const char* known : {"steps", "record_every", "record_per_decade", "probes", "crossings", "stop_at_crossings", "loss_target", "excess_target",
                            "gradient_target", "time_limit"})
    if (key == known) return true;
  return std::ranges::any_of(optimiser_options(), [&](const OptionRow& row) { return key == row.key; });
}

bool is_task_option(const std::string& task, const std::string& key) { return std::string_view(option_of(task, key).owner) == "task"; }

OptionRow row_of(const std::string& task, const std::string& key) {
  const CatalogueRow& row = option_of(task, key);
  return {row.key, static_cast<OptionKind>(row.kind), row.fallback, row.minimum, row.maximum, row.words, row.summary};
}

// A value of one option, checked, and its text.
std::pair<OptionValue, std::string> checked(const OptionRow& row, OptionValue value) {
  Options options;
  options.set(row.key, std::move(value));
  const Settings settings({&row, 1}, options);
  return {settings.values().at(row.key), settings.as_text(row.key)};
}

// "3..7" as its two ends.
bool parse_range(std::string_view text, int64_t& first, int64_t& last) {
  const size_t dots = text.find("..");
  if (dots == text.npos) return false;
  const auto whole = [](std::string_view part, int64_t& value) {
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    return error == std::errc{} && end == part.data() + part.size();
  };
  return whole(text.substr(0, dots), first) && whole(text.substr(dots + 2), last);
}

std::vector<OptionValue> parse_values(const OptionRow& row, std::string_view text) {
  const char separator = row.kind == OptionKind::text || row.kind == OptionKind::array ? ';' : ',';
  std::vector<OptionValue> values;
  for (size_t at = 0; at <= text.size();) {
    const size_t next = std::min(text.find(separator, at), text.size());
    const std::string_view part = text.substr(at, next - at);
    int64_t first = 0, last = 0;
    if (row.kind == OptionKind::integer && parse_range(part, first, last)) {
      if (first > last || last - first >= most_members)
        fail(LAMINA_E_OPTION, std::string(row.key) + " is " + std::string(part) + ", must be first..last, ascending, of at most " +
                                  std::to_string(most_members) + " integers");
      for (int64_t value = first; value <= last; ++value) values.emplace_back(static_cast<double>(value));
    } else {
      values.emplace_back(std::string(part));
    }
    at = next + 1;
  }
  return values;
}

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

Ensemble::Ensemble(const std::string& name, std::shared_ptr<const Task> task, const Options& options)
    : name_(name), task_(std::move(task)), options_(options), team_([&] {
        if (!task_) find_task(name);
        require_options_of(name, options);
        for (const auto& [key, value] : options.values()) checked(row_of(name, key), value);
        Options threads;
        if (const auto given = options.values().find("threads"); given != options.values().end()) threads.set("threads", given->second);
        const OptionRow row = row_of(name, "threads");
        return static_cast<int>(Settings({&row, 1}, threads).integer("threads"));
      }()),
      members_(1) {
  steps_ = read_steps(0);
}

Ensemble::~Ensemble() = default;

void Ensemble::vary(const std::string& key, const std::string& values) { vary(key, parse_values(row_of(name_, key), values)); }

void Ensemble::vary(const std::string& key, std::vector<OptionValue> values) {
  const OptionRow row = row_of(name_, key);
  if (key == "threads") fail(LAMINA_E_OPTION, "threads is an axis, must be one value: how many threads share the members");
  if (task_ && is_task_option(name_, key))
    fail(LAMINA_E_OPTION, key + " is an axis, must be an option of the model or the trainer: the task is given");
  if (std::ranges::any_of(members_, [](const Member& m) { return m.ended(); }) || !flights_.empty())
    fail(LAMINA_E_STATE, key + " is an axis, must be given before the first run");
  Axis axis{key, row.kind, {}, {}};
  if (values.empty()) fail(LAMINA_E_OPTION, key + " is an axis without values, must have at least one");
  for (OptionValue& value : values) {
    auto [held, text] = checked(row, std::move(value));
    axis.values.push_back(std::move(held));
    axis.texts.push_back(std::move(text));
  }
  std::vector<std::string> sorted = axis.texts;
  std::ranges::sort(sorted);
  if (const auto twice = std::ranges::adjacent_find(sorted); twice != sorted.end())
    fail(LAMINA_E_OPTION, key + " is " + *twice + " twice, must be different values");
  for (const Axis& other : axes_)
    if (other.key == key) fail(LAMINA_E_OPTION, key + " is an axis already, must be one once");
  const auto members = static_cast<double>(count()) * static_cast<double>(axis.values.size());
  if (members > static_cast<double>(most_members))
    fail(LAMINA_E_OPTION, key + " makes " + number_text(members) + " members, must be at most " + std::to_string(most_members));
  for (size_t& stride : strides_) stride *= axis.values.size();
  strides_.push_back(1);
  members_.resize(static_cast<size_t>(members));
  axes_.push_back(std::move(axis));
}

Options Ensemble::options(int64_t i) const {
  Options options = options_;
  for (size_t a = 0; a < axes_.size(); ++a) options.set(axes_[a].key, axes_[a].values[place(i, a)]);
  return options;
}

std::string Ensemble::option(int64_t i, const std::string& key) const {
  const OptionRow row = row_of(name_, key);
  const Options all = options(i);
  const auto set = all.values().find(key);
  if (set != all.values().end()) return checked(row, set->second).second;
  for (const TaskRow& task : task_registry())
    for (const OptionDefault& special : task.defaults)
      if (name_ == task.name && special.other && key == special.key && option(i, special.other) == special.word) return special.fallback;
  return row.fallback;
}

void Ensemble::on_progress(std::function<bool(const EnsembleProgress&)> function, double seconds) {
  progress_ = std::move(function);
  progress_seconds_ = seconds;
}

double Ensemble::read_steps(int64_t i) const {
  const OptionRow row = row_of(name_, "steps");
  Options steps;
  steps.set("steps", option(i, "steps"));
  return Settings({&row, 1}, steps).number("steps");
}

// The updates that member i makes in all.
double Ensemble::steps_of(int64_t i) const {
  for (size_t a = 0; a < axes_.size(); ++a)
    if (axes_[a].key == "steps") return std::get<double>(axes_[a].values[place(i, a)]);
  for (const Axis& axis : axes_)
    if (axis.key == "variant") return read_steps(i);  // a default may depend on it
  return steps_;
}

// Not during a round.
EnsembleProgress Ensemble::progress() const {
  EnsembleProgress now{ended_, count(), failed_, seconds_};
  for (int64_t i = 0; i < count(); ++i) {
    const double all = steps_of(i);
    now.all_steps += all, now.steps += member(i).ended() ? all : static_cast<double>(begun_step(i));
  }
  for (const Flight& flight : flights_)
    for (const auto& trainer : flight.trainers) now.steps += trainer ? static_cast<double>(trainer->step()) : 0;
  return now;
}

// Members of one group differ in what leaves prompts alone. Groups are small enough that all threads have work.
std::vector<std::vector<int64_t>> Ensemble::groups() const {
  const size_t threads = flights_.size(), share = members_.size() / (4 * threads) + 1, most = std::min(share, largest_flight);
  std::vector<bool> free;
  for (const Axis& axis : axes_) free.push_back(leaves_prompts_alone(axis.key));
  std::vector<std::vector<int64_t>> all;
  std::map<size_t, size_t> open;  // by the group's first possible member: its place in `all`
  std::vector<bool> flying(members_.size());
  for (const Flight& flight : flights_)
    for (int64_t i : flight.members) flying[static_cast<size_t>(i)] = true;
  for (int64_t i = 0; i < count(); ++i) {
    if (member(i).ended() || flying[static_cast<size_t>(i)]) continue;
    size_t first = static_cast<size_t>(i);
    for (size_t a = 0; a < axes_.size(); ++a)
      if (free[a]) first -= place(i, a) * strides_[a];
    const auto [found, fresh] = open.emplace(first, all.size());
    if (!fresh && all[found->second].size() >= most) found->second = all.size();
    if (found->second == all.size()) all.emplace_back();
    all[found->second].push_back(i);
  }
  return all;
}

void Ensemble::prepare() {
  for (Member& member : members_)
    if (member.status < 0 || member.status == LAMINA_TIME_LIMIT) member = {LAMINA_STOPPED, "", nullptr, {}, std::move(member.begun)};
  const bool concurrent = !task_ || task_->concurrent();
  flights_.resize(concurrent ? static_cast<size_t>(std::min<int64_t>(team_.threads(), count())) : 1);
  waiting_ = groups();
  taken_ = 0;
  ended_ = std::ranges::count_if(members_, [](const Member& m) { return m.ended(); });
  failed_ = 0;
  tasks_.clear();
  if (!task_)
    for (int64_t i = 0; i < count(); ++i)
      if (!member(i).ended()) ++tasks_[task_number(i)].users;
}

lamina_status Ensemble::run() {
  prepare();
  const Clock::time_point start = Clock::now();
  const double before = seconds_;
  double reported = before;
  for (;;) {
    // The host is called back between rounds, never inside one.
    const Clock::time_point end =
        progress_ ? Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                                       std::clamp(progress_seconds_, shortest_round, 1e6)))
                  : Clock::time_point::max();
    team_.for_each(static_cast<int64_t>(flights_.size()), [&](int64_t which, int) { work(flights_[static_cast<size_t>(which)], end); });
    seconds_ = before + seconds_between(start, Clock::now());
    const bool done = ended_ == count();
    bool stopped = stop_.exchange(false, std::memory_order_relaxed);
    if (progress_ && (done || seconds_ - reported >= progress_seconds_)) {
      reported = seconds_;
      if (!progress_(progress())) stopped = true;
    }
    if (done) return LAMINA_OK;
    if (stopped) return LAMINA_STOPPED;
  }
}

void Ensemble::work(Flight& flight, Clock::time_point end) {
  while (!stop_.load(std::memory_order_relaxed)) {
    if (flight.members.empty() && !take(flight)) return;
    advance(flight);
    if (Clock::now() >= end) return;
  }
}

bool Ensemble::take(Flight& flight) {
  const size_t group = taken_.fetch_add(1, std::memory_order_relaxed);
  if (group >= waiting_.size()) return false;
  std::vector<std::unique_ptr<Trainer>> trainers(waiting_[group].size());
  flight.members = std::move(waiting_[group]);
  flight.trainers = std::move(trainers);
  flight.turn = 1;
  return true;
}

int64_t Ensemble::begun_step(int64_t i) const {
  return member(i).begun ? integer_in(member(i).begun->content, "step", 0, INT64_MAX) : 0;
}

// The updates that member i of a flight has made.
int64_t Ensemble::step_of(const Flight& flight, size_t i) const {
  const int64_t index = flight.members[i];
  if (member(index).ended()) return INT64_MAX;
  if (flight.trainers[i]) return flight.trainers[i]->step();
  return begun_step(index);
}

// One turn of each member that has made fewest steps; a stop may have left some ahead. Where new prompts are drawn at every step a
// turn is one step, so that all read the same ones; else it is as long as takes a few milliseconds. The bits do not depend on it.
void Ensemble::advance(Flight& flight) {
  const Clock::time_point start = Clock::now();
  std::vector<int64_t> steps;
  for (size_t i = 0; i < flight.members.size(); ++i) steps.push_back(step_of(flight, i));
  const int64_t lowest = std::ranges::min(steps);
  for (size_t i = 0; i < flight.members.size(); ++i) {
    if (stop_.load(std::memory_order_relaxed)) return;
    if (steps[i] == lowest) train(flight, i);
  }
  if (std::ranges::all_of(flight.members, [&](int64_t i) { return member(i).ended(); })) {
    flight = Flight();
    return;
  }
  const auto one = std::ranges::find_if(flight.trainers, [](const auto& trainer) { return trainer != nullptr; });
  if (one == flight.trainers.end()) return;  // what is left goes on from a file
  const bool drawn_each_step = (*one)->option("data") == "fresh" || (*one)->option("data") == "averaged";
  if (flight.members.size() > 1 && drawn_each_step) return;
  const double seconds = seconds_between(start, Clock::now());
  flight.turn = seconds < long_turn ? std::min(longest_turn, 2 * flight.turn) : seconds > 4 * long_turn ? std::max<int64_t>(1, flight.turn / 2) : flight.turn;
}

// A member's run from its beginning, or from where a file has it.
std::unique_ptr<Trainer> Ensemble::trainer_of(int64_t i, const Trainer* twin) {
  Options alone = options(i);
  alone.set("threads", 1.0);
  const std::shared_ptr<const Saved> saved = std::move(members_[static_cast<size_t>(i)].begun);
  if (!saved) return std::make_unique<Trainer>(task_of(i), nullptr, alone, twin);
  try {
    if (saved->content.at("options") != to_json(alone.values())) throw std::runtime_error("its options are not the member's");
    return Trainer::restored(*saved, task_of(i), twin);
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    fail(LAMINA_E_FORMAT, std::string("the member cannot go on from its file, and begins anew in another run: ") + error.what());
  }
}

// A turn of one member of a flight.
void Ensemble::train(Flight& flight, size_t i) {
  const int64_t index = flight.members[i];
  std::unique_ptr<Trainer>& trainer = flight.trainers[i];
  try {
    if (!trainer) {
      const Trainer* twin = nullptr;
      for (const auto& other : flight.trainers)
        if (other) twin = other.get();
      trainer = trainer_of(index, twin);
    }
    const lamina_status status = trainer->run(flight.turn, false);
    if (status == LAMINA_STOPPED) {  // by the host's task
      stop();
      return;
    }
    if (status == LAMINA_OK && trainer->step() < trainer->steps()) return;
    if (status == LAMINA_TIME_LIMIT)
      trainer->settle(), members_[static_cast<size_t>(index)].begun = std::make_shared<const Saved>(trainer->saved());
    end(index, status, trainer->trajectory(), trainer->crossings());
  } catch (const Error& error) {
    if (error.status() == LAMINA_STOPPED) {
      stop();
      return;
    }
    fail_member(index);
  } catch (...) {
    fail_member(index);
  }
  trainer.reset();
}

void Ensemble::end(int64_t i, lamina_status status, std::shared_ptr<const Trajectory> trajectory, std::vector<Crossing> crossings) noexcept {
  Member& member = members_[static_cast<size_t>(i)];
  member.crossings = std::move(crossings);
  member.trajectory = std::move(trajectory);
  member.status = status;
  release_task(i);
  ended_.fetch_add(1, std::memory_order_relaxed);
}

// In a handler: the exception under way is why.
void Ensemble::fail_member(int64_t i) noexcept {
  Member& member = members_[static_cast<size_t>(i)];
  lamina_status status = LAMINA_E_INTERNAL;
  try {
    try {
      throw;
    } catch (const Error& error) {
      status = error.status();
      member.text = error.what();
    } catch (const std::bad_alloc&) {
      status = LAMINA_E_MEMORY;
      member.text = "memory could not be allocated";
    } catch (const std::exception& error) {
      member.text = std::string("internal error: ") + error.what();
    } catch (...) {
      member.text = "internal error: an unknown exception";
    }
  } catch (...) {  // no memory for the text
  }
  failed_.fetch_add(1, std::memory_order_relaxed);
  end(i, status, nullptr, {});
}

// Members with the same options of the task have one task, as long as one of them has not ended.
size_t Ensemble::task_number(int64_t i) const {
  size_t number = 0;
  for (size_t a = 0; a < axes_.size(); ++a)
    if (is_task_option(name_, axes_[a].key)) number = number * axes_[a].values.size() + place(i, a);
  return number;
}

std::shared_ptr<const Task> Ensemble::task_of(int64_t i) {
  if (task_) return task_;
  const std::lock_guard lock(tasks_mutex_);
  std::shared_ptr<const Task>& task = tasks_[task_number(i)].task;
  if (!task) {
    const TaskRow& row = find_task(name_);
    task = row.create(Settings(row.options, options(i), row.defaults));
  }
  return task;
}

void Ensemble::release_task(int64_t i) noexcept {
  if (task_) return;
  const std::lock_guard lock(tasks_mutex_);
  const auto shared = tasks_.find(task_number(i));
  if (shared != tasks_.end() && --shared->second.users == 0) shared->second.task.reset();
}

}  // namespace lamina
