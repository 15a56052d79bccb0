// Calls from the threads of an OpenMP host: the same bits, whether a call may use one thread or many.
#include <omp.h>

#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

TEST(AttentionOpenMp, EachThreadsCallsHaveTheSameBits) {
  lamina_attention_spec s = new_spec();
  s.batch = 2, s.heads = 4, s.queries = 150, s.keys = 200, s.width = 33, s.flags = LAMINA_WITH_MASK;
  const Problem p = make_problem(s, 4);
  const Outputs<double> want = run<double>(p);
  for (const int32_t threads : {1, 4, 0}) {
    s.threads = threads;
    const Plan plan = make_plan(s);
    std::vector<std::unique_ptr<Arrays<double>>> arrays;
    for (int t = 0; t < 8; ++t) arrays.push_back(std::make_unique<Arrays<double>>(p));
    int failures = 0, took_part = 0;
#pragma omp parallel num_threads(8) reduction(+ : failures, took_part)
    {
      Arrays<double>& own = *arrays[static_cast<size_t>(omp_get_thread_num())];
      ++took_part;
      for (int repeat = 0; repeat < 5; ++repeat)
        failures += lamina_attention_forward(plan.get(), &own.c, nullptr, 0) != LAMINA_OK ||
                    lamina_attention_backward(plan.get(), &own.c, nullptr, 0) != LAMINA_OK;
    }
    EXPECT_EQ(failures, 0);
    EXPECT_EQ(took_part, 8);
    for (auto& a : arrays) expect_same_bits(want, a->outputs(p), " threads " + std::to_string(threads));
  }
}

}  // namespace
