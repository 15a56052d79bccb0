// What tasks of one kind share.
#include "task/task.hpp"

#include "base/error.hpp"

namespace lamina {

const RecallLaw& Task::law() const {
  if (const RecallLaw* law = recall()) return *law;
  fail(LAMINA_E_UNSUPPORTED, "task is " + std::string(name()) + ", must be a recall task here");
}

double Task::kept(int key, const std::function<double()>& compute) const {
  const std::lock_guard lock(kept_mutex_);
  const auto found = kept_.find(key);
  return found != kept_.end() ? found->second : kept_.emplace(key, compute()).first->second;
}

}  // namespace lamina
