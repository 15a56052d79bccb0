// lamina.h, section model: making one, its parameters and tensors, and what it computes on the host's prompts.
#include <algorithm>

#include "capi/check.hpp"
#include "capi/guard.hpp"
#include "capi/handles.hpp"
#include "train/catalogue.hpp"

using namespace lamina;
using namespace lamina::capi;

namespace lamina::capi {

lamina_model* make_handle(std::unique_ptr<Model> model) {
  const auto threads = static_cast<int>(model->settings().integer("threads"));
  return new lamina_model{std::move(model), std::make_shared<const Team>(threads)};
}

}  // namespace lamina::capi

namespace {

std::span<const OptionDefault> defaults_of(const Task& task) {
  for (const TaskRow& row : task_registry())
    if (std::string_view(row.name) == task.name()) return row.defaults;
  return {};
}

}  // namespace

lamina_status lamina_model_create(const lamina_task* task, const lamina_options* options, lamina_model** out) {
  return guard("lamina_model_create", [&] {
    require(task, "task");
    require(out, "out");
    require_isa();
    const Task& law = *task->task;
    const Options set = given(options);
    require_options_of(law.name(), set);
    *out = make_handle(make_model(law, Settings(model_options(), set, defaults_of(law))));
  });
}

lamina_status lamina_model_copy(const lamina_model* model, lamina_model** out) {
  return guard("lamina_model_copy", [&] {
    require(model, "model");
    require(out, "out");
    *out = make_handle(model->model->clone());
  });
}

void lamina_model_free(lamina_model* model) {
  guard("lamina_model_free", [&] { delete model; });
}

const char* lamina_model_isa(const lamina_model* model) {
  return model ? model->model->isa().name : nullptr;
}

lamina_status lamina_model_parameter_count(const lamina_model* model, int64_t* out) {
  return guard("lamina_model_parameter_count", [&] {
    require(model, "model");
    require(out, "out");
    *out = static_cast<int64_t>(model->model->parameters().size());
  });
}

lamina_status lamina_model_get_parameters(const lamina_model* model, double* out, int64_t count) {
  return guard("lamina_model_get_parameters", [&] {
    require(model, "model");
    require(out, "out");
    const auto& values = model->model->parameters();
    const auto size = static_cast<int64_t>(values.size());
    require_range("count", count, size, size);
    std::copy(values.begin(), values.end(), out);
  });
}

lamina_status lamina_model_set_parameters(lamina_model* model, const double* values, int64_t count) {
  return guard("lamina_model_set_parameters", [&] {
    require(model, "model");
    require(values, "values");
    const auto size = static_cast<int64_t>(model->model->parameters().size());
    require_range("count", count, size, size);
    const std::span<const double> taken(values, static_cast<size_t>(count));
    require_finite("values", taken);
    model->model->set_parameters(taken);
  });
}

lamina_status lamina_model_tensor_count(const lamina_model* model, int64_t* out) {
  return guard("lamina_model_tensor_count", [&] {
    require(model, "model");
    require(out, "out");
    *out = static_cast<int64_t>(model->model->tensors().size());
  });
}

lamina_status lamina_tensor_init(lamina_tensor* tensor, uint32_t size) {
  return guard("lamina_tensor_init", [&] { init_struct("tensor", tensor, size); });
}

lamina_status lamina_model_tensor_describe(const lamina_model* model, int64_t index, lamina_tensor* out) {
  return guard("lamina_model_tensor_describe", [&] {
    require(model, "model");
    read_struct("out", out);
    const auto& tensors = model->model->tensors();
    require_range("index", index, 0, static_cast<int64_t>(tensors.size()) - 1);
    const TensorInfo& info = tensors[static_cast<size_t>(index)];
    lamina_tensor tensor{};
    tensor.trained = info.trained ? 1 : 0;
    tensor.name = info.name.c_str();
    tensor.rank = static_cast<int64_t>(info.shape.size());
    std::copy(info.shape.begin(), info.shape.end(), tensor.shape);
    tensor.offset = info.offset;
    tensor.count = info.count;
    write_struct(out, tensor);
  });
}

