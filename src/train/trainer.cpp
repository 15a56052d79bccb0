// The loop: objective, optimiser, probes, trajectory; and what is around it.
#include "train/trainer.hpp"

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/memory.hpp"
#include "model/construction.hpp"
#include "theory/feature_floor.hpp"
#include "theory/regression_population.hpp"
#include "theory/rotation_population.hpp"
#include "train/evaluation.hpp"

namespace lamina {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr double most = 9007199254740992.0;  // 2^53
constexpr double undefined = std::numeric_limits<double>::quiet_NaN();
constexpr std::array rows{
    OptionRow{"data", OptionKind::word, "fixed", 0, 0, "population|averaged|fresh|fixed",
              "What is descended: the exact law, new samples at every step (averaged: over their labels, where these are a random "
              "function), or one fixed set of samples."},
    OptionRow{"samples", OptionKind::integer, "2048", 1, 1e9, "", "M, prompts in the fixed set."},
    OptionRow{"batch", OptionKind::integer, "0", 0, 1e9, "",
              "Prompts per step of fresh data, or of minibatches of the fixed set; 0 means all samples."},
    OptionRow{"steps", OptionKind::integer, "400", 0, most, "", "Updates in all."},
    OptionRow{"stage_one_steps", OptionKind::integer, "0", 0, most, "",
              "Of these, updates of the first stage; the rest are of the second."},
    OptionRow{"stage_one_step_size", OptionKind::number, "0", 0, 1e6, "", "eta of the first stage; 0: the same as of the second."},
    OptionRow{"record_every", OptionKind::integer, "1", 1, most, "", "A row of the trajectory every so many steps, and at the last."},
    OptionRow{"record_per_decade", OptionKind::integer, "0", 0, 1000, "",
              "m > 0: rows at the steps 10^(j/m), j = 0, 1, 2, ..., each rounded to the nearest integer, at step 0 and at the last; "
              "those of record_every too where it is given."},
    OptionRow{"crossings", OptionKind::text, "", 0, 0, "",
              "column=value, separated by commas, as in excess=1e-3,loss=0.5: the first step at which the column, measured at every "
              "step, reaches the value from the side of its first; a row is recorded there. Loss is free; a probe costs at every "
              "step what it costs in a row, until its last crossing is found. With fresh or averaged data or minibatches loss and "
              "excess are of the batch drawn, whose noise reaches a value early; population_loss and population_excess (probe "
              "population) are of the exact law. Under optimiser=flow a step is a stretch of time step_size, and the time of a crossing, "
              "in steps, is the moment within it, to 1e-12 of a step or what the tolerances leave, in the first of the integrator's "
              "steps at whose end the value is reached. A column that is back at the end of the step is not seen; phases and predictions "
              "have whole steps alone, and a run ends at whole steps."},
    OptionRow{"stop_at_crossings", OptionKind::word, "no", 0, 0, "yes|no",
              "Whether the run ends at the step at which the last of its crossings is found: a target for any column, as in "
              "crossings=population_excess=1e-3."},
    OptionRow{"loss_target", OptionKind::number, "0", 0, 1e300, "",
              "The run ends at the first step whose loss is at most this; 0: no target. With fresh or averaged data or minibatches "
              "that is a batch's loss, noise and all; of the law: crossings=population_loss=.. with stop_at_crossings=yes."},
    OptionRow{"excess_target", OptionKind::number, "0", 0, 1e300, "",
              "The run ends at the first step whose excess is at most this; 0: no target. With fresh or averaged data or minibatches "
              "that is a batch's excess, which may be negative; of the law: crossings=population_excess=.. with stop_at_crossings=yes."},
    OptionRow{"gradient_target", OptionKind::number, "0", 0, 1e300, "",
              "The run ends at the first step where the l2 norm of the gradient by all parameters is at most this; 0: no target."},
    OptionRow{"time_limit", OptionKind::number, "0", 0, 1e9, "",
              "The run ends after the step at which it has trained so many seconds; continued, it has as many again; 0: no limit."},
    OptionRow{"probes", OptionKind::text, "default", 0, 0, "",
              "Names separated by commas, among them default (all that apply and are cheap) and all; or none."},
    OptionRow{"evaluation_samples", OptionKind::integer, "2048", 1, 1e9, "", "Prompts in each of the sets that probes read."},
    OptionRow{"estimate_noise", OptionKind::word, "yes", 0, 0, "yes|no",
              "Whether a fixed set's fraction of noise labels is what the held feed-forward part adds (variant full)."},
};

// ln(a / (1 - a)) of the fraction a of labels tau in the fixed set, half a label away from 0 and 1.
double estimated_logit(const Task& task, const Settings& settings) {
  Prompts prompts;
  task.sample(Split::train, static_cast<uint64_t>(settings.integer("seed")), 0, settings.integer("samples"), prompts);
  double noisy = 0;
  for (int32_t label : prompts.label) noisy += label == task.law().vocabulary;
  const double count = static_cast<double>(prompts.count);
  return noise_logit(std::clamp(noisy, 0.5, count - 0.5) / count);
}

// An integrator needs a gradient that is a smooth function of the parameters alone.
void require_flow(const Settings& settings) {
  if (!settings.is("data", "population") && !(settings.is("data", "fixed") && settings.integer("batch") == 0))
    fail(LAMINA_E_OPTION, "data is " + settings.text("data") + ", must be population, or fixed with batch=0, for optimiser=flow");
  if (settings.is("precision", "f32")) fail(LAMINA_E_OPTION, "precision is f32, must be f64 for optimiser=flow");
  if (!settings.is("step_size_schedule", "constant"))
    fail(LAMINA_E_OPTION, "step_size_schedule is " + settings.text("step_size_schedule") + ", must be constant for optimiser=flow");
}

// What the excess of a loss, of samples or on the exact law, is measured from; 0 where the objective has a measure of its own.
double loss_infimum(const Task& task, const Model& model, bool sampled, const Team& team) {
  if (const FeatureLaw* law = task.features()) {
    const kernels::Map map = attention_map(model.settings());
    return map != kernels::Map::softmax && !sampled ? 0 : task.kept(static_cast<int>(map), [&] { return infimum_of(*law, map, team); });
  }
  if (const RegressionLaw* law = task.regression(); law && sampled)
    return RegressionPopulation(*law, law->length, *model.isa().f64).infimum();
  if (const RotationLaw* law = task.rotation(); law && sampled) return RotationPopulation(*law).infimum;
  return 0;
}

constexpr const char* population_excess = "population_excess";

// An excess that is NaN would reach no target and cross nothing, and one below an infinite infimum would reach all, without a word.
[[noreturn]] void refuse_excess(const Settings& settings) {
  const double target = settings.number("excess_target");
  const char* const why = "the infimum that the excess is measured from is not a finite number for this task: use the loss";
  if (target > 0) fail(LAMINA_E_OPTION, "excess_target is " + number_text(target) + ", must be 0: " + why);
  fail(LAMINA_E_OPTION, "crossings is " + settings.text("crossings") + ", must be without an excess: " + why);
}

std::vector<OptionRow> all_rows() {
  std::vector<OptionRow> all(rows.begin(), rows.end());
  for (const OptionRow& row : optimiser_options()) all.push_back(row);
  for (const OptionRow& row : model_options()) all.push_back(row);
  return all;
}

std::span<const OptionDefault> defaults_of(const Task& task) {
  for (const TaskRow& row : task_registry())
    if (std::string(row.name) == task.name()) return row.defaults;
  return {};
}

// The trainer's own settings: defaults may depend on the variant, which is the model's where the host gives one.
Settings settings_of(const Task& task, const Model* model, Options options) {
  if (model && model->settings().given("variant")) options.set("variant", model->settings().text("variant"));
  return Settings(all_rows(), options, defaults_of(task));
}

}  // namespace

