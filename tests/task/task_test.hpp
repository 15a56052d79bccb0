// What the tests of tasks share: making a task from words, reading a prompt, chi-square statistics.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "task/task.hpp"

namespace lamina {

using Set = std::map<std::string, OptionValue>;

inline std::shared_ptr<const Task> make_task(const std::string& name, const Set& set) {
  Options options;
  for (const auto& [key, value] : set) options.set(key, value);
  const TaskRow& row = find_task(name);
  return row.create(Settings(row.options, options, row.defaults));
}

// What the action throws: "status: text", or "" if it throws nothing.
template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return std::to_string(error.status()) + ": " + error.what();
  }
  return "";
}

inline void expect_error(const std::string& found, lamina_status status, std::initializer_list<const char*> parts) {
  EXPECT_EQ(found.substr(0, found.find(':')), std::to_string(status)) << found;
  for (const char* part : parts) EXPECT_NE(found.find(part), found.npos) << "\"" << part << "\" is not in \"" << found << "\"";
}

// (n_y, n_tau) of a prompt; -1, -1 if condition (a), (b) or (c) of the task is broken.
struct Counts {
  int64_t answer = 0, noise = 0;
};
inline Counts count_successors(std::span<const int32_t> row, int32_t answer, int32_t tau) {
  Counts counts;
  const int32_t query = row.back();
  for (size_t h = 0; h + 1 < row.size(); ++h) {
    if (row[h] != query) continue;
    if (row[h + 1] == answer) {
      ++counts.answer;
    } else if (row[h + 1] == tau) {
      ++counts.noise;
    } else {
      return {-1, -1};
    }
  }
  if (counts.answer < 1) return {-1, -1};
  return counts;
}

// Pearson's statistic brought to a standard normal under the law (Wilson and Hilferty). Cells that expect less than 5 are
// pooled.
inline double chi_square(const std::vector<double>& observed, const std::vector<double>& expected) {
  double statistic = 0, pool_observed = 0, pool_expected = 0;
  int cells = 0;
  const auto add = [&](double o, double e) { statistic += (o - e) * (o - e) / e, ++cells; };
  for (size_t i = 0; i < observed.size(); ++i) {
    if (expected[i] < 5) {
      pool_observed += observed[i], pool_expected += expected[i];
    } else {
      add(observed[i], expected[i]);
    }
  }
  if (pool_expected > 0) add(pool_observed, pool_expected);
  EXPECT_GE(cells, 2);
  const double freedom = cells - 1;
  return (std::cbrt(statistic / freedom) - (1 - 2 / (9 * freedom))) / std::sqrt(2 / (9 * freedom));
}
// One in a million under the law; the seeds are fixed.
constexpr double surely = 4.75;

// A file with the given bytes that is gone at the end of the scope.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& bytes) {
    static int number = 0;
    path_ = (std::filesystem::temp_directory_path() /
             ("lamina_task_test_" + std::to_string(std::filesystem::hash_value(std::filesystem::current_path())) + "_" +
              std::to_string(reinterpret_cast<uintptr_t>(this)) + "_" + std::to_string(number++)))
                .string();
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace lamina
