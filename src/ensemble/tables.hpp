// What an ensemble says, as tables of doubles: every recorded row, quantiles over members, times to reach a level, and exponents.
// An axis is a column: the value itself, or for words, texts and arrays its place in the list.
#pragma once
#include <memory>
#include <span>
#include <string>

#include "ensemble/ensemble.hpp"

namespace lamina {

// Which members a statistic takes together: those that agree on every axis but `over` (keys with commas, "" for none).
struct Statistic {
  std::string column;  // of the trajectories
  std::string over;
};

using Table = std::shared_ptr<const Trajectory>;

// "member", the axes, "status", then every column of a member's trajectory, by name. A failed member has one row of NaN.
Table table_of(const Ensemble& ensemble);

// The axes but those of `over`, "step", "members" (with a number there), "ended" (of these), "mean", and a column for each quantile.
// At the steps at which every member of the group that has not ended has a row: rows added by a crossing or a target are in one alone.
// A member that ended by a target or a vanished gradient counts with its last value from then on, so that the rest are no selection of
// the slow; one that diverged, was out of time or has fewer steps leaves `members`.
Table summary_of(const Ensemble& ensemble, const Statistic& what, std::span<const double> quantiles);

// "member", the axes, "status", "level", "time": the first step at which the column is at the level or on the other side of it than
// at the start; NaN if never. Exact for what the option `crossings` names (under gradient flow the moment between steps), else the first
// such row. No levels: those of crossings.
Table times_of(const Ensemble& ensemble, const std::string& column, std::span<const double> levels);

// d log time / d log x by least squares over the members of a group, x the value of axis `along`, or with along = "level" the
// reciprocal of the level: the axes but `along` and `over`, "level" (unless along), "exponent", "error", "lower", "upper",
// "intercept", "r_squared", "points", "missing" (runs that never got there, left out).
Table exponents_of(const Ensemble& ensemble, const Statistic& what, const std::string& along, std::span<const double> levels,
                   double confidence);

}  // namespace lamina
