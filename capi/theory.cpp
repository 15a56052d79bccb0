// lamina.h, section theory: closed forms by name.
#include "theory/theory.hpp"

#include <algorithm>
#include <cmath>

#include "capi/check.hpp"
#include "capi/guard.hpp"
#include "capi/handles.hpp"

using namespace lamina;
using namespace lamina::capi;

lamina_status lamina_theory_evaluate(const char* name, const lamina_task* task, const double* arguments, int64_t argument_count,
                                     double* out, int64_t out_count) {
  return guard("lamina_theory_evaluate", [&] {
    require(name, "name");
    require(out, "out");
    const TheoryRow& row = find_theory(name);
    if (row.kinds && !task) fail(LAMINA_E_ARGUMENT, std::string("task is NULL, must be given: ") + name + " reads it");
    if (row.arguments >= 0)
      require_range("argument_count", argument_count, row.arguments, row.arguments);
    else
      require_range("argument_count", argument_count, 0, largest_count);
    const int64_t wanted = row.results >= 0 ? row.results : argument_count;
    require_range("out_count", out_count, wanted, wanted);
    if (argument_count > 0) require(arguments, "arguments");
    require_disjoint("out", out, out_count * 8, "arguments", arguments, argument_count * 8);
    for (int64_t i = 0; i < argument_count; ++i)
      if (std::isnan(arguments[i])) fail(LAMINA_E_ARGUMENT, "arguments[" + std::to_string(i) + "] is nan, must be a number");
    if (row.kinds && !(row.kinds & task->task->kind()))
      fail(LAMINA_E_ARGUMENT, "task is " + std::string(task->task->name()) + ", must be one that " + name + " is about");
    std::vector<double> results(static_cast<size_t>(out_count));
    row.evaluate(task ? task->task.get() : nullptr, {arguments, static_cast<size_t>(argument_count)}, results);
    std::copy(results.begin(), results.end(), out);
  });
}
