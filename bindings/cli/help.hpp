// lamina list, describe, theory: what the catalogue says, for a person to read.
#pragma once
#include <string>
#include <vector>

#include "client.hpp"

namespace cli {

// All tasks, probes, closed forms and figures, one line each.
Exit list();
// A task with its options, probes and paper; or a probe; or a closed form; or a figure.
Exit describe_name(const std::string& name);
// Evaluates a closed form and prints its results.
Exit evaluate_theory(const std::string& name, const std::string& task, const std::vector<std::string>& settings,
                     const std::string& arguments);

}  // namespace cli
