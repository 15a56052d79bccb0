// What to measure along a run. A probe is one row of a registry: a name, its columns with their definitions, and a function of
// the run's state. Sets that are costly to evaluate are evaluated once a record, when a probe first asks.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/model.hpp"

namespace lamina {

struct ColumnValue;
struct ProbeRow;
struct RotationPopulation;

// A query feature that probes follow, and the others that stand for all (leading_others).
struct WatchedQuery {
  int64_t query;
  std::vector<int64_t> others;
};

// The state of a run at its present step.
class ProbeState {
 public:
  // Its parameters are brought up to date when first asked for, which costs d^2 where descent moves fewer numbers.
  const Model& model() const;
  std::function<const Model&()> present_model;
  const Task& task;
  const Settings& training;  // the trainer's options
  const int64_t& step;
  // Metrics of a split; train is the set (or batch, or law) that the objective reads. Evaluated at most once each.
  std::function<const Metrics&(Split)> metrics;
  // Of tasks on features: the watched queries, and the exact law's value of the i-th one's column, evaluated at most once.
  std::function<std::span<const WatchedQuery>()> watched;
  std::function<const ColumnValue&(size_t)> column;
  std::function<int(size_t)> phase;  // of its logits alone (theory/feature_phase.hpp)
  // The same of rotating sequences.
  std::function<const RotationPopulation&()> rotation;
  // Loss and excess on the exact law, whatever data the run descends; of tasks on features, of regression and of rotating sequences.
  std::function<Loss()> exact;
  // The numbers of a probe with advance, brought up to the present step.
  std::function<std::span<const double>(const ProbeRow& probe)> course;
};

struct ProbeRow {
  const char* name;
  unsigned kinds;  // of tasks that have it
  const char* summary;
  std::vector<Column> (*columns)(const Model& model, const Task& task);
  void (*measure)(const ProbeState& state, std::vector<double>& row);  // appends its numbers; null with advance
  // Whether it means anything for this model and task of its kinds; a probe that does not cannot be watched.
  bool (*applies)(const Model& model, const Task& task, const Settings& training);
  bool by_default;  // part of probes=default
  bool from_start = false;  // it is about the course from the parameters that the model's options give, not from a host's own
  // In place of measure, of a probe that tells a step by those before it: it is shown every step, recorded or not, and brings its
  // numbers of the step before, NaN at first, up to date, until it returns that no step can change them any more. A step may be shown
  // twice. The numbers are kept in checkpoints.
  bool (*advance)(const ProbeState& state, std::span<double> numbers) = nullptr;

  void append_to(std::vector<double>& row, const ProbeState& state) const {
    if (!advance) return measure(state, row);
    const std::span<const double> numbers = state.course(*this);
    row.insert(row.end(), numbers.begin(), numbers.end());
  }
  // Whether its columns are functions of the model's parameters alone, not of the steps made.
  bool of_parameters() const { return !advance && !from_start; }
  bool suits(const Model& model, const Task& task, const Settings& training) const {
    return (kinds & task.kind()) && applies(model, task, training);
  }
};

std::span<const ProbeRow> probe_registry();
std::span<const ProbeRow> prediction_probes();  // predicted.cpp
std::span<const ProbeRow> causal_probes();      // causal_probes.cpp
std::span<const ProbeRow> feature_probes();     // feature_probes.cpp
std::span<const ProbeRow> next_token_probes();  // next_token_probes.cpp
std::span<const ProbeRow> regression_probes();  // regression_probes.cpp
std::span<const ProbeRow> rotation_probes();    // rotation_probes.cpp
const ProbeRow& find_probe(const std::string& name);

}  // namespace lamina
