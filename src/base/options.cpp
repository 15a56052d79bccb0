// Resolving options: what the user set, checked against a table; else a task's default; else the table's.
#include "base/options.hpp"

#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>

namespace lamina {
namespace {

// Integers above this are not all doubles.
constexpr double largest_integer = 0x1p53;

// The number that all of `text` spells, whatever the locale; "inf" is one, "nan" is not.
std::optional<double> parse_number(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || std::isnan(value)) return std::nullopt;
  return value;
}

// A decimal numeral without sign: its digits from the first to the last that is not 0, and the power of ten of the last.
std::pair<std::string, int64_t> decimal(std::string_view text) {
  std::string digits;
  int64_t exponent = 0;
  const size_t e = std::min(text.find_first_of("eE"), text.size());
  if (e < text.size()) std::from_chars(text.data() + e + (text.substr(e, 2) == "e+" || text.substr(e, 2) == "E+" ? 2 : 1), text.data() + text.size(), exponent);
  bool fraction = false;
  for (const char c : text.substr(0, e)) {
    if (c == '.') fraction = true;
    else digits += c, exponent -= fraction;
  }
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  while (!digits.empty() && digits.back() == '0') digits.pop_back(), ++exponent;
  return {digits, digits.empty() ? 0 : exponent};
}

// Whether `text` spells exactly the integer `value`, which it was rounded to: 9007199254740993 is no double.
bool spells(std::string_view text, double value) {
  if (std::isinf(value)) return true;
  while (!text.empty() && (text[0] == '+' || text[0] == '-')) text.remove_prefix(1);
  return decimal(text) == decimal(std::to_string(static_cast<int64_t>(std::fabs(value))));
}

// Numbers separated by commas; the empty text is the empty array.
std::optional<std::vector<double>> parse_array(std::string_view text) {
  std::vector<double> values;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const auto value = parse_number(text.substr(0, comma));
    if (!value) return std::nullopt;
    values.push_back(*value);
    if (comma == text.npos) return values;
    text.remove_prefix(comma + 1);
    if (text.empty()) return std::nullopt;
  }
  return values;
}

bool has_word(std::string_view words, std::string_view word) {
  while (!word.empty()) {
    const size_t bar = words.find('|');
    if (words.substr(0, bar) == word) return true;
    if (bar == words.npos) break;
    words.remove_prefix(bar + 1);
  }
  return false;
}

// "0 to 1", ">= 0", or nothing for no bounds.
std::string range_text(double minimum, double maximum) {
  if (std::isinf(minimum) && std::isinf(maximum)) return "";
  if (std::isinf(maximum)) return " >= " + number_text(minimum);
  if (std::isinf(minimum)) return " <= " + number_text(maximum);
  return " in [" + number_text(minimum) + ", " + number_text(maximum) + "]";
}

std::string allowed_text(const OptionRow& row) {
  switch (row.kind) {
    case OptionKind::number:
      return "a number" + range_text(row.minimum, row.maximum);
    case OptionKind::integer:
      return "an integer" + range_text(row.minimum, row.maximum) + (std::isinf(row.maximum) ? " or inf" : "");
    case OptionKind::word: {
      std::string words = "one of ";
      for (const char* c = row.words; *c; ++c)
        if (*c == '|')
          words += ", ";
        else
          words += *c;
      return words;
    }
    case OptionKind::text:
      return "a text";
    case OptionKind::array:
      return "finite numbers, their count" + range_text(row.minimum, row.maximum);
  }
  return "";
}

std::string value_text(const OptionValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return number_text(*number);
  if (const auto* text = std::get_if<std::string>(&value)) return "\"" + *text + "\"";
  const auto& values = std::get<std::vector<double>>(value);
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i])) return "an array whose element " + std::to_string(i) + " is " + number_text(values[i]);
  return "an array of " + std::to_string(values.size());
}

bool in_range(const OptionRow& row, double value) {
  return value >= row.minimum && value <= row.maximum;
}