std::span<const OptionRow> trainer_options() { return rows; }

Trainer::Trainer(std::shared_ptr<const Task> task, const Model* model, const Options& options, const Trainer* twin, bool resumed)
    : task_(std::move(task)), options_(options), settings_(settings_of(*task_, model, options)),
      team_(static_cast<int>(settings_.integer("threads"))),
      state_{[this]() -> const Model& { return evaluation_->model(); }, *task_, settings_, step_,
             [this](Split split) -> const Metrics& { return evaluation_->at(split); },
             [this] { return evaluation_->watched(); }, [this](size_t i) -> const ColumnValue& { return evaluation_->column(i); },
             [this](size_t i) { return evaluation_->phase(i); },
             [this]() -> const RotationPopulation& { return evaluation_->rotation(); }, [this] { return exact(); },
             [this](const ProbeRow& probe) -> std::span<const double> {
               return std::ranges::find(courses_, &probe, &Course::probe)->numbers;
             }},
      schedule_(settings_), stop_rules_(settings_) {
  model_ = model ? model->clone() : make_model(*task_, Settings(model_options(), options, defaults_of(*task_)));
  if (model_->kind() != task_->kind())
    fail(LAMINA_E_ARGUMENT, "model is made for another kind of task, must be made for task " + std::string(task_->name()));
  model_->require_law_of(*task_);
  host_model_ = model && !resumed;
  if (settings_.is("optimiser", "sgd") && settings_.is("data", "fixed") && settings_.integer("batch") == 0)
    fail(LAMINA_E_OPTION, "batch is 0, must be at least 1 for optimiser=sgd on a fixed set; or use optimiser=gd");
  if (settings_.is("optimiser", "flow")) require_flow(settings_);
  // A model of the host's keeps the noise logit that it came with.
  if (!model && settings_.is("data", "fixed") && settings_.is("estimate_noise", "yes") && model_->has_tensor("noise_logit") &&
      task_->law().noise > 0 && task_->law().length > 0)
    model_->tensor("noise_logit")[0] = estimated_logit(*task_, settings_);
  objective_ = make_objective(task_, *model_, settings_, team_, twin ? twin->objective_.get() : nullptr);
  const size_t variables = objective_->variables(*model_).size();
  allocate("gradient", 8.0 * static_cast<double>(variables), [&] { gradient_.resize(variables); });
  const Slope slope_at = [this](std::span<const double> x, std::span<double> g) { slope(x, g); };
  optimiser_ = make_optimiser(settings_, variables, slope_at, objective_->entries());
  evaluation_ = std::make_unique<Evaluation>(task_, settings_, team_);
  crossings_ = std::make_unique<Crossings>(settings_.text("crossings"), *model_, *task_, [this](const ProbeRow& probe) { return suits(probe); });
  require_infima();
  if (settings_.is("stop_at_crossings", "yes") && !crossings_->open())
    fail(LAMINA_E_OPTION, "stop_at_crossings is yes, must be no without crossings");
  choose_probes();
  build_columns();
}

