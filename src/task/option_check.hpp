// Checks of options that a table's bounds cannot state: consistency of several, and weights.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lamina {

// Throws "key is value, must be allowed" with LAMINA_E_OPTION.
[[noreturn]] void fail_option(const std::string& key, const std::string& value, const std::string& allowed);

// The probability law of `count` outcomes that the weights give up to a factor; the uniform one if there are none. Throws
// unless all weights are finite and >= 0 and their sum is positive and finite.
std::vector<double> law_from_weights(const char* key, std::span<const double> weights, int64_t count);

}  // namespace lamina
