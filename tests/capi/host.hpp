// What the tests of the C interface share: handles that free themselves, and small runs.
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lamina/lamina.h"

namespace lamina::test {

template <auto free>
struct Free {
  template <class T>
  void operator()(T* handle) const {
    free(handle);
  }
};
using OptionsHandle = std::unique_ptr<lamina_options, Free<lamina_options_free>>;
using TaskHandle = std::unique_ptr<lamina_task, Free<lamina_task_free>>;
using ModelHandle = std::unique_ptr<lamina_model, Free<lamina_model_free>>;
using TrainerHandle = std::unique_ptr<lamina_trainer, Free<lamina_trainer_free>>;
using TrajectoryHandle = std::unique_ptr<lamina_trajectory, Free<lamina_trajectory_free>>;

inline void ok(lamina_status status) {
  ASSERT_EQ(status, LAMINA_OK) << lamina_last_error();
}

// Options given as text, as a command line would.
inline OptionsHandle make_options(const std::map<std::string, std::string>& values) {
  lamina_options* options = nullptr;
  ok(lamina_options_create(&options));
  for (const auto& [key, value] : values) ok(lamina_options_set_text(options, key.c_str(), value.c_str()));
  return OptionsHandle(options);
}

inline TaskHandle make_task(const lamina_options* options, const char* name = "in_context_recall") {
  lamina_task* task = nullptr;
  ok(lamina_task_create(name, options, &task));
  return TaskHandle(task);
}

inline ModelHandle make_model(const lamina_task* task, const lamina_options* options) {
  lamina_model* model = nullptr;
  ok(lamina_model_create(task, options, &model));
  return ModelHandle(model);
}

inline TrainerHandle make_trainer(const lamina_task* task, const lamina_options* options) {
  lamina_trainer* trainer = nullptr;
  ok(lamina_trainer_create(task, nullptr, options, &trainer));
  return TrainerHandle(trainer);
}

inline TrajectoryHandle trajectory_of(const lamina_trainer* trainer) {
  lamina_trajectory* trajectory = nullptr;
  ok(lamina_trainer_trajectory(trainer, &trajectory));
  return TrajectoryHandle(trajectory);
}

inline std::vector<double> column(const lamina_trajectory* trajectory, int64_t index) {
  int64_t rows = 0;
  ok(lamina_trajectory_rows(trajectory, &rows));
  std::vector<double> values(static_cast<size_t>(rows));
  ok(lamina_trajectory_read(trajectory, index, values.data(), rows));
  return values;
}

inline std::vector<double> parameters_of(const lamina_model* model) {
  int64_t count = 0;
  ok(lamina_model_parameter_count(model, &count));
  std::vector<double> values(static_cast<size_t>(count));
  ok(lamina_model_get_parameters(model, values.data(), count));
  return values;
}

inline std::vector<double> parameters_of(const lamina_trainer* trainer) {
  lamina_model* model = nullptr;
  ok(lamina_trainer_model(trainer, &model));
  return parameters_of(ModelHandle(model).get());
}

inline std::string error_of(lamina_status status, lamina_status expected) {
  EXPECT_EQ(status, expected) << lamina_last_error();
  return lamina_last_error();
}

// Whether two arrays hold the same bits.
inline bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

}  // namespace lamina::test