Trainer::~Trainer() = default;

std::string Trainer::option(const std::string& key) const {
  // The model may be the host's and made with other options; what model and trainer share is the trainer's here.
  const bool shared = key == "seed" || key == "threads";
  for (const Settings* settings : {&task_->settings(), shared ? &settings_ : &model_->settings(), &settings_})
    if (settings->has(key.c_str())) return settings->as_text(key.c_str());
  fail(LAMINA_E_OPTION, "key is \"" + key + "\", must be an option of this run");
}

void Trainer::set_options(const Options& options) {
  options_ = options;
  settings_ = settings_of(*task_, model_.get(), options);
}

bool Trainer::suits(const ProbeRow& probe) const {
  return probe.suits(*model_, *task_, settings_) && (!probe.from_start || starts_by_options());
}

// Whether the run begins with the parameters of a new model of these options.
bool Trainer::starts_by_options() const {
  return !host_model_ || make_model(*task_, model_->settings())->parameters() == model_->parameters();
}

void Trainer::choose_probes() {
  const std::string& wanted = settings_.text("probes");
  if (wanted == "none") return;
  for (size_t at = 0; at <= wanted.size();) {
    const size_t comma = std::min(wanted.find(',', at), wanted.size());
    const std::string name = wanted.substr(at, comma - at);
    at = comma + 1;
    if (name != "default" && name != "all") {
      add_probe(name);
      continue;
    }
    for (const ProbeRow& probe : probe_registry())
      if ((probe.by_default || name == "all") && suits(probe)) add_probe(probe.name);
  }
}

