// How prompts cross: tokens with a label and an answer, or features with values.
#include "task/prompt_form.hpp"

#include <cmath>

#include "base/error.hpp"

namespace lamina {

std::vector<int32_t> checked_tokens(const char* name, const double* values, int64_t count, int64_t columns, int64_t maximum) {
  std::vector<int32_t> tokens = allocate(name, 4.0 * static_cast<double>(count * columns),
                                         [&] { return std::vector<int32_t>(static_cast<size_t>(count * columns)); });
  for (int64_t i = 0; i < count * columns; ++i) {
    if (!(values[i] >= 0 && values[i] <= static_cast<double>(maximum)) || std::floor(values[i]) != values[i]) {
      std::string place = std::string(name) + "[" + std::to_string(i / columns);
      if (columns > 1) place += ", " + std::to_string(i % columns);
      fail(LAMINA_E_ARGUMENT,
           place + "] is " + number_text(values[i]) + ", must be an integer in [0, " + std::to_string(maximum) + "]");
    }
    tokens[i] = static_cast<int32_t>(values[i]);
  }
  return tokens;
}

void take_token_targets(const char* name, const double* targets, int64_t maximum, Prompts& prompts) {
  const std::vector<int32_t> pairs = checked_tokens(name, targets, prompts.count, 2, maximum);
  prompts.label.resize(prompts.count), prompts.answer.resize(prompts.count);
  for (int64_t i = 0; i < prompts.count; ++i) prompts.label[i] = pairs[2 * i], prompts.answer[i] = pairs[2 * i + 1];
}

Prompts TokenForm::take(const double* prompts, int64_t count, int64_t length) const {
  Prompts taken;
  taken.count = count, taken.length = length;
  taken.tokens = checked_tokens("prompts", prompts, count, length, shape_.texts - 1);
  return taken;
}

void TokenForm::take_targets(const double* targets, Prompts& prompts) const {
  take_token_targets("targets", targets, shape_.texts - 1, prompts);
}

void TokenForm::give(const Prompts& drawn, double* prompts, double* targets) const {
  std::ranges::copy(drawn.tokens, prompts);
  for (int64_t i = 0; i < drawn.count; ++i) *targets++ = drawn.label[i], *targets++ = drawn.answer[i];
}

namespace {

// x_1, y_1, .., x_N, y_N, x_query; targets y_query, x_query.
class FeatureForm final : public PromptForm {
 public:
  explicit FeatureForm(const FeatureLaw& law) : features_(law.features), length_(law.length) {}

  PromptShape shape() const override { return {length_ < 0 ? -1 : 2 * length_ + 1, 1, 2, 0, 1, features_}; }

  void give(const Prompts& drawn, double* prompts, double* targets) const override {
    for (int64_t i = 0; i < drawn.count; ++i) {
      for (int64_t j = 0; j < drawn.length; ++j) {
        *prompts++ = drawn.row(i)[j];
        if (j + 1 < drawn.length) *prompts++ = drawn.values_of(i)[j];
      }
      *targets++ = drawn.values_of(i).back(), *targets++ = drawn.answer[i];
    }
  }

  Prompts take(const double* prompts, int64_t count, int64_t length) const override {
    if (length % 2 == 0 || length < 3) fail_argument("length", static_cast<double>(length), "2 N + 1 for N >= 1 labelled tokens");
    Prompts taken;
    taken.count = count, taken.length = (length + 1) / 2;
    std::vector<double> tokens;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < length; ++j) {
        const double number = prompts[i * length + j];
        if (j % 2 == 0)
          tokens.push_back(number);
        else
          taken.values.push_back(finite("prompts", number));
        if (j + 1 == length) taken.values.push_back(0);
      }
    taken.tokens = checked_tokens("the features in prompts", tokens.data(), count, taken.length, features_ - 1);
    taken.label.resize(static_cast<size_t>(count)), taken.answer.resize(static_cast<size_t>(count));
    return taken;
  }

  void take_targets(const double* targets, Prompts& prompts) const override {
    for (int64_t i = 0; i < prompts.count; ++i) prompts.values_of(i).back() = finite("targets", targets[2 * i]);
  }

 private:
  static double finite(const char* where, double label) {
    if (!std::isfinite(label)) fail_argument(("a label in " + std::string(where)).c_str(), label, "finite");
    return label;
  }

  int64_t features_, length_;
};

}  // namespace

std::shared_ptr<const PromptForm> recall_form(const RecallLaw& law) {
  return std::make_shared<TokenForm>(PromptShape{law.length, 1, 2, law.vocabulary, law.vocabulary + 1, law.vocabulary + 1});
}

std::shared_ptr<const PromptForm> feature_form(const FeatureLaw& law) { return std::make_shared<FeatureForm>(law); }

}  // namespace lamina
