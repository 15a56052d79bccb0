// Every task of the catalogue that needs no file, through the same calls: whatever kind it is, its shape says how its samples
// cross, its model reads them, its gradient is that of its loss, and a run that was saved goes on as if it had not been.
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "tests/capi/host.hpp"

namespace lamina::test {
namespace {

std::vector<std::string> tasks() {
  std::vector<std::string> names;
  for (int64_t i = 0; i < lamina_catalogue_count("tasks"); ++i) {
    lamina_catalogue_entry entry;
    ok(lamina_catalogue_entry_init(&entry, sizeof entry));
    ok(lamina_catalogue_describe("tasks", i, &entry));
    if (std::string(entry.key) != "text_recall") names.push_back(entry.key);
  }
  return names;
}

struct Sample {
  lamina_task_shape shape;
  std::vector<double> prompts, targets;
};

Sample draw(const lamina_task* task, int64_t count) {
  Sample sample;
  ok(lamina_task_shape_init(&sample.shape, sizeof sample.shape));
  ok(lamina_task_get_shape(task, &sample.shape));
  sample.prompts.resize(static_cast<size_t>(count * sample.shape.length * sample.shape.width), std::nan(""));
  sample.targets.resize(static_cast<size_t>(count * sample.shape.target_width), std::nan(""));
  ok(lamina_task_sample(task, LAMINA_SPLIT_TEST, 1, 0, count, sample.prompts.data(), sample.targets.data()));
  return sample;
}

TEST(Kinds, SamplesForwardAndGradient) {
  for (const std::string& name : tasks()) {
    SCOPED_TRACE(name);
    const TaskHandle task = make_task(nullptr, name.c_str());
    constexpr int64_t count = 8;
    const Sample sample = draw(task.get(), count);
    for (double number : sample.prompts) ASSERT_TRUE(std::isfinite(number));
    for (double number : sample.targets) ASSERT_TRUE(std::isfinite(number));
    const ModelHandle model = make_model(task.get(), nullptr);
    std::vector<double> parameters = parameters_of(model.get());
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i] += 0.3 * std::sin(static_cast<double>(i + 1));
    const auto loss_at = [&](const std::vector<double>& values, std::vector<double>* gradient) {
      ok(lamina_model_set_parameters(model.get(), values.data(), static_cast<int64_t>(values.size())));
      double loss = std::nan("");
      ok(lamina_model_loss_gradient(model.get(), sample.prompts.data(), sample.targets.data(), count, sample.shape.length, &loss,
                                    gradient ? gradient->data() : nullptr));
      return loss;
    };
    std::vector<double> gradient(parameters.size());
    ASSERT_TRUE(std::isfinite(loss_at(parameters, &gradient)));
    std::vector<double> outputs(static_cast<size_t>(count * sample.shape.outputs), std::nan(""));
    ok(lamina_model_forward(model.get(), sample.prompts.data(), count, sample.shape.length, LAMINA_LOGITS, outputs.data()));
    for (double number : outputs) ASSERT_TRUE(std::isfinite(number));
    double largest = 0;
    for (double g : gradient) largest = std::max(largest, std::abs(g));
    EXPECT_GT(largest, 0);
    for (size_t i = 0; i < parameters.size(); i += 1 + parameters.size() / 40) {
      std::vector<double> moved = parameters;
      if (gradient[i] == 0) continue;  // held, or not read by these prompts
      moved[i] = parameters[i] + 1e-5;
      const double up = loss_at(moved, nullptr);
      moved[i] = parameters[i] - 1e-5;
      EXPECT_NEAR((up - loss_at(moved, nullptr)) / 2e-5, gradient[i], 1e-6 * largest + 1e-9) << i;
    }
  }
}

TEST(Kinds, ASavedRunGoesOn) {
  for (const std::string& name : tasks()) {
    SCOPED_TRACE(name);
    const OptionsHandle options = make_options({{"steps", "8"}});
    const TaskHandle task = make_task(options.get(), name.c_str());
    const TrainerHandle whole = make_trainer(task.get(), options.get()), half = make_trainer(task.get(), options.get());
    ok(lamina_trainer_run(whole.get(), 0));
    ok(lamina_trainer_run(half.get(), 4));
    const std::string path = (std::filesystem::temp_directory_path() / ("lamina_kinds_" + name + "_" + std::to_string(::getpid()))).string();
    ok(lamina_trainer_save(half.get(), path.c_str()));
    lamina_trainer* read = nullptr;
    ok(lamina_trainer_load(path.c_str(), nullptr, &read));
    const TrainerHandle loaded(read);
    std::filesystem::remove(path);
    ok(lamina_trainer_run(loaded.get(), 0));
    EXPECT_TRUE(same_bits(parameters_of(whole.get()), parameters_of(loaded.get())));
    const TrajectoryHandle a = trajectory_of(whole.get()), b = trajectory_of(loaded.get());
    int64_t columns = 0;
    ok(lamina_trajectory_columns(a.get(), &columns));
    EXPECT_GT(columns, 3);
    for (int64_t c = 0; c < columns; ++c) EXPECT_TRUE(same_bits(column(a.get(), c), column(b.get(), c))) << c;
  }
}

}  // namespace
}  // namespace lamina::test
