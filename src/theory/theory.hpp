// Closed forms by name: Bayes risks, population losses, optimal constructions, rates. Each file states its paper and equation.
#pragma once
#include <span>

#include "task/task.hpp"

namespace lamina {

struct TheoryRow {
  const char* name;
  const char* summary;    // what it is
  const char* signature;  // "arguments -> results", e.g. "noise -> risk"
  unsigned kinds;         // of tasks that it reads; 0: none is read
  int64_t arguments;      // -1: any number
  int64_t results;        // -1: as many as there are arguments
  void (*evaluate)(const Task* task, std::span<const double> arguments, std::span<double> out);
  const char* example = "";  // options and arguments of one on the command line, where the defaults are not among its laws
};

std::span<const TheoryRow> recall_forms();   // recall_forms.cpp
std::span<const TheoryRow> feature_forms();  // feature_forms.cpp
std::span<const TheoryRow> population_forms();  // population_forms.cpp
std::span<const TheoryRow> next_token_forms();  // next_token_forms.cpp
std::span<const TheoryRow> regression_forms();  // regression_forms.cpp
std::span<const TheoryRow> rotation_forms();    // rotation_forms.cpp
std::span<const TheoryRow> theory_registry();
const TheoryRow& find_theory(const std::string& name);

}  // namespace lamina
