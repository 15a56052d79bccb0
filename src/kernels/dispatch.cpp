// Which instruction set runs: enumerated, forceable, never guessed. Compiled for the plainest CPU.
#include <cstdlib>
#include <cstring>

#include "kernels/instruction_sets.hpp"
#include "kernels/own_set.hpp"

namespace lamina::kernels {
namespace {

constexpr int32_t built = sizeof(instruction_sets) / sizeof(instruction_sets[0]);

struct Available {
  int32_t count = 0;
  const InstructionSet* set[built] = {};
};

Available find_available() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();  // the first caller may run before the constructors of the compiler's library
#endif
  Available found;
  for (const InstructionSet& set : instruction_sets)
    if (set.supported()) found.set[found.count++] = &set;
  return found;
}

const Available& available() {
  static const Available found = find_available();
  return found;
}

// LAMINA_ISA as it was at the first use; a copy, because the host may change its environment. A name too long for any set is
// cut, and so stays unknown.
struct Forced {
  char name[32] = {};
};
Forced read_forced() {
  Forced forced;
  if (const char* value = std::getenv("LAMINA_ISA")) std::strncpy(forced.name, value, sizeof forced.name - 1);
  return forced;
}

const char* forced_name() {
  static const Forced forced = read_forced();
  return forced.name;
}

}  // namespace

int32_t count() {
  return available().count;
}

const InstructionSet* at(int32_t index) {
  return index >= 0 && index < count() ? available().set[index] : nullptr;
}

const InstructionSet* select(const char* name) {
  if (!name || !*name) name = forced_name();
  if (!*name) return at(0);
  for (int32_t i = 0; i < count(); ++i)
    if (std::strcmp(at(i)->name, name) == 0) return at(i);
  return nullptr;
}

const InstructionSet& own_set() {
  static const InstructionSet& set = select(nullptr) ? *select(nullptr) : *at(count() - 1);
  return set;
}

const Drawing& drawing(int32_t index) {
  return *drawing_of_set[at(index) - instruction_sets];
}

const Drawing& drawing() {
  static const Drawing& own = *drawing_of_set[&own_set() - instruction_sets];
  return own;
}

}  // namespace lamina::kernels
