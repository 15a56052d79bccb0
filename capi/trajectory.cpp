// lamina.h, section trajectory: the table of a run.
#include "capi/check.hpp"
#include "capi/guard.hpp"
#include "capi/handles.hpp"

using namespace lamina;
using namespace lamina::capi;

namespace {

int64_t column_count(const lamina_trajectory& handle) {
  return static_cast<int64_t>(handle.trajectory->columns().size());
}

}  // namespace

void lamina_trajectory_free(lamina_trajectory* trajectory) {
  guard("lamina_trajectory_free", [&] { delete trajectory; });
}

lamina_status lamina_trajectory_rows(const lamina_trajectory* trajectory, int64_t* out) {
  return guard("lamina_trajectory_rows", [&] {
    require(trajectory, "trajectory");
    require(out, "out");
    *out = trajectory->trajectory->rows();
  });
}

lamina_status lamina_trajectory_columns(const lamina_trajectory* trajectory, int64_t* out) {
  return guard("lamina_trajectory_columns", [&] {
    require(trajectory, "trajectory");
    require(out, "out");
    *out = column_count(*trajectory);
  });
}

lamina_status lamina_trajectory_column_name(const lamina_trajectory* trajectory, int64_t column, const char** name,
                                            const char** definition) {
  return guard("lamina_trajectory_column_name", [&] {
    require(trajectory, "trajectory");
    require(name, "name");
    require_range("column", column, 0, column_count(*trajectory) - 1);
    const Column& described = trajectory->trajectory->columns()[static_cast<size_t>(column)];
    *name = described.name.c_str();
    if (definition) *definition = described.definition.c_str();
  });
}

lamina_status lamina_trajectory_read(const lamina_trajectory* trajectory, int64_t column, double* out, int64_t capacity) {
  return guard("lamina_trajectory_read", [&] {
    require(trajectory, "trajectory");
    require_range("column", column, 0, column_count(*trajectory) - 1);
    const int64_t rows = trajectory->trajectory->rows();
    require_range("capacity", capacity, rows, INT64_MAX);
    if (rows > 0) require(out, "out");
    for (int64_t row = 0; row < rows; ++row) out[row] = trajectory->trajectory->at(row, column);
  });
}
