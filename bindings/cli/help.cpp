// Printing the catalogue.
#include "help.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "gallery/figure.hpp"

namespace cli {
namespace {

constexpr size_t page = 100;  // columns

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
}

// `text` in lines of at most `page` columns, each after `indent` blanks; the first continues a line of `used` columns.
std::string wrapped(const std::string& text, size_t indent, size_t used) {
  std::string out;
  size_t column = used;
  if (used < indent) out.append(indent - used, ' '), column = indent;
  bool fresh = true;  // no word on this line yet
  for (const std::string& word : split(text, ' ')) {
    if (word.empty()) continue;
    if (!fresh && column + 1 + word.size() > page) out.append("\n").append(indent, ' '), column = indent, fresh = true;
    if (!fresh) out += ' ', ++column;
    out += word, column += word.size(), fresh = false;
  }
  return out + "\n";
}

std::string paragraph(const std::string& text, size_t indent) {
  return wrapped(text, indent, 0);
}

std::string sentence(const std::string& text) {
  return text.empty() || text.back() == '.' ? text : text + ".";
}

void print_names(const char* title, const std::vector<Entry>& entries) {
  size_t width = 0;
  for (const Entry& entry : entries) width = std::max(width, entry.key.size());
  print(std::string(title) + "\n");
  for (const Entry& entry : entries)
    print("  " + entry.key + wrapped(sentence(entry.summary), width + 4, entry.key.size() + 2));
}

std::string bound(double value) {
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (value == std::nextafter(1.0, 0.0)) return "below 1";
  if (std::fabs(value) < 1e6 || value != std::floor(value)) return format_number(value, 6);
  const int exponent = std::ilogb(value);
  if (value == std::ldexp(1.0, exponent)) return "2^" + std::to_string(exponent);
  return format_number(value, 6);
}

std::string allowed(const Entry& option) {
  const std::string range = bound(option.minimum) + " to " + bound(option.maximum);
  switch (option.kind) {
    case LAMINA_KIND_NUMBER:
      return "number, " + range;
    case LAMINA_KIND_INTEGER:
      return "integer, " + range;
    case LAMINA_KIND_ARRAY:
      return "numbers separated by commas";
    case LAMINA_KIND_TEXT:
      return "text";
    default: {
      std::string words;
      for (const std::string& word : split(option.words, '|')) words += (words.empty() ? "" : " | ") + word;
      return words;
    }
  }
}

// A number with more digits than a person wants, such as the largest double below 1, is shown shorter.
std::string fallback(const Entry& option) {
  if (option.fallback.empty())
    return option.kind == LAMINA_KIND_ARRAY || option.kind == LAMINA_KIND_TEXT ? "(empty)" : "(none)";
  return option.fallback;
}

void print_options(const std::vector<Entry>& options) {
  for (const char* owner : {"task", "model", "trainer"}) {
    print("\nOptions of the " + std::string(owner) + "\n");
    for (const Entry& option : options) {
      if (option.owner != owner) continue;
      std::string head = "  " + option.key + " = " + fallback(option);
      head.append(head.size() < 40 ? 40 - head.size() : 2, ' ');
      print(head + wrapped(std::string("(").append(allowed(option)).append(")"), 42, head.size()));
      print(paragraph(sentence(option.summary), 6));
    }
  }
}

// The trajectory's columns for one probe ("" for those that every run has), from a minimal trainer of the task to which it applies, of
// the default options if it can be; empty if none is found.
std::vector<Table::Column> columns_of(const std::string& probe, const std::string& task_name) {
  const std::vector<Entry> known = catalogue(task_name);
  const std::vector<Setting> variants{{"", ""},
                                      {"variant", "full"},
                                      {"variant", "original"},
                                      {"variant", "w_free"},
                                      {"train_value_scale", "yes"},
                                      {"variant", "reduced"},
                                      {"variant", "catformer"},
                                      {"optimiser", "flow"}};
  constexpr const char *samples[] = {"samples", "1"}, *evaluation[] = {"evaluation_samples", "1"}, *probes[] = {"probes", "none"},
                       *threads[] = {"threads", "1"};
  for (const Setting& variant : variants) {
    if (!variant.key.empty() && !find(known, variant.key)) continue;
    try {
      std::vector<Setting> settings;
      for (const char* const* small : {samples, evaluation, probes, threads})
        if (find(known, small[0])) settings.push_back({small[0], small[1]});
      if (!variant.key.empty()) settings.push_back(variant);
      const Options options = make_options(task_name, settings);
      const Task task = make<Task>(lamina_task_create, task_name.c_str(), options.get());
      const Trainer trainer =
          make<Trainer>(lamina_trainer_create, task.get(), static_cast<const lamina_model*>(nullptr), options.get());
      Table table = read_table(trainer.get());
      if (probe.empty()) return table.columns;
      const auto common = static_cast<std::ptrdiff_t>(table.columns.size());
      check(lamina_trainer_watch(trainer.get(), probe.c_str()));
      table = read_table(trainer.get());
      return {table.columns.begin() + common, table.columns.end()};
    } catch (const Failure&) {
      // This probe does not apply to this variant, or the task needs an option (a file) that is not known here.
    }
  }
  return {};
}

void print_columns(std::vector<Table::Column> columns, size_t indent) {
  // A numbered family such as lambda_0, lambda_1, ... is shown by its first and last member.
  const auto stem = [&](size_t c) { return columns[c].name.substr(0, columns[c].name.size() - 1); };
  if (columns.size() > 2 && columns[0].name.back() == '0' && columns[1].name.back() == '1' && stem(0) == stem(1)) {
    columns[0].name += " .. " + columns.back().name;
    columns.resize(1);
  }
  size_t width = 0;
  for (const auto& column : columns) width = std::max(width, column.name.size());
  for (const auto& column : columns) {
    const std::string head = std::string(indent, ' ') + column.name;
    print(head + wrapped(column.definition, indent + width + 2, head.size()));
  }
}

std::vector<Table::Column> columns_of_first(const std::string& probe, const std::vector<std::string>& tasks) {
  for (const std::string& task : tasks) {
    const auto columns = columns_of(probe, task);
    if (!columns.empty()) return columns;
  }
  return {};
}

// The task, then those with the same probes: the columns of one that needs a file are theirs.
std::vector<std::string> alike(const std::string& task) {
  const std::vector<Entry> probes = catalogue("probes");
  const auto has = [](const Entry& probe, const std::string& name) {
    const std::vector<std::string> owners = split(probe.owner, '|');
    return std::find(owners.begin(), owners.end(), name) != owners.end();
  };
  std::vector<std::string> names{task};
  for (const Entry& other : catalogue("tasks")) {
    const auto same = [&](const Entry& probe) { return has(probe, task) == has(probe, other.key); };
    if (other.key != task && std::all_of(probes.begin(), probes.end(), same)) names.push_back(other.key);
  }
  return names;
}

void describe_probe(const Entry& probe, const std::vector<std::string>& tasks, size_t indent) {
  print(std::string(indent, ' ') + probe.key + ": " + wrapped(probe.summary, indent + 2, indent + probe.key.size() + 2));
  print_columns(columns_of_first(probe.key, tasks), indent + 4);
}

void describe_task(const Entry& task) {
  print(task.key + ": " + wrapped(sentence(task.summary), 2, task.key.size() + 2));
  print("\nSource, and what is reconstruction\n" + paragraph(task.description, 2));
  print_options(catalogue(task.key));
  print("\nColumns of every trajectory\n");
  const std::vector<std::string> tasks = alike(task.key);
  print_columns(columns_of_first("", tasks), 2);
  print("\nProbes, each adding columns where it applies (option probes)\n");
  for (const Entry& probe : catalogue("probes")) {
    const std::vector<std::string> owners = split(probe.owner, '|');
    if (std::find(owners.begin(), owners.end(), task.key) != owners.end()) describe_probe(probe, tasks, 2);
  }
  print("\nExample: lamina run " + task.key + (task.key == "text_recall" ? " file=README.md" : "") +
        " steps=100 --csv run.csv --svg run.svg\n");
}

constexpr const char* default_task = "in_context_recall";

std::vector<std::string> result_names(const Entry& form, size_t count) {
  const size_t arrow = form.description.find("-> ");
  std::vector<std::string> names;
  if (arrow != std::string::npos)
    for (std::string name : split(form.description.substr(arrow + 3), ','))
      names.push_back(name.substr(name.find_first_not_of(' ')));
  names.resize(count, "result");
  return names;
}

void describe_form(const Entry& form) {
  print(form.key + ": " + wrapped(sentence(form.summary), 2, form.key.size() + 2));
  print("  " + form.description + "\n");
  print(form.owner == "task" ? "  Reads the options of a task, given as key=value.\n" : "  Reads no task.\n");
  std::string example = "lamina theory " + form.key;
  const std::string reads = split(form.words + "|", '|')[0];
  if (!reads.empty() && reads != default_task) example += " --task " + reads;
  if (reads == default_task) example += " noise=0.2";
  const bool of_samples = form.description.rfind("M ", 0) == 0, of_features = form.description.rfind("Q ", 0) == 0;
  if (!form.fallback.empty()) example += " " + form.fallback;
  else if (form.minimum < 0) example += of_features ? " features=2 --arguments 1,-1,-1,1" : " dimension=1 --arguments 2,1";
  else if (form.minimum > 0) example += std::string(" --arguments ") + (of_samples ? "2048" : "0.5");
  for (int i = 1; i < static_cast<int>(form.minimum) && form.fallback.empty(); ++i) example += ",1";
  print("\nExample: " + example + "\n");
}

std::vector<double> parse_arguments(const std::string& text) {
  std::vector<double> values;
  for (const std::string& part : split(text, ',')) {
    double value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc{} || end != part.data() + part.size())
      throw Failure(usage, "\"" + part + "\" in --arguments is not a number");
    values.push_back(value);
  }
  return values;
}

