// The catalogue, gathered once from the registries. It is never destroyed: its strings are handed to hosts, which may read them
// while the process ends.
#include "train/catalogue.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <string_view>
#include <utility>

#include "model/model.hpp"
#include "optimiser/optimiser.hpp"
#include "probe/probe.hpp"
#include "task/task.hpp"
#include "theory/theory.hpp"
#include "train/trainer.hpp"

namespace lamina {
namespace {

using Rows = std::vector<CatalogueRow>;

struct Catalogue {
  std::map<std::string, Rows, std::less<>> scopes;
  std::array<std::string, 1 << task_kinds> task_names;  // "a|b|c" by kinds, also of the host's own tasks
};

// A key that two tables have belongs to the one that comes first.
void append_options(Rows& rows, const char* owner, std::span<const OptionRow> options,
                    std::span<const OptionDefault> defaults) {
  for (const OptionRow& option : options) {
    bool known = false;
    for (const CatalogueRow& row : rows) known = known || std::string_view(row.key) == option.key;
    if (known) continue;
    const char* fallback = option.fallback;
    for (const OptionDefault& other : defaults)
      if (!other.other && std::string_view(other.key) == option.key) fallback = other.fallback;
    rows.push_back({static_cast<int32_t>(option.kind), option.key, owner, fallback, option.minimum, option.maximum,
                    option.words, option.summary, ""});
  }
}

Rows options_of_run(std::span<const OptionRow> task_options, std::span<const OptionDefault> defaults,
                    std::span<const char* const> without) {
  Rows rows;
  append_options(rows, "task", task_options, {});
  append_options(rows, "model", model_options(), defaults);
  append_options(rows, "trainer", trainer_options(), defaults);
  append_options(rows, "trainer", optimiser_options(), defaults);
  std::erase_if(rows, [&](const CatalogueRow& row) {
    return std::ranges::any_of(without, [&](std::string_view key) { return key == row.key; });
  });
  return rows;
}

Catalogue* gather() {
  auto result = std::make_unique<Catalogue>();
  Rows &tasks = result->scopes["tasks"], &probes = result->scopes["probes"], &forms = result->scopes["theory"];
  for (const TaskRow& task : task_registry()) {
    tasks.push_back({LAMINA_KIND_NAME, task.name, "", "", 0, 0, "", task.summary, task.description});
    result->scopes[task.name] = options_of_run(task.options, task.defaults, task.without);
  }
  for (const char* host_task : {"arrays", "callback"}) result->scopes[host_task] = options_of_run({}, {}, without_stages);
  // A probe is one of every task of its kinds; whether it applies is a matter of the model.
  for (unsigned kinds = 1; kinds < result->task_names.size(); ++kinds) {
    std::string& names = result->task_names[kinds];
    for (const TaskRow& task : task_registry())
      if (kinds & task.kind) names += std::string(names.empty() ? "" : "|") + task.name;
    if (kinds & recall_task) names += "|arrays|callback";
  }
  for (const ProbeRow& probe : probe_registry())
    probes.push_back({LAMINA_KIND_NAME, probe.name, result->task_names[probe.kinds].c_str(), "", 0, 0, "", probe.summary, ""});
  for (const TheoryRow& form : theory_registry())
    forms.push_back({LAMINA_KIND_NAME, form.name, form.kinds ? "task" : "", form.example, static_cast<double>(form.arguments),
                     static_cast<double>(form.results), result->task_names[form.kinds].c_str(), form.summary, form.signature});
  return result.release();
}

const Catalogue& everything() {
  static const Catalogue* const instance = gather();
  return *instance;
}

bool has_key(const Rows& rows, const std::string& key) {
  for (const CatalogueRow& row : rows)
    if (row.key == key) return true;
  return false;
}

// Levenshtein's: the least number of letters put in, left out or exchanged that makes b of a.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t exchanged = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({exchanged, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

// The nearest to what was written come first: those it is a part of, then by distance.
std::string keys_text(Rows rows, std::string_view written) {
  std::ranges::stable_sort(rows, {}, [&](const CatalogueRow& row) {
    return std::pair(std::string_view(row.key).find(written) == std::string_view::npos, edit_distance(written, row.key));
  });
  std::string text;
  for (const CatalogueRow& row : rows) text += (text.empty() ? "" : ", ") + std::string(row.key);
  return text;
}

// The rows of all tasks' scopes, each key once.
Rows all_options() {
  Rows all;
  for (const auto& [scope, rows] : everything().scopes) {
    if (scope == "tasks" || scope == "probes" || scope == "theory") continue;
    for (const CatalogueRow& row : rows)
      if (!has_key(all, row.key)) all.push_back(row);
  }
  return all;
}

}  // namespace

const std::vector<CatalogueRow>* catalogue(const std::string& scope) {
  const auto found = everything().scopes.find(scope);
  return found == everything().scopes.end() ? nullptr : &found->second;
}

void require_known_option(const std::string& key) {
  static const Rows* const all = new Rows(all_options());
  if (!has_key(*all, key)) fail(LAMINA_E_OPTION, "\"" + key + "\" is not an option, must be one of " + keys_text(*all, key));
}

const CatalogueRow& option_of(const std::string& task, const std::string& key) {
  const Rows* rows = catalogue(task);
  if (!rows) fail(LAMINA_E_INTERNAL, "task " + task + " is not in the catalogue");
  for (const CatalogueRow& row : *rows)
    if (row.key == key) return row;
  fail(LAMINA_E_OPTION, "\"" + key + "\" is not an option of task " + task + ", must be one of " + keys_text(*rows, key));
}

void require_options_of(const std::string& task, const Options& options) {
  for (const auto& [key, value] : options.values()) option_of(task, key);
}

}  // namespace lamina
