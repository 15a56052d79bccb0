// A safetensors file (8 bytes of header length, a JSON header, then the tensors) that holds what a run or an ensemble is: JSON, and
// named arrays of doubles. Written to a temporary file in the same folder, synced, and renamed over the old one.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/options.hpp"

namespace lamina {

using Json = nlohmann::json;
using Tensors = std::map<std::string, std::vector<double>>;

// What a run or an ensemble is.
struct Saved {
  Json content;
  Tensors tensors;
};

// format says what the file is, for readers. Throws Error.
void write_tensor_file(const std::string& path, const char* format, const Json& content, const Tensors& tensors);
// Fills tensors and returns the content. Throws Error, or where the file is not what it should be another std::exception.
Json read_tensor_file(const std::string& path, const char* format, Tensors& tensors);

Json to_json(const std::map<std::string, OptionValue>& values);
Options options_in(const Json& json);
// An integer of the content; throws std::runtime_error outside its range.
int64_t integer_in(const Json& content, const char* key, int64_t least, int64_t most);

}  // namespace lamina
