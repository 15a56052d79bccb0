// Ensembles for tests: axes as lists, and what each member must be.
#pragma once
#include <gtest/gtest.h>

#include <bit>

#include "ensemble/ensemble.hpp"
#include "ensemble/tables.hpp"
#include "support/runs.hpp"

namespace lamina::tests {

using Axes = std::vector<std::pair<std::string, std::string>>;

inline std::unique_ptr<Ensemble> ensemble_of(const std::string& task, const std::string& line, const Axes& axes) {
  auto ensemble = std::make_unique<Ensemble>(task, nullptr, options_of(line));
  for (const auto& [key, values] : axes) ensemble->vary(key, values);
  return ensemble;
}

// The trajectory of one member's options, trained alone.
inline std::shared_ptr<const Trajectory> alone(const Ensemble& ensemble, int64_t member) {
  const Options options = ensemble.options(member);
  const TaskRow& row = find_task(ensemble.task_name());
  Trainer trainer(row.create(Settings(row.options, options, row.defaults)), nullptr, options);
  trainer.run(0);
  return trainer.trajectory();
}

inline void expect_same_bits(const Trajectory& a, const Trajectory& b, const std::string& what) {
  ASSERT_EQ(a.values().size(), b.values().size()) << what;
  size_t different = 0;
  for (size_t i = 0; i < a.values().size(); ++i)
    different += std::bit_cast<uint64_t>(a.values()[i]) != std::bit_cast<uint64_t>(b.values()[i]);
  EXPECT_EQ(different, 0u) << what;
}

inline void expect_members_as_alone(const Ensemble& ensemble, const std::string& what) {
  for (int64_t i = 0; i < ensemble.count(); ++i) {
    ASSERT_TRUE(ensemble.member(i).trajectory) << what << " member " << i << ": " << ensemble.member(i).text;
    expect_same_bits(*ensemble.member(i).trajectory, *alone(ensemble, i), what + " member " + std::to_string(i));
  }
}

inline size_t column_of(const Trajectory& table, const std::string& name) {
  for (size_t c = 0; c < table.columns().size(); ++c)
    if (table.columns()[c].name == name) return c;
  throw std::runtime_error("no column " + name);
}

inline double at(const Trajectory& table, int64_t row, const std::string& name) {
  return table.at(row, static_cast<int64_t>(column_of(table, name)));
}

}  // namespace lamina::tests
