// Table, CSV and JSON of a run.
#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN and no infinity: null, "inf", "-inf".
Json number(double value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (value == std::floor(value) && std::fabs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

Json option_value(const Entry& entry, const std::string& value) {
  if (entry.kind == LAMINA_KIND_ARRAY) {
    Json array = Json::array();
    for (const std::string& part : split(value, ',')) array.push_back(number(std::strtod(part.c_str(), nullptr)));
    return array;
  }
  const bool numeric = entry.kind == LAMINA_KIND_NUMBER || entry.kind == LAMINA_KIND_INTEGER;
  if (numeric) return value.empty() ? Json(nullptr) : number(std::strtod(value.c_str(), nullptr));
  return value;
}

// Small tensors whole, of all of them the extremes and the norm.
Json tensor_summary(const Tensor& tensor) {
  constexpr size_t small = 64;
  Json json{{"name", tensor.name}, {"shape", tensor.shape}, {"trained", tensor.trained}};
  double squares = 0;
  for (double x : tensor.values) squares += x * x;
  if (!tensor.values.empty()) {
    const auto [least, most] = std::minmax_element(tensor.values.begin(), tensor.values.end());
    json["minimum"] = number(*least), json["maximum"] = number(*most);
  }
  json["norm"] = number(std::sqrt(squares));
  if (tensor.values.size() <= small) {
    json["values"] = Json::array();
    for (double x : tensor.values) json["values"].push_back(number(x));
  }
  return json;
}

// Rows of the printed table: the first, the last, and about nine evenly between them.
std::vector<size_t> shown_rows(size_t rows) {
  constexpr size_t gaps = 10;
  std::vector<size_t> shown;
  for (size_t i = 0; i <= gaps && rows > 0; ++i) {
    const size_t row = (i * (rows - 1) + gaps / 2) / gaps;
    if (shown.empty() || row != shown.back()) shown.push_back(row);
  }
  return shown;
}

std::string cell(const char* format, double value) {
  if (std::isnan(value)) return "-";
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  if (std::strlen(text) > 12) std::snprintf(text, sizeof text, "%.4e", value);
  return text;
}

std::string right(const std::string& text, size_t width) {
  return text.size() >= width ? text : std::string(width - text.size(), ' ') + text;
}

}  // namespace

const char* Outcome::word() const {
  switch (status) {
    case LAMINA_OK:
      return "finished";
    case LAMINA_STOPPED:
      return "stopped";
    case LAMINA_DIVERGED:
      return "diverged";
    case LAMINA_TARGET_REACHED:
      return "target_reached";
    case LAMINA_TIME_LIMIT:
      return "time_limit";
    default:
      return "gradient_vanished";
  }
}

std::string printed_table(const Table& table) {
  struct Printed {
    const char* name;
    const char* format;
    size_t width;
  };
  constexpr Printed all[] = {{"step", "%.0f", 9}, {"loss", "%.6f", 13}, {"excess", "%.4e", 13}, {"predicted", "%.4e", 13}};
  std::string text;
  for (const Printed& column : all)
    if (table.column(column.name)) text += right(column.name, column.width);
  text += "\n";
  for (size_t row : shown_rows(table.rows())) {
    for (const Printed& column : all)
      if (const auto* values = table.column(column.name)) text += right(cell(column.format, (*values)[row]), column.width);
    text += "\n";
  }
  return text;
}

std::string summary(const Outcome& outcome, const Description& run) {
  std::string text = std::to_string(outcome.step) + " steps";
  if (outcome.updates != outcome.step) text += " (" + std::to_string(outcome.updates) + " of them now)";
  text += " in " + format_number(outcome.seconds, 3) + " s";
  if (outcome.updates > 0) {
    const double rate = outcome.steps_per_second();
    text += " (" + (rate < 1000 ? format_number(rate, 3) : std::to_string(std::lround(rate))) + " steps/s)";
  }
  text += ", " + run.isa + ", " + std::to_string(run.threads()) + (run.threads() == 1 ? " thread: " : " threads: ");
  if (outcome.status == LAMINA_GRADIENT_VANISHED) return text + "ended early, the gradient has vanished (below 1e-30)";
  if (outcome.status == LAMINA_DIVERGED) return text + "diverged, the loss or the gradient is no longer finite";
  if (outcome.status == LAMINA_TARGET_REACHED) return text + "target reached";
  if (outcome.status == LAMINA_TIME_LIMIT) return text + "ended by time_limit, not finished";
  return text + outcome.word();
}

std::string printed_crossings(const std::vector<Crossing>& crossings) {
  std::string text;
  for (const Crossing& c : crossings) {
    text += c.signal + " = " + format_number(c.value, 6) + ": ";
    if (c.step < 0) text += "not reached\n";
    else {
      text += "step " + std::to_string(c.step) + " (" + (c.step > 0 ? format_number(c.before, 6) + " before, " : "") + format_number(c.after, 6);
      text += (c.time != static_cast<double>(c.step) ? ", reached at " + format_number(c.time, 12) : "") + ")\n";
    }
  }
  return text.empty() ? text : "\n" + text;
}

std::string csv(const Table& table) {
  std::string text;
  for (const Table::Column& column : table.columns) text.append(column.name).append(",");
  text.back() = '\n';
  for (size_t row = 0; row < table.rows(); ++row) {
    for (const Table::Column& column : table.columns) text.append(format_number(column.values[row], 17)).append(",");
    text.back() = '\n';
  }
  return text;
}

std::string json(const Table& table, const std::vector<Crossing>& crossings, const Outcome& outcome, const Description& run,
                 const std::vector<std::string>& files) {
  Json document{{"task", run.task},
                {"status", outcome.word()},
                {"status_code", outcome.status},
                {"steps", outcome.step},
                {"seconds", number(outcome.seconds)},
                {"steps_per_second", number(outcome.steps_per_second())},
                {"final", Json::object()},
                {"crossings", Json::array()},
                {"options", Json::object()},
                {"parameters", Json::array()},
                {"isa", run.isa},
                {"threads", run.threads()},
                {"version", lamina_version()},
                {"build", lamina_build_info()},
                {"rows", table.rows()},
                {"columns", Json::object()},
                {"files", files}};
  for (const Table::Column& column : table.columns) {
    if (!column.values.empty()) document["final"][column.name] = number(column.values.back());
    document["columns"][column.name] = column.definition;
  }
  for (const Crossing& c : crossings)
    document["crossings"].push_back({{"signal", c.signal}, {"value", c.value}, {"step", c.step < 0 ? Json(nullptr) : Json(c.step)},
                                     {"time", number(c.time)}, {"before", number(c.before)}, {"after", number(c.after)}});
  for (size_t i = 0; i < run.entries.size(); ++i)
    document["options"][run.entries[i].key] = option_value(run.entries[i], run.values[i]);
  for (const Tensor& tensor : run.tensors) document["parameters"].push_back(tensor_summary(tensor));
  // A path or a text of the user may hold bytes that are no UTF-8.
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace cli