// The value in the row's own type, or nothing if it is not one the row takes.
std::optional<OptionValue> accept(const OptionRow& row, const OptionValue& value) {
  const auto* text = std::get_if<std::string>(&value);
  switch (row.kind) {
    case OptionKind::number:
    case OptionKind::integer: {
      std::optional<double> number;
      if (const auto* given = std::get_if<double>(&value)) number = *given;
      if (text) number = parse_number(*text);
      if (!number || !in_range(row, *number)) return std::nullopt;  // false for a NaN
      if (row.kind == OptionKind::integer && std::isfinite(*number) &&
          (std::floor(*number) != *number || std::fabs(*number) > largest_integer || (text && !spells(*text, *number))))
        return std::nullopt;
      return *number;
    }
    case OptionKind::word:
      if (text && has_word(row.words, *text)) return *text;
      return std::nullopt;
    case OptionKind::text:
      if (text) return *text;
      return std::nullopt;
    case OptionKind::array: {
      std::optional<std::vector<double>> values;
      if (const auto* given = std::get_if<std::vector<double>>(&value)) values = *given;
      if (text) values = parse_array(*text);
      if (!values || !in_range(row, static_cast<double>(values->size()))) return std::nullopt;
      for (const double x : *values)
        if (!std::isfinite(x)) return std::nullopt;
      return *values;
    }
  }
  return std::nullopt;
}

// A default is our own text: empty means no value for a number or word, the empty value for a text or array.
std::optional<OptionValue> accept_default(const OptionRow& row, const char* fallback) {
  if (*fallback == 0) {
    if (row.kind == OptionKind::text) return std::string();
    if (row.kind == OptionKind::array) return std::vector<double>();
    return std::nullopt;
  }
  auto value = accept(row, std::string(fallback));
  if (!value) fail(LAMINA_E_INTERNAL, std::string(row.key) + ": the default \"" + fallback + "\" is out of bounds");
  return value;
}

}  // namespace

Settings::Settings(std::span<const OptionRow> rows, const Options& options, std::span<const OptionDefault> defaults) {
  for (const OptionRow& row : rows) {
    const auto set = options.values().find(row.key);
    given_[row.key] = set != options.values().end();
    std::optional<OptionValue> value;
    if (given_[row.key]) {
      value = accept(row, set->second);
      if (!value)
        fail(LAMINA_E_OPTION, std::string(row.key) + " is " + value_text(set->second) + ", must be " + allowed_text(row));
    } else {
      const char* fallback = row.fallback;
      for (const OptionDefault& other : defaults)
        if (!other.other && std::string_view(other.key) == row.key) fallback = other.fallback;
      value = accept_default(row, fallback);
    }
    if (value) values_[row.key] = *std::move(value);
  }
  for (const OptionDefault& special : defaults)
    for (const OptionRow& row : rows)
      if (special.other && std::string_view(special.key) == row.key && has(special.other) && is(special.other, special.word))
        assume(row.key, *accept_default(row, special.fallback));
}

const OptionValue& Settings::at(const char* key) const {
  const auto found = values_.find(key);
  if (found != values_.end()) return found->second;
  if (given_.count(key)) fail(LAMINA_E_OPTION, std::string(key) + " is not set, must be given");
  std::string known;
  for (const auto& [name, _] : given_) known += (known.empty() ? "" : ", ") + name;
  fail(LAMINA_E_INTERNAL, std::string("option ") + key + " is not in this table, which has " + known);
}

double Settings::number(const char* key) const {
  return std::get<double>(at(key));
}

int64_t Settings::integer(const char* key) const {
  const double value = number(key);
  if (!std::isfinite(value)) fail(LAMINA_E_OPTION, std::string(key) + " is " + number_text(value) + ", must be finite here");
  return static_cast<int64_t>(value);
}

const std::string& Settings::text(const char* key) const {
  return std::get<std::string>(at(key));
}

const std::vector<double>& Settings::array(const char* key) const {
  return std::get<std::vector<double>>(at(key));
}

std::string Settings::as_text(const char* key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return "";
  if (const auto* number = std::get_if<double>(&found->second)) return number_text(*number);
  if (const auto* text = std::get_if<std::string>(&found->second)) return *text;
  std::string text;
  for (const double value : std::get<std::vector<double>>(found->second)) {
    if (!text.empty()) text += ',';
    text += number_text(value);
  }
  return text;
}

void Settings::assume(const char* key, OptionValue value) {
  if (!given(key)) values_[key] = std::move(value);
}

bool Settings::given(const char* key) const {
  const auto found = given_.find(key);
  return found != given_.end() && found->second;
}

}  // namespace lamina
