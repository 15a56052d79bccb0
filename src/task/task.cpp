// What tasks of one kind share.
#include "task/task.hpp"

#include "base/error.hpp"

namespace lamina {

const RecallLaw& Task::law() const {
  if (const RecallLaw* law = recall()) return *law;
  fail(LAMINA_E_UNSUPPORTED, "task is " + std::string(name()) + ", must be a recall task here");
}

int64_t Task::positions() const {
  if (const FeatureLaw* law = features()) return law->length < 0 ? -1 : law->length + 1;
  return law().length;
}

}  // namespace lamina
