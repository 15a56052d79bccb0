// Running out of memory for an array of known size, said by name.
#pragma once
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>

#include "base/error.hpp"

namespace lamina {

// make(), which allocates `bytes` for `what`; where they are not to be had, an error that says both.
template <class Make>
decltype(auto) allocate(const char* what, double bytes, Make&& make) {
  try {
    return make();
  } catch (const std::bad_alloc&) {
  } catch (const std::length_error&) {  // more than a vector can ever hold
  }
  fail(LAMINA_E_MEMORY, std::string(what) + ": " + std::to_string(static_cast<uint64_t>(bytes)) + " bytes could not be allocated");
}

}  // namespace lamina
