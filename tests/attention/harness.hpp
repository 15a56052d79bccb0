// One run of the C interface on a problem, and how two results are compared.
#pragma once
#include <memory>

#include "tests/attention/arrays.hpp"
#include "tests/attention/host_state.hpp"

namespace harness {

struct Run {
  uint64_t stride_seed = 0;  // 0: packed
  int32_t threads = 1;
  const char* isa = nullptr;
  bool workspace = false;  // bring one, of exactly the size asked for, between canaries
  uint32_t host = 0;       // the floating-point state that the host calls with, of host_states
};

struct Free {
  void operator()(lamina_attention* a) const { lamina_attention_free(a); }
};
using Plan = std::unique_ptr<lamina_attention, Free>;

inline Plan make_plan(const lamina_attention_spec& spec) {
  lamina_attention* plan = nullptr;
  EXPECT_EQ(lamina_attention_create(&spec, &plan), LAMINA_OK) << lamina_last_error();
  return Plan(plan);
}

// 64-byte aligned memory of exactly `bytes`, followed by a canary.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : bytes_(bytes), storage_(bytes + 2 * 64, 0x5a) {}
  void* data() { return storage_.data() + (64 - reinterpret_cast<uintptr_t>(storage_.data()) % 64) % 64; }
  size_t bytes() const { return bytes_; }
  void expect_intact() {
    const auto* end = static_cast<unsigned char*>(data()) + bytes_;
    for (const auto* p = end; p < storage_.data() + storage_.size(); ++p) ASSERT_EQ(*p, 0x5a) << "workspace overrun";
    for (const auto* p = storage_.data(); p < data(); ++p) ASSERT_EQ(*p, 0x5a) << "workspace underrun";
  }

 private:
  size_t bytes_;
  std::vector<unsigned char> storage_;
};

template <class T>
Outputs<T> run(const Problem& p, const Run& options = {}) {
  lamina_attention_spec spec = p.spec;
  spec.threads = options.threads;
  spec.isa = options.isa;
  const Plan plan = make_plan(spec);
  if (!plan) return {};
  if (options.isa) {
    EXPECT_STREQ(lamina_attention_isa(plan.get()), options.isa);
  }
  Arrays<T> arrays(p, options.stride_seed);
  for (const int32_t direction : {LAMINA_FORWARD, LAMINA_BACKWARD}) {
    size_t bytes = 0;
    EXPECT_EQ(lamina_attention_workspace(plan.get(), direction, &bytes), LAMINA_OK);
    Workspace workspace(options.workspace ? bytes : 0);
    const auto call = direction == LAMINA_FORWARD ? lamina_attention_forward : lamina_attention_backward;
    void* const memory = options.workspace ? workspace.data() : nullptr;
    lamina_status status;
    {
      const HostState state(options.host);
      status = call(plan.get(), &arrays.c, memory, options.workspace ? bytes : 0);
    }
    EXPECT_EQ(status, LAMINA_OK) << lamina_last_error();
    if (options.workspace) workspace.expect_intact();
  }
  return arrays.outputs(p);
}

// Differing bits of two runs; NaN equals NaN.
template <class T>
void expect_same_bits(const Outputs<T>& x, const Outputs<T>& y, const std::string& what) {
  Outputs<T>::each_pair(x, y, [&](const char* name, const std::vector<T>& a, const std::vector<T>& b) {
    ASSERT_EQ(a.size(), b.size());
    int64_t differing = 0;
    for (size_t i = 0; i < a.size(); ++i)
      differing += std::memcmp(&a[i], &b[i], sizeof(T)) != 0 && !(std::isnan(a[i]) && std::isnan(b[i]));
    EXPECT_EQ(differing, 0) << name << " of " << a.size() << ":" << what;
  });
  EXPECT_TRUE(std::memcmp(&x.d_scale, &y.d_scale, sizeof(double)) == 0 || (std::isnan(x.d_scale) && std::isnan(y.d_scale)))
      << "d_scale:" << what;
}

// |value - truth| <= u K max size over each array, K = 8 + 4 S: normwise, what numbers of both signs hold to, within what is
// promised of O (accuracy_test.cpp; max |V| >= max size of O); scores and lse, which may be of very different sizes, each by
// its own. Infinities and NaN must stand where the truth has them. Returns the largest error in units of its bound.
template <class T>
double expect_near(const Outputs<T>& x, const oracle::Solution& truth, const std::string& what) {
  const oracle::Real u = std::numeric_limits<T>::epsilon() / 2;
  const oracle::Real K = 8 + 4 * truth.largest_score;
  double worst = 0;
  const auto check = [&](const char* name, const std::vector<T>& values, const oracle::Array& want, const oracle::Array& size,
                         bool each = false) {
    if (values.empty()) return;
    ASSERT_EQ(values.size(), want.size()) << name << what;
    oracle::Real largest = 0;
    for (const oracle::Array* numbers : {&size, &want})
      for (const auto value : *numbers)
        if (std::isfinite(value)) largest = std::max(largest, std::fabs(value));
    for (size_t i = 0; i < values.size(); ++i) {
      const oracle::Real bound = u * K * (each ? size[i] : largest) + std::numeric_limits<T>::min();
      if (std::isnan(want[i])) {
        ASSERT_TRUE(std::isnan(values[i])) << name << "[" << i << "] is " << values[i] << ", must be NaN:" << what;
      } else if (std::isinf(want[i])) {
        ASSERT_EQ(static_cast<oracle::Real>(values[i]), want[i]) << name << "[" << i << "]:" << what;
      } else {
        const oracle::Real error = std::fabs(values[i] - want[i]);
        ASSERT_LE(error, bound) << name << "[" << i << "] is " << values[i] << ", must be " << static_cast<double>(want[i])
                                << ":" << what;
        worst = std::max(worst, static_cast<double>(error / bound));
      }
    }
  };
  const auto &v = truth.value, &s = truth.size;
  check("o", x.o, v.o, s.o), check("lse", x.lse, v.lse, s.lse, true), check("weights", x.weights, v.weights, s.weights);
  check("scores", x.scores, v.scores, s.scores, true), check("d_q", x.d_q, v.d_q, s.d_q), check("d_k", x.d_k, v.d_k, s.d_k);
  check("d_v", x.d_v, v.d_v, s.d_v), check("d_bias", x.d_bias, v.d_bias, s.d_bias);
  if (std::isfinite(v.d_scale))
    EXPECT_LE(std::fabs(x.d_scale - v.d_scale), u * K * s.d_scale + std::numeric_limits<T>::min()) << "d_scale" << what;
  else
    EXPECT_TRUE(std::isnan(x.d_scale) || std::isinf(x.d_scale)) << "d_scale" << what;
  return worst;
}

}  // namespace harness
