// The rows of the registry, one for each file of a task.
#pragma once
#include "task/task.hpp"

namespace lamina {

extern const TaskRow in_context_recall_row;       // in_context_recall.cpp
extern const TaskRow in_context_convergence_row;  // in_context_convergence.cpp
extern const TaskRow linear_regression_row;       // linear_regression.cpp
extern const TaskRow mesa_optimisation_row;       // mesa_optimisation.cpp
extern const TaskRow text_recall_row;             // text_recall.cpp
extern const TaskRow next_token_row;              // next_token.cpp
extern const TaskRow causal_structure_row;        // causal_structure.cpp

}  // namespace lamina
