// lamina.h, section library: versions, statuses, errors, instruction sets.
#include "capi/build_info.hpp"
#include "capi/guard.hpp"
#include "kernels/kernels.hpp"

using namespace lamina;

const char* lamina_version(void) {
  return LAMINA_VERSION;
}

int32_t lamina_abi(void) {
  return LAMINA_ABI;
}

const char* lamina_status_name(lamina_status status) {
  switch (status) {
    case LAMINA_OK:
      return "LAMINA_OK";
    case LAMINA_STOPPED:
      return "LAMINA_STOPPED";
    case LAMINA_DIVERGED:
      return "LAMINA_DIVERGED";
    case LAMINA_GRADIENT_VANISHED:
      return "LAMINA_GRADIENT_VANISHED";
    case LAMINA_TARGET_REACHED:
      return "LAMINA_TARGET_REACHED";
    case LAMINA_TIME_LIMIT:
      return "LAMINA_TIME_LIMIT";
    case LAMINA_E_ARGUMENT:
      return "LAMINA_E_ARGUMENT";
    case LAMINA_E_OPTION:
      return "LAMINA_E_OPTION";
    case LAMINA_E_MEMORY:
      return "LAMINA_E_MEMORY";
    case LAMINA_E_FILE:
      return "LAMINA_E_FILE";
    case LAMINA_E_FORMAT:
      return "LAMINA_E_FORMAT";
    case LAMINA_E_UNSUPPORTED:
      return "LAMINA_E_UNSUPPORTED";
    case LAMINA_E_STATE:
      return "LAMINA_E_STATE";
    case LAMINA_E_INTERNAL:
      return "LAMINA_E_INTERNAL";
    default:
      return "unknown status";
  }
}

const char* lamina_last_error(void) {
  return capi::last_error();
}

int32_t lamina_isa_count(void) {
  return kernels::count();
}

const char* lamina_isa_name(int32_t index) {
  if (index < 0 || index >= kernels::count()) return nullptr;
  return kernels::at(index)->name;
}

const char* lamina_build_info(void) {
  return LAMINA_BUILD_INFO;
}
