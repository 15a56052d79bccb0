// The phases of descent in a column of Q. alpha_k and beta_{k,n} are minus the population gradient by A_k and B_{k,n}; feature m is the
// most probable one other than the query k. If p_m > p_k and attention to m exceeds attention to k,
//   1 suppression: alpha_k < |beta_{k,m}|, which is where the sum of the other beta_{k,n} is positive;
//   2 switching:   alpha_k leads;
// else attention to k does, or there is none to overtake, and
//   3 growth:      alpha_k rises along gradient flow from this Q;
//   4 convergence: it falls; at N = infinity, the other features alike, where attention to k is above 1/3.
// So equal features, and the most probable one, have the last two, or 4 alone. This is the phase in which a run begins at Q. Along a run
// no phase is left for an earlier one: its phase at a step is the largest of those of its Q until then (probe `phase`), which on gradient
// flow from Q = 0 is that of the Q at hand; normalised or large steps and samples take Q to and fro over a signal.
#pragma once
#include "task/task.hpp"
#include "theory/feature_column.hpp"

namespace lamina {

// value: of the column at the logits [groups], with attention; 0 where it is not finite. For f linear, N >= 2.
int phase_of(const FeatureColumn& column, std::span<const double> logits, const ColumnValue& value, ColumnIntegral& integral);
// Why a law has no phases; null if it has.
const char* phaseless(const FeatureLaw& law);

}  // namespace lamina
