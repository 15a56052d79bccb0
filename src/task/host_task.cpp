// A host's own data as tasks: "arrays" (a table of prompts) and "callback" (a sampler of the host).
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "task/task.hpp"

namespace lamina {
namespace {

constexpr int64_t largest_vocabulary = 1 << 20, largest_length = 1 << 20;

void check_shape(int64_t length, int64_t vocabulary, double noise) {
  if (length < 2 || length > largest_length)
    fail_argument("length", static_cast<double>(length), "in [2, " + std::to_string(largest_length) + "]");
  if (vocabulary < 1 || vocabulary > largest_vocabulary)
    fail_argument("vocabulary", static_cast<double>(vocabulary), "in [1, " + std::to_string(largest_vocabulary) + "]");
  if (!(noise >= 0 && noise < 1)) fail_argument("noise", noise, "in [0, 1)");
}

// The token `value` if it is an integer in 0..largest; `what`(i[, j]) says where it stands.
template <class Number, class Where>
int32_t checked_token(Number value, int64_t largest, Where where) {
  const auto number = static_cast<double>(value);
  if (!(number >= 0 && number <= static_cast<double>(largest) && std::floor(number) == number))
    fail_argument(where().c_str(), number, "an integer in [0, " + std::to_string(largest) + "]");
  return static_cast<int32_t>(value);
}

std::string at(const char* what, int64_t i) {
  return std::string(what) + "[" + std::to_string(i) + "]";
}
std::string at(const char* what, int64_t i, int64_t j) {
  return at(what, i) + "[" + std::to_string(j) + "]";
}

// A prompt may hold tau anywhere but at its end; the answer is a regular token.
template <class Number>
void check_prompt(std::span<const Number> row, int64_t i, int64_t vocabulary, std::span<int32_t> out) {
  for (size_t j = 0; j < row.size(); ++j) {
    const int64_t largest = j + 1 == row.size() ? vocabulary - 1 : vocabulary;
    out[j] = checked_token(row[j], largest, [&] { return at("prompts", i, static_cast<int64_t>(j)); });
  }
}

class HostTask : public Task {
 public:
  const RecallLaw* recall() const override { return &law_; }
  // Only the host knows whether an answer was ever seen in training.
  bool has(Split split) const override { return split != Split::unseen; }
  std::string token_text(int32_t token) const override {
    if (token < 0 || token > law_.vocabulary) fail_argument("token", token, "in [0, " + std::to_string(law_.vocabulary) + "]");
    return token == law_.vocabulary ? "tau" : std::to_string(token);
  }
  const Settings& settings() const override { return settings_; }

 protected:
  RecallLaw law_;

