// What forms of prompts share: tokens as doubles, checked.
#pragma once
#include "task/task.hpp"

namespace lamina {

// [count, columns] tokens that cross as doubles: integers in 0..maximum; throws with the place of one that is not.
std::vector<int32_t> checked_tokens(const char* name, const double* values, int64_t count, int64_t columns, int64_t maximum);

// targets [prompts.count, 2] of (label, answer), tokens in 0..maximum, into `prompts`.
void take_token_targets(const char* name, const double* targets, int64_t maximum, Prompts& prompts);

// Prompts of tokens alone; targets (label, answer).
class TokenForm : public PromptForm {
 public:
  explicit TokenForm(const PromptShape& shape) : shape_(shape) {}
  PromptShape shape() const override { return shape_; }
  void give(const Prompts& drawn, double* prompts, double* targets) const override;
  Prompts take(const double* prompts, int64_t count, int64_t length) const override;
  void take_targets(const double* targets, Prompts& prompts) const override;

 protected:
  PromptShape shape_;
};

}  // namespace lamina
