// The catalogue: every name and option that exists, gathered from the registries, for help in every language.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "base/options.hpp"

namespace lamina {

// One entry; strings are literals, or live as long as the library.
struct CatalogueRow {
  int32_t kind;  // LAMINA_KIND_*
  const char* key;
  const char* owner;
  const char* fallback;
  double minimum, maximum;
  const char* words;
  const char* summary;
  const char* description;
};

// "tasks", "probes", "theory", or a task's name (also "arrays", "callback"): nullptr if there is no such scope.
const std::vector<CatalogueRow>* catalogue(const std::string& scope);

// Throws LAMINA_E_OPTION naming the known keys if no object has an option `key`.
void require_known_option(const std::string& key);

// The option `key` of a run of task `name`; throws LAMINA_E_OPTION naming the known keys if it has none.
const CatalogueRow& option_of(const std::string& task, const std::string& key);

// Throws LAMINA_E_OPTION if a key set in `options` is an option neither of task `name` nor of the model or the trainer.
void require_options_of(const std::string& task, const Options& options);

}  // namespace lamina
