// lamina.h, section task: tasks by name, from the host's arrays, from the host's callback; samples of them.
#include "capi/check.hpp"
#include "capi/guard.hpp"
#include "capi/handles.hpp"
#include "task/prompt_form.hpp"
#include "train/catalogue.hpp"

using namespace lamina;
using namespace lamina::capi;

namespace {

// Tokens are int32, and there is one more than the vocabulary.
constexpr int64_t largest_vocabulary = INT32_MAX - 1;

void require_noise(const char* name, double noise) {
  if (!(noise >= 0 && noise < 1)) fail_argument(name, noise, "in [0, 1)");
}

// The host's sampler, called with the host's floating-point state, and the task that calls it.
struct HostSampler {
  lamina_task_sampler sample;
  void* user;
  std::shared_ptr<const Task> task;

  static int32_t call(void* self, int32_t split, uint64_t seed, int64_t first, int64_t count, double* prompts,
                      double* targets) {
    const auto* sampler = static_cast<const HostSampler*>(self);
    const HostCall host;
    return sampler->sample(sampler->user, split, seed, first, count, prompts, targets);
  }
};

}  // namespace

lamina_status lamina_task_create(const char* name, const lamina_options* options, lamina_task** out) {
  return guard("lamina_task_create", [&] {
    require(name, "name");
    require(out, "out");
    require_isa();
    const TaskRow& row = find_task(name);
    const Options set = given(options);
    require_options_of(name, set);
    *out = new lamina_task(row.create(Settings(row.options, set)));
  });
}

lamina_status lamina_task_arrays_init(lamina_task_arrays* arrays, uint32_t size) {
  return guard("lamina_task_arrays_init", [&] { init_struct("arrays", arrays, size); });
}

lamina_status lamina_task_from_arrays(const lamina_task_arrays* arrays, lamina_task** out) {
  return guard("lamina_task_from_arrays", [&] {
    const lamina_task_arrays given = read_struct("arrays", arrays);
    require(out, "out");
    require_isa();
    require(given.prompts, "arrays->prompts");
    require(given.targets, "arrays->targets");
    require_range("arrays->reserved", given.reserved, 0, 0);
    require_range("arrays->count", given.count, 1, largest_count);
    require_range("arrays->length", given.length, 2, largest_count);
    require_range("arrays->vocabulary", given.vocabulary, 1, largest_vocabulary);
    require_noise("arrays->noise", given.noise);
    require_product("arrays->count", given.count, "arrays->length", given.length);
    Prompts prompts;
    prompts.count = given.count, prompts.length = given.length;
    prompts.tokens = checked_tokens("arrays->prompts", given.prompts, given.count, given.length, given.vocabulary);
    take_token_targets("arrays->targets", given.targets, given.vocabulary, prompts);
    *out = new lamina_task(task_from_prompts(std::move(prompts), given.vocabulary, given.noise));
  });
}

lamina_status lamina_task_callback_init(lamina_task_callback* callback, uint32_t size) {
  return guard("lamina_task_callback_init", [&] { init_struct("callback", callback, size); });
}

lamina_status lamina_task_from_callback(const lamina_task_callback* callback, lamina_task** out) {
  return guard("lamina_task_from_callback", [&] {
    lamina_task_callback given = read_struct("callback", callback);
    require(out, "out");
    require_isa();
    if (!given.sample) fail(LAMINA_E_ARGUMENT, "callback->sample is NULL, must be given");
    require_range("callback->reserved", given.reserved, 0, 0);
    require_range("callback->length", given.length, 2, largest_count);
    require_range("callback->vocabulary", given.vocabulary, 1, largest_vocabulary);
    require_noise("callback->noise", given.noise);
    const auto sampler = std::make_shared<HostSampler>(HostSampler{given.sample, given.user, nullptr});
    given.struct_size = sizeof given;
    given.sample = HostSampler::call;
    given.user = sampler.get();
    sampler->task = task_from_callback(given);
    *out = new lamina_task(std::shared_ptr<const Task>(sampler, sampler->task.get()));
  });
}

void lamina_task_free(lamina_task* task) {
  guard("lamina_task_free", [&] { delete task; });
}

const char* lamina_task_name(const lamina_task* task) {
  return task ? task->task->name() : nullptr;
}

lamina_status lamina_task_shape_init(lamina_task_shape* shape, uint32_t size) {
  return guard("lamina_task_shape_init", [&] { init_struct("shape", shape, size); });
}

lamina_status lamina_task_get_shape(const lamina_task* task, lamina_task_shape* out) {
  return guard("lamina_task_get_shape", [&] {
    require(task, "task");
    read_struct("out", out);
    const PromptShape shape = task->task->form()->shape();
    write_struct(out, lamina_task_shape{0, 0, shape.length, shape.width, shape.target_width, shape.vocabulary, shape.outputs});
  });
}

lamina_status lamina_task_sample(const lamina_task* task, int32_t split, uint64_t seed, int64_t first, int64_t count,
                                 double* prompts, double* targets) {
  return guard("lamina_task_sample", [&] {
    require(task, "task");
    require_range("split", split, LAMINA_SPLIT_TRAIN, LAMINA_SPLIT_UNSEEN);
    if (seed > largest_seed)
      fail(LAMINA_E_ARGUMENT, "seed is " + std::to_string(seed) + ", must be in [0, " + std::to_string(largest_seed) + "]");
    require_range("first", first, 0, largest_count);
    require_range("count", count, 0, largest_count);
    const std::shared_ptr<const Task> held = task->task;  // a host's sampler may free the handle
    const Task& law = *held;
    if (!law.has(static_cast<Split>(split)))
      fail(LAMINA_E_ARGUMENT, "split is " + std::to_string(split) + ", must be one that task " + law.name() + " has");
    const auto form = law.form();
    const PromptShape shape = form->shape();
    if (shape.length < 0)
      fail(LAMINA_E_UNSUPPORTED, std::string("task is ") + law.name() + " with infinite prompts, must have a finite length");
    const int64_t elements = require_product("count", count, "the task's length", shape.length * shape.width);
    const int64_t scored = require_product("count", count, "the task's targets", shape.target_width);
    if (count == 0) return;
    require(prompts, "prompts");
    require(targets, "targets");
    require_disjoint("prompts", prompts, elements * 8, "targets", targets, scored * 8);
    Prompts drawn;
    law.sample(static_cast<Split>(split), seed, first, count, drawn);
    form->give(drawn, prompts, targets);
  });
}

lamina_status lamina_task_token(const lamina_task* task, int64_t token, const char** out) {
  return guard("lamina_task_token", [&] {
    require(task, "task");
    require(out, "out");
    require_range("token", token, 0, task->task->form()->shape().texts - 1);
    const auto number = static_cast<int32_t>(token);
    const std::lock_guard lock(task->mutex);
    auto found = task->texts.find(number);
    if (found == task->texts.end()) found = task->texts.emplace(number, task->task->token_text(number)).first;
    *out = found->second.c_str();
  });
}
