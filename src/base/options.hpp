// Options: what a user set (Options), what an object accepts (OptionRow), and the two resolved (Settings).
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/error.hpp"

namespace lamina {

enum class OptionKind : int32_t {
  number = LAMINA_KIND_NUMBER,
  integer = LAMINA_KIND_INTEGER,
  word = LAMINA_KIND_WORD,
  text = LAMINA_KIND_TEXT,
  array = LAMINA_KIND_ARRAY
};

// One row of a table of options. Every string is a literal.
struct OptionRow {
  const char* key;
  OptionKind kind;
  const char* fallback;     // the default as text, "" if none
  double minimum, maximum;  // inclusive; of the length for an array
  const char* words;        // "a|b|c" for a word
  const char* summary;      // one sentence
};

using OptionValue = std::variant<double, std::string, std::vector<double>>;

// What the user set: keys and values, not yet checked against bounds.
class Options {
 public:
  void set(const std::string& key, OptionValue value) { values_[key] = std::move(value); }
  const std::map<std::string, OptionValue>& values() const { return values_; }

 private:
  std::map<std::string, OptionValue> values_;
};

// A default that one task gives to an option of the model or the trainer; with `other`, of the same table, only where that is `word`.
struct OptionDefault {
  const char* key;
  const char* fallback;
  const char* other = nullptr;
  const char* word = nullptr;
};

// Every row of one table with the value that holds: the user's if set (checked), else the task's default, else the row's.
class Settings {
 public:
  Settings() = default;
  Settings(std::span<const OptionRow> rows, const Options& options, std::span<const OptionDefault> defaults = {});

  double number(const char* key) const;            // number and integer rows
  int64_t integer(const char* key) const;          // integer rows
  const std::string& text(const char* key) const;  // word and text rows
  const std::vector<double>& array(const char* key) const;
  bool is(const char* key, const char* word) const { return text(key) == word; }
  bool given(const char* key) const;  // set by the user
  bool has(const char* key) const { return given_.count(key) > 0; }
  std::string as_text(const char* key) const;  // as Options would take it; "" where there is no value
  // Another default, for one that depends on other options; what the user set stays.
  void assume(const char* key, OptionValue value);
  const std::map<std::string, OptionValue>& values() const { return values_; }

 private:
  const OptionValue& at(const char* key) const;
  std::map<std::string, OptionValue> values_;
  std::map<std::string, bool> given_;
};

}  // namespace lamina
