// What tasks of one kind share.
#include "task/task.hpp"

#include "base/error.hpp"

namespace lamina {

const RecallLaw& Task::law() const {
  if (const RecallLaw* law = recall()) return *law;
  fail(LAMINA_E_UNSUPPORTED, "task is " + std::string(name()) + ", must be a recall task here");
}

}  // namespace lamina