void describe_figure(const Entry& figure) {
  print(figure.key + ": " + wrapped(sentence(figure.summary), 2, figure.key.size() + 2));
  print("\nSource, and what is derived or chosen\n" + paragraph(figure.description, 2));
  print("\nRuns of " + figure.owner + " with these settings, which key=value replaces; a list names several runs\n");
  for (const std::string& setting : split(figure.fallback, ' ')) print("  " + setting + "\n");
  print("\nExample: lamina figure " + figure.key + " --svg " + figure.key + ".svg --csv " + figure.key + ".csv\n");
}

}  // namespace

Exit list() {
  print_names("Tasks (lamina run NAME, lamina describe NAME)", catalogue("tasks"));
  print_names("\nProbes (option probes of a run)", catalogue("probes"));
  print_names("\nClosed forms (lamina theory NAME)", catalogue("theory"));
  print_names("\nFigures (lamina figure NAME)", figure_entries());
  return success;
}

Exit describe_name(const std::string& name) {
  std::vector<Entry> all;
  for (const char* scope : {"tasks", "probes", "theory"}) {
    const std::vector<Entry> entries = catalogue(scope);
    all.insert(all.end(), entries.begin(), entries.end());
    const Entry* entry = find(entries, name);
    if (!entry) continue;
    if (scope == std::string("tasks"))
      describe_task(*entry);
    else if (scope == std::string("probes"))
      describe_probe(*entry, split(entry->owner, '|'), 0);
    else
      describe_form(*entry);
    return success;
  }
  const std::vector<Entry> figures = figure_entries();
  if (const Entry* figure = find(figures, name)) {
    describe_figure(*figure);
    return success;
  }
  all.insert(all.end(), figures.begin(), figures.end());
  throw Failure(usage, "\"" + name + "\" is not a task, probe, closed form or figure: lamina list shows all" + suggestion(name, all));
}

