// lamina.h, section options: setting them, and the catalogue that lists them.
#include <cmath>

#include "capi/check.hpp"
#include "capi/guard.hpp"
#include "capi/handles.hpp"
#include "train/catalogue.hpp"

using namespace lamina;
using namespace lamina::capi;

lamina_status lamina_options_create(lamina_options** out) {
  return guard("lamina_options_create", [&] {
    require(out, "out");
    require_isa();
    *out = new lamina_options;
  });
}

void lamina_options_free(lamina_options* options) {
  guard("lamina_options_free", [&] { delete options; });
}

lamina_status lamina_options_set_number(lamina_options* options, const char* key, double value) {
  return guard("lamina_options_set_number", [&] {
    require(options, "options");
    require(key, "key");
    require_known_option(key);
    if (std::isnan(value)) fail(LAMINA_E_OPTION, std::string(key) + " is nan, must be a number");
    options->options.set(key, value);
  });
}

lamina_status lamina_options_set_text(lamina_options* options, const char* key, const char* value) {
  return guard("lamina_options_set_text", [&] {
    require(options, "options");
    require(key, "key");
    require(value, "value");
    require_known_option(key);
    options->options.set(key, std::string(value));
  });
}

lamina_status lamina_options_set_array(lamina_options* options, const char* key, const double* values, int64_t count) {
  return guard("lamina_options_set_array", [&] {
    require(options, "options");
    require(key, "key");
    require_range("count", count, 0, largest_count);
    if (count > 0) require(values, "values");
    require_known_option(key);
    options->options.set(key, std::vector<double>(values, values + count));
  });
}

int64_t lamina_catalogue_count(const char* scope) {
  int64_t count = -1;
  guard("lamina_catalogue_count", [&] {
    if (const auto* rows = scope ? catalogue(scope) : nullptr) count = static_cast<int64_t>(rows->size());
  });
  return count;
}

lamina_status lamina_catalogue_describe(const char* scope, int64_t index, lamina_catalogue_entry* out) {
  return guard("lamina_catalogue_describe", [&] {
    require(scope, "scope");
    const auto* rows = catalogue(scope);
    if (!rows)
      fail(LAMINA_E_ARGUMENT,
           "scope is \"" + std::string(scope) + "\", must be \"tasks\", \"probes\", \"theory\" or the name of a task");
    require_range("index", index, 0, static_cast<int64_t>(rows->size()) - 1);
    read_struct("out", out);
    const CatalogueRow& row = (*rows)[static_cast<size_t>(index)];
    write_struct(out, lamina_catalogue_entry{0, row.kind, row.key, row.owner, row.fallback, row.minimum, row.maximum, row.words,
                                             row.summary, row.description});
  });
}

lamina_status lamina_catalogue_entry_init(lamina_catalogue_entry* entry, uint32_t size) {
  return guard("lamina_catalogue_entry_init", [&] { init_struct("entry", entry, size); });
}
