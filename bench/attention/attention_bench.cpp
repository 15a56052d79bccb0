// How fast attention is: forward, and forward and backward, by map, mask, type, instruction set and threads. Beside each time stand
// GFLOP/s (forward 4 B H N^2 D flops, with backward 14 B H N^2 D; half when causal), the peak of fused multiply-adds measured between
// the repetitions of the same benchmark, and the share of it. Memory: how far the resident set rises above the arrays.
// Rows with a mask have one of all ones, with a bias one of finite numbers, [N, N], the same for every sequence and head; "few" rows
// have 1 or 4 queries and N keys, on fewer key heads or not.
// Names: type/map[_causal|_mask|_bias]/direction/instruction set/threads/B/H/N/D[/queries/key heads]; --benchmark_filter takes a
// regular expression of them.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "lamina/lamina.h"
#include "peak.hpp"

namespace {

struct Case {
  int64_t B, H, N, D;
  int32_t element = LAMINA_F32, map = LAMINA_SOFTMAX;
  bool causal = false, backward = false;
  int32_t threads = 1;
  const char* isa = "avx512";
  uint32_t flags = 0;                 // LAMINA_WITH_MASK or LAMINA_WITH_BIAS
  int64_t queries = 0, kv_heads = 0;  // 0: N, H

  int64_t L_q() const { return queries > 0 ? queries : N; }
  int64_t H_kv() const { return kv_heads > 0 ? kv_heads : H; }
  double flops() const { return (backward ? 14.0 : 4.0) * (causal ? 0.5 : 1) * static_cast<double>(B * H * L_q() * N * D); }
  int64_t of_queries() const { return B * H * L_q() * D; }
  int64_t of_keys() const { return B * H_kv() * N * D; }
  size_t element_bytes() const { return element == LAMINA_F64 ? 8 : 4; }
  std::string name() const {
    const char* maps[] = {"softmax", "linear", "relu"};
    std::string text = element == LAMINA_F64 ? "f64/" : "f32/";
    text += std::string(maps[map - 1]) + (causal ? "_causal" : flags == LAMINA_WITH_MASK ? "_mask" : flags ? "_bias" : "") + "/";
    text += std::string(backward ? "both/" : "forward/") + isa;
    for (int64_t number : {int64_t{threads}, B, H, N, D}) text += "/" + std::to_string(number);
    if (queries > 0) text += "/" + std::to_string(queries) + "/" + std::to_string(H_kv());
    return text;
  }
};

// Of the thread's own time where one thread works, so that a busy machine disturbs little; else of the wall.
double seconds(bool own) {
  timespec now;
  clock_gettime(own ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

size_t resident_peak() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::stoull(line.substr(6)) * 1024;
  return 0;
}

// A plan with arrays and a workspace of the caller's, all of whose pages have been touched.
class Call {
 public:
  explicit Call(const Case& c) : case_(c) {
    lamina_attention_spec spec;
    lamina_attention_spec_init(&spec, sizeof spec);
    spec.element = c.element, spec.map = c.map, spec.threads = c.threads, spec.isa = c.isa;
    spec.causal = c.causal ? LAMINA_CAUSAL_TOP_LEFT : LAMINA_CAUSAL_NONE;
    spec.batch = c.B, spec.heads = c.H, spec.kv_heads = c.H_kv(), spec.queries = c.L_q(), spec.keys = c.N, spec.width = c.D;
    spec.flags = c.flags;
    status_ = lamina_attention_create(&spec, &plan_);
    if (status_ != LAMINA_OK) return;
    lamina_attention_workspace(plan_, LAMINA_FORWARD, &room_[0]);
    if (c.backward) lamina_attention_workspace(plan_, LAMINA_BACKWARD, &room_[1]);
    workspace_.resize(std::max(room_[0], room_[1]) + 64);
    lamina_attention_arrays_init(&arrays_, sizeof arrays_);
    lamina_input* inputs[] = {&arrays_.q, &arrays_.k, &arrays_.v, &arrays_.d_o};
    lamina_output* outputs[] = {&arrays_.o, &arrays_.d_q, &arrays_.d_k, &arrays_.d_v};
    std::mt19937 engine(1);
    // Arrays 1 and 2 are of keys, in both lists but for O and dQ.
    const auto strides = [&](auto& x, void* data, bool keys) {
      const int64_t rows = keys ? c.N : c.L_q();
      x = {data, {(keys ? c.H_kv() : c.H) * rows * c.D, rows * c.D, c.D, 1}};
    };
    for (int i = 0; i < (c.backward ? 4 : 3); ++i) {
      const bool keys = i == 1 || i == 2;
      strides(*inputs[i], random(engine, keys ? c.of_keys() : c.of_queries()), keys);
    }
    for (int i = 0; i < (c.backward ? 4 : 1); ++i) strides(*outputs[i], fresh(i >= 2 ? c.of_keys() : c.of_queries()), i >= 2);
    lamina_input& pairs = c.flags == LAMINA_WITH_MASK ? arrays_.mask : arrays_.bias;
    if (c.flags == LAMINA_WITH_MASK) std::memset(fresh(c.L_q() * c.N), 1, static_cast<size_t>(c.L_q() * c.N));
    if (c.flags == LAMINA_WITH_BIAS) random(engine, c.L_q() * c.N);
    if (c.flags) pairs = {memory_.back().data(), {0, 0, c.N, 1}};
  }
  ~Call() { lamina_attention_free(plan_); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  bool run() {
    char* room = workspace_.data() + (64 - reinterpret_cast<uintptr_t>(workspace_.data()) % 64) % 64;
    if (status_ == LAMINA_OK) status_ = lamina_attention_forward(plan_, &arrays_, room, room_[0]);
    if (status_ == LAMINA_OK && case_.backward) status_ = lamina_attention_backward(plan_, &arrays_, room, room_[1]);
    return status_ == LAMINA_OK;
  }
  size_t array_bytes() const {
    size_t bytes = 0;
    for (const std::vector<char>& array : memory_) bytes += array.size();
    return bytes;
  }
  size_t workspace_bytes() const { return std::max(room_[0], room_[1]); }

 private:
  void* fresh(int64_t count) { return memory_.emplace_back(static_cast<size_t>(count) * case_.element_bytes()).data(); }
  void* random(std::mt19937& engine, int64_t count) {
    std::normal_distribution<double> normal;
    void* data = fresh(count);
    for (int64_t i = 0; i < count; ++i)
      if (case_.element == LAMINA_F64)
        static_cast<double*>(data)[i] = normal(engine);
      else
        static_cast<float*>(data)[i] = static_cast<float>(normal(engine));
    return data;
  }

  Case case_;
  lamina_attention* plan_ = nullptr;
  lamina_status status_;
  size_t room_[2] = {0, 0};
  lamina_attention_arrays arrays_;
  std::vector<std::vector<char>> memory_;
  std::vector<char> workspace_;
};

// The median over short bursts of time and of share; the peak is measured before every burst, because clocks and load vary.
void measure(benchmark::State& state, const Case& c) {
  const size_t before = resident_peak();
  Call call(c);
  if (c.N < 65536 && !call.run()) return state.SkipWithError(lamina_last_error());
  constexpr double burst = 2e-3;
  std::vector<double> times, shares, peaks;
  double next_burst = 0, most = 0;
  for (auto _ : state) {
    const bool own = c.threads == 1;
    double start = seconds(own);
    if (start >= next_burst) {
      state.PauseTiming();
      most = c.threads * peak::rate(c.isa, c.element == LAMINA_F64, 2);
      state.ResumeTiming();
      start = seconds(own);
      next_burst = start + 5 * burst;
    }
    int64_t calls = 0;
    double elapsed = 0;
    for (int64_t step = 1; elapsed < burst; step = std::max<int64_t>(1, calls)) {  // one call here is one iteration or a small batch
      for (int64_t i = 0; i < step; ++i)
        if (!call.run()) return state.SkipWithError(lamina_last_error());
      calls += step;
      elapsed = seconds(own) - start;
    }
    times.push_back(elapsed / static_cast<double>(calls));
    peaks.push_back(most);
    if (most > 0) shares.push_back(c.flops() / times.back() / most);
    state.SetIterationTime(times.back());
  }
  auto median = [](std::vector<double>& values) {
    std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
  };
  const double typical = median(times);
  state.counters["call_us"] = typical * 1e6;
  state.counters["GFLOPS"] = c.flops() / typical * 1e-9;
  if (!shares.empty()) {
    state.counters["peak_GFLOPS"] = median(peaks) * 1e-9;
    state.counters["share_of_peak"] = median(shares);
  }
  state.counters["workspace_bytes"] = static_cast<double>(call.workspace_bytes());
  if (c.N >= 65536)  // meaningful where this call is the largest of the run: a process of its own
    state.counters["MB_above_arrays"] =
        (static_cast<double>(resident_peak() - before) - static_cast<double>(call.array_bytes())) / 1048576.0;
}

std::vector<Case> cases() {
  const std::vector<Case> shapes = {{1, 8, 512, 64},   {1, 8, 1024, 64},   {1, 8, 2048, 64}, {1, 8, 4096, 64},   {1, 1, 8192, 64},
                                    {1, 16, 1024, 128}, {4, 8, 128, 64},   {64, 4, 64, 32},  {1024, 1, 32, 16}, {4096, 1, 16, 8}};
  std::vector<Case> all;
  auto add = [&](Case c, int32_t element, int32_t map, bool causal, bool backward, int32_t threads, const char* isa) {
    c.element = element, c.map = map, c.causal = causal, c.backward = backward, c.threads = threads, c.isa = isa;
    all.push_back(c);
  };
  for (int32_t element : {LAMINA_F32, LAMINA_F64})
    for (int32_t map : {LAMINA_SOFTMAX, LAMINA_LINEAR, LAMINA_RELU})
      for (bool causal : {false, true})
        for (bool backward : {false, true})
          for (const Case& shape : shapes)
            for (const char* isa : {"avx512", "avx2"})
              for (int32_t threads : {1, 2}) add(shape, element, map, causal, backward, threads, isa);
  for (int32_t element : {LAMINA_F32, LAMINA_F64})
    for (bool backward : {false, true})
      for (const char* isa : {"avx512", "avx2"}) {
        for (uint32_t flags : {LAMINA_WITH_MASK, LAMINA_WITH_BIAS}) {
          Case c{1, 4, 1024, 64};
          c.flags = flags;
          add(c, element, LAMINA_SOFTMAX, false, backward, 1, isa);
        }
        const int64_t few[][6] = {{1, 8, 256, 64, 1, 8},     {1, 8, 1024, 64, 1, 8}, {1, 8, 4096, 64, 1, 8},  {1, 32, 4096, 128, 1, 8},
                                  {256, 1, 100, 32, 1, 1}, {1024, 1, 100, 10, 1, 1}, {1, 8, 4096, 64, 4, 8}};
        for (const auto& x : few)
          for (int32_t threads : {1, 2}) {
            Case c{x[0], x[1], x[2], x[3]};
            c.queries = x[4], c.kv_heads = x[5];
            add(c, element, LAMINA_SOFTMAX, false, backward, threads, isa);
          }
      }
  const char* widest = lamina_isa_name(0);
  for (bool backward : {false, true}) add({1, 1, 8, 8}, LAMINA_F32, LAMINA_SOFTMAX, false, backward, 1, widest);
  add({1, 1, 65536, 64}, LAMINA_F32, LAMINA_SOFTMAX, false, true, 2, widest);
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  for (const Case& c : cases())
    benchmark::RegisterBenchmark(c.name().c_str(), measure, c)->UseManualTime()->Unit(benchmark::kMicrosecond)->Iterations(
        c.N >= 65536 ? 1 : c.flops() > 1e10 ? 3 : 15);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