Exit evaluate_theory(const std::string& name, const std::string& task_name, const std::vector<std::string>& settings,
                     const std::string& arguments) {
  const std::vector<Entry> forms = catalogue("theory");
  const Entry* form = find(forms, name);
  if (!form) throw Failure(usage, "\"" + name + "\" is not a closed form: lamina list shows all" + suggestion(name, forms));
  Task task;
  if (form->owner == "task") {
    require_task(task_name);
    const Options options = make_options(task_name, parse_settings(settings));
    task = make<Task>(lamina_task_create, task_name.c_str(), options.get());
  } else if (!settings.empty()) {
    throw Failure(usage, "\"" + settings[0] + "\" is not used: " + name + " reads no task");
  }
  const std::vector<double> values = parse_arguments(arguments);
  std::vector<double> results(form->maximum < 0 ? values.size() : static_cast<size_t>(form->maximum));
  const Failure mismatch(usage,
                         name + " takes " + form->description + ": " + std::to_string(values.size()) + " arguments were given");
  if (form->minimum >= 0 && static_cast<double>(values.size()) != form->minimum) throw mismatch;
  check(lamina_theory_evaluate(name.c_str(), task.get(), values.data(), static_cast<int64_t>(values.size()), results.data(),
                               static_cast<int64_t>(results.size())));
  const std::vector<std::string> names = result_names(*form, results.size());
  for (size_t i = 0; i < results.size(); ++i) print(names[i] + " = " + format_number(results[i], 17) + "\n");
  return success;
}

}  // namespace cli