 private:
  Settings settings_;
};

// The distinct values in ascending order.
std::vector<int32_t> distinct(std::vector<int32_t> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

class ArraysTask final : public HostTask {
 public:
  ArraysTask(Prompts prompts, int64_t vocabulary, double noise) : prompts_(std::move(prompts)) {
    check_shape(prompts_.length, vocabulary, noise);
    if (prompts_.count < 1) fail_argument("count", static_cast<double>(prompts_.count), "at least 1");
    std::vector<int32_t> last;
    for (int64_t i = 0; i < prompts_.count; ++i) {
      check_prompt(std::span<const int32_t>(prompts_.row(i)), i, vocabulary, prompts_.row(i));
      checked_token(prompts_.label[static_cast<size_t>(i)], vocabulary, [&] { return at("targets", i, 0); });
      checked_token(prompts_.answer[static_cast<size_t>(i)], vocabulary - 1, [&] { return at("targets", i, 1); });
      last.push_back(prompts_.row(i).back());
    }
    law_.vocabulary = vocabulary;
    law_.length = prompts_.length;
    law_.noise = noise;
    law_.triggers = distinct(last);
    law_.outputs = distinct(prompts_.answer);
    law_.trigger_law.assign(law_.triggers.size(), 0);
    for (int32_t q : last)
      ++law_.trigger_law[static_cast<size_t>(std::lower_bound(law_.triggers.begin(), law_.triggers.end(), q) -
                                             law_.triggers.begin())];
    for (double& p : law_.trigger_law) p /= static_cast<double>(prompts_.count);
  }
  const char* name() const override { return "arrays"; }
  // Row i of every split and seed is row i modulo the number of rows.
  void sample(Split split, uint64_t, int64_t first, int64_t count, Prompts& out) const override {
    if (!has(split)) fail(LAMINA_E_UNSUPPORTED, "the unseen split cannot be drawn: a task of arrays has one table of prompts");
    out.resize(count, prompts_.length);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t source = (first + i) % prompts_.count;
      std::ranges::copy(prompts_.row(source), out.row(i).begin());
      out.label[static_cast<size_t>(i)] = prompts_.label[static_cast<size_t>(source)];
      out.answer[static_cast<size_t>(i)] = prompts_.answer[static_cast<size_t>(source)];
    }
  }

 private:
  Prompts prompts_;
};

class CallbackTask final : public HostTask {
 public:
  explicit CallbackTask(const lamina_task_callback& callback) : callback_(callback) {
    if (!callback.sample) fail(LAMINA_E_ARGUMENT, "sample is NULL, must be a function");
    check_shape(callback.length, callback.vocabulary, callback.noise);
    law_.vocabulary = callback.vocabulary;
    law_.length = callback.length;
    law_.noise = callback.noise;
    // The law of the host is not known: any regular token may be queried.
    for (int64_t token = 0; token < callback.vocabulary; ++token) law_.triggers.push_back(static_cast<int32_t>(token));
    law_.trigger_law.assign(law_.triggers.size(), 1 / static_cast<double>(callback.vocabulary));
    law_.outputs = law_.triggers;
  }
  const char* name() const override { return "callback"; }
  bool concurrent() const override { return false; }
  bool has(Split) const override { return true; }

  void sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const override {
    const int64_t length = law_.length, tau = law_.vocabulary;
    Prompts drawn;  // so that a failure leaves `out` as it was
    drawn.resize(count, length);
    const int64_t chunk = std::max<int64_t>(1, (int64_t{1} << 17) / length);  // about a megabyte of doubles
    std::vector<double> prompts, targets;
    for (int64_t begin = 0; begin < count; begin += chunk) {
      const int64_t rows = std::min(chunk, count - begin);
      // What the host leaves unwritten stays NaN and is found.
      prompts.assign(static_cast<size_t>(rows * length), std::numeric_limits<double>::quiet_NaN());
      targets.assign(static_cast<size_t>(rows * 2), std::numeric_limits<double>::quiet_NaN());
      const int32_t answer = callback_.sample(callback_.user, static_cast<int32_t>(split), seed, first + begin, rows,
                                              prompts.data(), targets.data());
      if (answer != 0) fail(LAMINA_STOPPED, "the task's callback returned " + std::to_string(answer));
      for (int64_t i = 0; i < rows; ++i) {
        const auto place = static_cast<size_t>(begin + i);
        check_prompt(std::span<const double>(prompts).subspan(static_cast<size_t>(i * length), static_cast<size_t>(length)),
                     first + begin + i, tau, drawn.row(begin + i));
        const double* target = targets.data() + i * 2;
        drawn.label[place] = checked_token(target[0], tau, [&] { return at("targets", first + begin + i, 0); });
        drawn.answer[place] = checked_token(target[1], tau - 1, [&] { return at("targets", first + begin + i, 1); });
      }
    }
    out = std::move(drawn);
  }

 private:
  lamina_task_callback callback_;
};

}  // namespace

std::shared_ptr<const Task> task_from_prompts(Prompts prompts, int64_t vocabulary, double noise) {
  return std::make_shared<ArraysTask>(std::move(prompts), vocabulary, noise);
}

std::shared_ptr<const Task> task_from_callback(const lamina_task_callback& callback) {
  return std::make_shared<CallbackTask>(callback);
}

}  // namespace lamina