lamina_status lamina_model_forward(const lamina_model* model, const double* prompts, int64_t count, int64_t length,
                                   int32_t part, double* logits) {
  return guard("lamina_model_forward", [&] {
    require(model, "model");
    require_range("count", count, 0, largest_count);
    require_range("length", length, 2, largest_count);
    require_range("part", part, LAMINA_LOGITS, LAMINA_LOGITS_FEED_FORWARD);
    const int64_t elements = require_product("count", count, "length", length * model->model->form().shape().width);
    const int64_t columns = model->model->form().shape().outputs;
    const int64_t results = require_product("count", count, "the number of logits", columns);
    if (count == 0) return;
    require(prompts, "prompts");
    require(logits, "logits");
    require_disjoint("logits", logits, results * 8, "prompts", prompts, elements * 8);
    const Prompts taken = model->model->form().take(prompts, count, length);
    std::vector<double> result(static_cast<size_t>(results));
    model->model->forward(taken, static_cast<LogitPart>(part), result.data(), nullptr);
    std::copy(result.begin(), result.end(), logits);
  });
}

lamina_status lamina_model_attention(const lamina_model* model, const double* prompts, int64_t count, int64_t length,
                                     double* weights) {
  return guard("lamina_model_attention", [&] {
    require(model, "model");
    require_range("count", count, 0, largest_count);
    require_range("length", length, 2, largest_count);
    const int64_t elements = require_product("count", count, "length", length);
    if (count == 0) return;
    require(prompts, "prompts");
    require(weights, "weights");
    require_disjoint("weights", weights, elements * 8, "prompts", prompts, elements * 8);
    const Prompts taken = model->model->form().take(prompts, count, length);
    std::vector<double> result(static_cast<size_t>(elements));
    model->model->forward(taken, LogitPart::all, nullptr, result.data());
    std::fill_n(weights, elements, 0.0);  // labels have none
    const int64_t stride = (length + 1) / taken.length;  // numbers a position; the last may lack its label
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < taken.length; ++j) weights[i * length + j * stride] = result[i * taken.length + j];
  });
}

lamina_status lamina_model_loss_gradient(const lamina_model* model, const double* prompts, const double* targets, int64_t count,
                                         int64_t length, double* loss, double* gradient) {
  return guard("lamina_model_loss_gradient", [&] {
    require(model, "model");
    require(prompts, "prompts");
    require(targets, "targets");
    require(loss, "loss");
    require_range("count", count, 1, largest_count);
    require_range("length", length, 2, largest_count);
    const PromptForm& form = model->model->form();
    const int64_t prompt_bytes = require_product("count", count, "length", length * form.shape().width) * 8;
    const int64_t target_bytes = require_product("count", count, "the number of targets", form.shape().target_width) * 8;
    const auto size = static_cast<int64_t>(model->model->parameters().size());
    require_disjoint("loss", loss, 8, "prompts", prompts, prompt_bytes);
    require_disjoint("loss", loss, 8, "targets", targets, target_bytes);
    require_disjoint("gradient", gradient, size * 8, "prompts", prompts, prompt_bytes);
    require_disjoint("gradient", gradient, size * 8, "targets", targets, target_bytes);
    require_disjoint("gradient", gradient, size * 8, "loss", loss, 8);
    Prompts taken = form.take(prompts, count, length);
    form.take_targets(targets, taken);
    const auto compiled = model->model->compile(taken, {}, *model->team);
    std::vector<double> slope(gradient ? static_cast<size_t>(size) : 0);
    const Loss value = model->model->loss_and_gradient(*compiled, *model->team, gradient ? slope.data() : nullptr, false);
    *loss = value.loss;
    std::copy(slope.begin(), slope.end(), gradient);
  });
}
