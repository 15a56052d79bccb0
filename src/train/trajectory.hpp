// The record of a run: a table of doubles with named, defined columns.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/memory.hpp"
#include "probe/probe.hpp"

namespace lamina {

class Trajectory {
 public:
  explicit Trajectory(std::vector<Column> columns) : columns_(std::move(columns)) {}
  const std::vector<Column>& columns() const { return columns_; }
  int64_t rows() const { return static_cast<int64_t>(values_.size() / columns_.size()); }
  double at(int64_t row, int64_t column) const { return values_[row * columns_.size() + column]; }
  const std::vector<double>& values() const { return values_; }  // [rows, columns]
  // A failure leaves the table as it was.
  void record(const std::vector<double>& row) {
    allocate("trajectory", 16.0 * static_cast<double>(values_.size()), [&] { values_.insert(values_.end(), row.begin(), row.end()); });
  }
  void assign(std::vector<double> values) { values_ = std::move(values); }

 private:
  std::vector<Column> columns_;
  std::vector<double> values_;
};

}  // namespace lamina
