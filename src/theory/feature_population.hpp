// The exact population loss of in-context learning on features, L(Q) = sum_k p_k L_k, and its gradient; L_k is a function of column
// k of Q in feature coordinates (key n, query k: Q[n,k] = v_n^T Q v_k). Softmax: feature_column.hpp. Linear and relu attention,
// a_n = c_n g_n / N with g = q or max(q, 0): with h = p g,
//   L_k = 1/2 ( e^T Gm e + (sum_n Gm_nn p_n g_n^2 - h^T Gm h) / N ),   e = h - unit_k:
// the error of the mean attention, and what the counts vary.
// Features with the same probability and exchangeable values of f are one class. Descent from a Q that is alike on classes
// stays so: then only one entry of each kind is a variable.
#pragma once
#include <map>
#include <memory>

#include "base/parallel.hpp"
#include "task/task.hpp"
#include "theory/feature_column.hpp"
#include "theory/feature_floor.hpp"

namespace lamina {

class FeaturePopulation {
 public:
  // tied: entries of Q that exchangeability keeps equal are one variable; else every entry between features is one.
  FeaturePopulation(const FeatureLaw& law, kernels::Map map, const kernels::Table<double>& table, bool tied);

  int64_t variables() const { return static_cast<int64_t>(entry_of_.size()); }
  // How many entries of Q each variable stands for.
  std::vector<double> entries() const;
  // x [variables] from Q, whose row n begins at Q + n * stride; false if Q differs where ties want it equal.
  bool gather(const double* Q, int64_t stride, double* x) const;
  // The entries between features of Q; others are untouched.
  void scatter(const double* x, double* Q, int64_t stride) const;
  // L, and its derivative by one entry of each kind into gradient [variables], which may be null. One call at a time.
  double loss_and_gradient(const double* x, double* gradient, const Team& team);
  // Linear and relu attention at finite N: L - inf L, as LinearOptima has it.
  double excess(const double* x);
  // L_k, -dL_k/dq_n and E a_n (softmax) for every feature n, from the K logits of query k. One call at a time.
  ColumnValue column(int64_t query, std::span<const double> logits);
  // The phase of the query by feature_phase.hpp, of softmax: from its logits; and at x [variables], where a column that was asked for
  // at each call of loss_and_gradient is not evaluated again. One call at a time.
  int phase(int64_t query, std::span<const double> logits);
  int phase_at(int64_t query, const double* x);

 private:
  struct Part {  // queries that are alike
    int64_t query;
    double probability;  // of all of them
    int64_t first = 0;   // variable
    std::vector<int64_t> member;  // a feature of each group; the query first
    FeatureColumn column;
    bool asked = false;      // for its phase, since the last call of loss_and_gradient
    std::vector<double> at;  // the logits that the value is of [groups]; empty: none
    ColumnValue value;       // with attention
  };
  struct Grouped {
    const Part* part;
    bool tied;  // it is one of parts_
  };
  // queries: how many the part stands for. first is left to the caller.
  Part part_of(int64_t query, const std::vector<std::vector<int64_t>>& groups, double queries) const;
  size_t place_of(int64_t query) const;  // in parts_
  // The part of a query with each class a group, if x [groups] can hold the logits, or each feature.
  Grouped grouped(int64_t query, std::span<const double> logits, std::vector<double>& x);
  void evaluate(const Part& part, const double* x, bool with_attention, ColumnIntegral& integral, ColumnValue& out) const;
  void evaluate_linear(const Part& part, const double* g, ColumnValue& out) const;
  double moment(int64_t m, int64_t n) const { return law_.moments.empty() ? (m == n ? 1.0 : 0.0) : law_.moments[m * law_.features + n]; }

  FeatureLaw law_;
  kernels::Map map_;
  struct Slot {  // of one thread
    ColumnIntegral integral;
    ColumnValue value;
  };

  const kernels::Table<double>* table_;
  std::vector<Slot> slots_;
  std::shared_ptr<LinearOptima> optima_;  // made when first asked for
  std::vector<double> losses_;  // [parts]
  std::vector<Part> parts_;
  std::vector<int64_t> variable_;  // [K,K]: of entry (key n, query k)
  std::vector<int64_t> entry_of_;  // [variables]: one entry n * K + k of each
  std::map<int64_t, Part> alone_;  // of queries whose column was asked for with logits that ties would have equal: every feature a group
  Slot one_;                       // of column and phase
};

// The classes of exchangeable features, each in ascending order, by their first members.
std::vector<std::vector<int64_t>> feature_classes(const FeatureLaw& law);

// The features other than the query that stand for all: the first of each of the first four classes that have one.
std::vector<int64_t> leading_others(const FeatureLaw& law, int64_t query);

}  // namespace lamina