void Trainer::add_probe(const std::string& name) {
  const ProbeRow& probe = find_probe(name);
  if (!probe.suits(*model_, *task_, settings_))
    fail(LAMINA_E_OPTION, "probe is " + name + ", which means nothing for this task, model and optimiser");
  if (!suits(probe))
    fail(LAMINA_E_OPTION, "probe is " + name + ", which is of the parameters that a new model of these options has; the model given has others");
  if (!records(probe)) probes_.push_back(&probe);
}

void Trainer::watch(const std::string& probe) {
  if (trajectory_->rows() > 0) fail(LAMINA_E_STATE, "probe is " + probe + ", must be watched before the first step");
  add_probe(probe);
  build_columns();
}

void Trainer::build_columns() {
  std::vector<Column> columns{{"step", "updates made"}, model_->loss_column(), model_->excess_column()};
  if (!settings_.is("data", "population") && !(settings_.is("data", "fixed") && settings_.integer("batch") == 0))
    for (const size_t c : {1, 2}) columns[c].definition += ", of the batch of this step";
  for (const ProbeRow* probe : probes_)
    for (Column& column : probe->columns(*model_, *task_)) columns.push_back(std::move(column));
  trajectory_ = std::make_shared<Trajectory>(std::move(columns));
  courses_.clear();
  for (const ProbeRow& probe : probe_registry())
    if (probe.advance && (records(probe) || crossings_->watch(probe)))
      courses_.push_back({&probe, std::vector<double>(probe.columns(*model_, *task_).size(), undefined), true});
}

void Trainer::on_progress(std::function<bool(const Progress&)> function, double seconds) {
  progress_ = std::move(function);
  progress_seconds_ = seconds;
}

const ProbeState& Trainer::state() {
  evaluation_->begin(*model_, *objective_, step_);
  return state_;
}

void Trainer::advance() {
  for (Course& course : courses_)
    if (course.open && (records(*course.probe) || crossings_->watch(*course.probe)))
      course.open = course.probe->advance(state(), course.numbers);
}

double Trainer::infimum() {
  if (!infimum_) infimum_ = loss_infimum(*task_, *model_, !settings_.is("data", "population"), team_);
  return *infimum_;
}

Loss Trainer::exact() {
  Loss loss = settings_.is("data", "population") ? evaluate(true) : evaluation_->exact();
  loss.excess -= loss_infimum(*task_, *model_, false, team_);
  return loss;
}

void Trainer::require_infima() {
  const bool of_law = std::ranges::any_of(crossings(), [](const Crossing& crossing) { return crossing.signal == population_excess; });
  if ((stop_rules_.watch_excess() || crossings_->watch_excess()) && !std::isfinite(infimum())) refuse_excess(settings_);
  if (of_law && !std::isfinite(loss_infimum(*task_, *model_, false, team_))) refuse_excess(settings_);
}

// Loss and gradient at the present step, once: a run in chunks evaluates no more than one run does.
const Loss& Trainer::evaluate(bool with_excess) {
  if (evaluated_ == step_ && (evaluated_excess_ || !with_excess)) return loss_;
  evaluated_ = -1;
  loss_ = objective_->loss_and_gradient(*model_, step_, gradient_.data(), with_excess);
  evaluated_ = step_, evaluated_excess_ = with_excess;
  return loss_;
}

void Trainer::record() {
  if (recorded_ == step_) return;
  const Loss& loss = evaluate(true);
  std::vector<double> row{static_cast<double>(step_), loss.loss, loss.excess - infimum()};
  const ProbeState& now = state();
  for (const ProbeRow* probe : probes_) probe->append_to(row, now);
  trajectory_->record(row);
  recorded_ = step_;
}

