// The tasks by name.
#include "task/registry.hpp"

namespace lamina {

std::span<const TaskRow> task_registry() {
  static const TaskRow rows[] = {in_context_recall_row, in_context_convergence_row, linear_regression_row, mesa_optimisation_row,
                                 text_recall_row,       next_token_row,             causal_structure_row};
  return rows;
}

const TaskRow& find_task(const std::string& name) {
  std::string known;
  for (const TaskRow& row : task_registry()) {
    if (name == row.name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail(LAMINA_E_ARGUMENT, "task is \"" + name + "\", must be one of " + known);
}

}  // namespace lamina
