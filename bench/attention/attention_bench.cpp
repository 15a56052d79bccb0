// How fast attention is on one core: forward, and forward and backward, as GFLOP/s and as a share of the peak of fused
// multiply-adds measured in the same run. Flops as usual: forward 4 B H N^2 D, with backward 14 B H N^2 D; half when causal.
#include <benchmark/benchmark.h>

#include <ctime>
#include <random>
#include <vector>

#include "lamina/lamina.h"
#include "peak.hpp"

namespace {

// Of one thread's own time where one thread works, so that a busy machine disturbs little; else of the wall.
double seconds(bool own) {
  timespec now;
  clock_gettime(own ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <class T>
void measure(benchmark::State& state, int32_t map, int32_t causal, bool with_backward, int32_t threads) {
  const int64_t B = state.range(0), H = state.range(1), N = state.range(2), D = state.range(3);
  lamina_attention_spec spec;
  lamina_attention_spec_init(&spec, sizeof spec);
  spec.element = sizeof(T) == 4 ? LAMINA_F32 : LAMINA_F64;
  spec.map = map, spec.causal = causal, spec.threads = threads;
  spec.batch = B, spec.heads = H, spec.queries = spec.keys = N, spec.width = D;
  lamina_attention* plan = nullptr;
  if (lamina_attention_create(&spec, &plan) != LAMINA_OK) {
    state.SkipWithError(lamina_last_error());
    return;
  }

  const size_t count = static_cast<size_t>(B * H * N * D);
  std::mt19937 engine(1);
  std::normal_distribution<double> normal;
  std::vector<std::vector<T>> memory(8, std::vector<T>(count));
  for (int k = 0; k < 4; ++k)
    for (auto& x : memory[k]) x = static_cast<T>(normal(engine));
  lamina_attention_arrays arrays;
  lamina_attention_arrays_init(&arrays, sizeof arrays);
  lamina_input* inputs[] = {&arrays.q, &arrays.k, &arrays.v, &arrays.d_o};
  lamina_output* outputs[] = {&arrays.o, &arrays.d_q, &arrays.d_k, &arrays.d_v};
  for (int k = 0; k < 4; ++k) {
    *inputs[k] = {memory[k].data(), {H * N * D, N * D, D, 1}};
    *outputs[k] = {memory[4 + k].data(), {H * N * D, N * D, D, 1}};
  }
  size_t bytes[2];
  lamina_attention_workspace(plan, LAMINA_FORWARD, &bytes[0]);
  lamina_attention_workspace(plan, LAMINA_BACKWARD, &bytes[1]);
  std::vector<char> room(std::max(bytes[0], bytes[1]) + 64);
  char* workspace = room.data() + (64 - reinterpret_cast<uintptr_t>(room.data()) % 64) % 64;

  double best = 1e30;
  for (auto _ : state) {
    const double start = seconds(threads == 1);
    lamina_status status = lamina_attention_forward(plan, &arrays, workspace, bytes[0]);
    if (with_backward && status == LAMINA_OK) status = lamina_attention_backward(plan, &arrays, workspace, bytes[1]);
    best = std::min(best, seconds(threads == 1) - start);
    if (status != LAMINA_OK) {
      state.SkipWithError(lamina_last_error());
      break;
    }
  }
  const double flops = (with_backward ? 14.0 : 4.0) * (causal ? 0.5 : 1) * static_cast<double>(B * H * N * N * D);
  const double most = peak::rate(lamina_attention_isa(plan), sizeof(T) == 8);
  state.counters["best_us"] = best * 1e6;
  state.counters["GFLOPS"] = flops / best * 1e-9;
  if (most > 0) state.counters["share_of_peak"] = flops / best / most;
  state.SetLabel(lamina_attention_isa(plan));
  lamina_attention_free(plan);
}

void f32(benchmark::State& state, int32_t map, int32_t causal, bool with_backward, int32_t threads) {
  measure<float>(state, map, causal, with_backward, threads);
}
void f64(benchmark::State& state, int32_t map, int32_t causal, bool with_backward, int32_t threads) {
  measure<double>(state, map, causal, with_backward, threads);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->Args({1, 8, 512, 64})
      ->Args({1, 8, 2048, 64})
      ->Args({4, 8, 128, 64})
      ->Args({64, 4, 64, 32})
      ->Args({1024, 1, 32, 16})
      ->Args({4096, 1, 16, 8});
  b->Args({1, 1, 8, 8})->Unit(benchmark::kMicrosecond);
}
BENCHMARK_CAPTURE(f32, softmax_forward, LAMINA_SOFTMAX, LAMINA_CAUSAL_NONE, false, 1)->Apply(shapes);
BENCHMARK_CAPTURE(f32, softmax_both, LAMINA_SOFTMAX, LAMINA_CAUSAL_NONE, true, 1)->Apply(shapes);
BENCHMARK_CAPTURE(f32, softmax_causal_forward, LAMINA_SOFTMAX, LAMINA_CAUSAL_TOP_LEFT, false, 1)->Apply(shapes);
BENCHMARK_CAPTURE(f32, softmax_causal_both, LAMINA_SOFTMAX, LAMINA_CAUSAL_TOP_LEFT, true, 1)->Apply(shapes);
BENCHMARK_CAPTURE(f32, linear_both, LAMINA_LINEAR, LAMINA_CAUSAL_NONE, true, 1)->Apply(shapes);
BENCHMARK_CAPTURE(f32, relu_both, LAMINA_RELU, LAMINA_CAUSAL_NONE, true, 1)->Apply(shapes);
BENCHMARK_CAPTURE(f64, softmax_forward, LAMINA_SOFTMAX, LAMINA_CAUSAL_NONE, false, 1)->Apply(shapes);
BENCHMARK_CAPTURE(f64, softmax_both, LAMINA_SOFTMAX, LAMINA_CAUSAL_NONE, true, 1)->Apply(shapes);
BENCHMARK_CAPTURE(f32, softmax_both_all_threads, LAMINA_SOFTMAX, LAMINA_CAUSAL_NONE, true, 0)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