lamina_status Trainer::run(int64_t steps, bool settled) {
  struct Settle {  // the model is up to date whenever the caller sees it
    Trainer& trainer;
    bool wanted;
    ~Settle() {
      if (wanted) trainer.objective_->write(*trainer.model_);
    }
  } const settle{*this, settled};
  const int64_t all = settings_.integer("steps");
  const int64_t last = steps == 0 ? all : step_ + std::min(steps, std::max<int64_t>(0, all - step_));
  const Clock::time_point start = Clock::now();
  const double before = seconds_;
  const int64_t first = step_;
  double reported = 0;
  lamina_status status = LAMINA_OK;
  for (;;) {
    const bool row = schedule_.due(step_), tell = progress_ && (seconds_ - reported >= progress_seconds_ || step_ >= last);
    const Loss& loss = evaluate(row || tell || crossings_->watch_excess() || stop_rules_.watch_excess());
    advance();
    seconds_ = before + seconds_since(start);
    if (!finite(loss)) {
      record();
      return LAMINA_DIVERGED;
    }
    bool crossed = false;
    try {
      crossed = look();
    } catch (const Stopped&) {  // the run ends below; the step is looked at again when it goes on
    }
    const bool ended = crossed && !crossings_->open() && settings_.is("stop_at_crossings", "yes");
    if (crossed || row) record();
    if (tell) {
      reported = seconds_;
      const double rate = static_cast<double>(step_ - first) / std::max(seconds_ - before, 1e-9);
      objective_->write(*model_);
      if (!progress_({step_, all, loss.loss, loss.excess - infimum(), seconds_, rate})) status = LAMINA_STOPPED;
    }
    if (stop_.exchange(false, std::memory_order_relaxed)) status = LAMINA_STOPPED;
    if (ended) return LAMINA_TARGET_REACHED;  // also of a run that is to stop here: it would not be seen again
    if (status != LAMINA_OK) return status;
    if (stop_rules_.reached(loss.loss, stop_rules_.watch_excess() ? loss.excess - infimum() : 0,
                            stop_rules_.watch_gradient() ? l2_norm(gradient_, objective_->entries()) : 0)) {
      record();
      return LAMINA_TARGET_REACHED;
    }
    if (step_ >= last) return LAMINA_OK;
    if (stop_rules_.out_of_time(seconds_)) return LAMINA_TIME_LIMIT;
    bool moved = false;
    try {
      optimiser_->set_rate(objective_->rate(step_) * scheduled_rate(settings_, step_, all));
      moved = optimiser_->step(objective_->variables(*model_), gradient_);
    } catch (const Stopped&) {
      continue;
    }
    if (!moved) {
      record();
      return LAMINA_GRADIENT_VANISHED;
    }
    ++step_;
  }
}

void Trainer::slope(std::span<const double> x, std::span<double> gradient) {
  if (stop_.load(std::memory_order_relaxed)) throw Stopped();
  const std::span<double> variables = objective_->variables(*model_);
  const std::vector<double> present(variables.begin(), variables.end());
  const struct Restore {
    std::span<double> variables;
    const std::vector<double>& present;
    ~Restore() { std::ranges::copy(present, variables.begin()); }
  } restore{variables, present};
  std::ranges::copy(x, variables.begin());
  objective_->loss_and_gradient(*model_, step_, gradient.data(), false);
}

bool Trainer::finite(const Loss& loss) const {
  if (!std::isfinite(loss.loss)) return false;
  uint64_t bad = 0;  // 1 for an exponent of ones; without branches, for the gradient is long
  for (double g : gradient_) bad |= ((std::bit_cast<uint64_t>(g) >> 52 & 0x7ff) + 1) >> 11;
  return bad == 0;
}

std::shared_ptr<const Trajectory> Trainer::trajectory() const { return std::make_shared<Trajectory>(*trajectory_); }

}  // namespace lamina
