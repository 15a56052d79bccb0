// The closed forms of all systems by name.
#include "theory/theory.hpp"

#include <vector>

#include "base/error.hpp"

namespace lamina {

std::span<const TheoryRow> theory_registry() {
  static const auto all = [] {
    std::vector<TheoryRow> joined;
    for (const auto forms : {recall_forms(), population_forms(), feature_forms(), next_token_forms(), regression_forms(), rotation_forms()})
      joined.insert(joined.end(), forms.begin(), forms.end());
    return joined;
  }();
  return all;
}

const TheoryRow& find_theory(const std::string& name) {
  std::string known;
  for (const TheoryRow& row : theory_registry()) {
    if (row.name == name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail(LAMINA_E_ARGUMENT, "name is " + name + ", must be one of " + known);
}

}  // namespace lamina
