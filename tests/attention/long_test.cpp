// The memory of long sequences: 65 536 queries and keys of width 64 in float32, forward and backward, in a process of its own.
// Its peak must stay within inputs and outputs and 64 MB, and the results must be right where they are looked at.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "lamina/lamina.h"

namespace {

constexpr int64_t N = 65536, D = 64;

// Kilobytes of /proc/self/status: "VmHWM:" the peak of resident memory so far, "VmRSS:" what is resident now.
long status_kb(const char* key) {
  FILE* file = std::fopen("/proc/self/status", "r");
  char line[256];
  long value = -1;
  while (file && std::fgets(line, sizeof line, file))
    if (std::strncmp(line, key, std::strlen(key)) == 0) value = std::atol(line + std::strlen(key));
  if (file) std::fclose(file);
  return value;
}

// Row i of O in double, from the formula.
double error_of_row(const std::vector<float>& q, const std::vector<float>& k, const std::vector<float>& v,
                    const std::vector<float>& o, int64_t i) {
  std::vector<double> p(N), want(D);
  double sum = 0, worst = 0;
  for (int64_t j = 0; j < N; ++j) {
    double s = 0;
    for (int64_t f = 0; f < D; ++f) s += static_cast<double>(q[i * D + f]) * k[j * D + f];
    sum += p[j] = std::exp(s / 8);
  }
  for (int64_t j = 0; j < N; ++j)
    for (int64_t f = 0; f < D; ++f) want[f] += p[j] / sum * v[j * D + f];
  for (int64_t f = 0; f < D; ++f) worst = std::fmax(worst, std::fabs(want[f] - o[i * D + f]));
  return worst;
}

int run() {
  std::vector<std::vector<float>> arrays(8, std::vector<float>(N * D));  // q k v d_o, o d_q d_k d_v
  uint32_t state = 1;
  for (int a = 0; a < 4; ++a)
    for (auto& x : arrays[a]) state = state * 1664525u + 1013904223u, x = static_cast<float>(state >> 8) * 0x1p-23f - 1;
  const long before = status_kb("VmRSS:");

  lamina_attention_spec spec;
  lamina_attention* plan = nullptr;
  lamina_attention_arrays call;
  lamina_attention_spec_init(&spec, sizeof spec);
  lamina_attention_arrays_init(&call, sizeof call);
  spec.element = LAMINA_F32, spec.batch = spec.heads = 1, spec.queries = spec.keys = N, spec.width = D;
  if (lamina_attention_create(&spec, &plan) != LAMINA_OK) return std::puts(lamina_last_error()), 1;
  lamina_input* inputs[] = {&call.q, &call.k, &call.v, &call.d_o};
  lamina_output* outputs[] = {&call.o, &call.d_q, &call.d_k, &call.d_v};
  for (int a = 0; a < 4; ++a) {
    *inputs[a] = {arrays[a].data(), {N * D, N * D, D, 1}};
    *outputs[a] = {arrays[4 + a].data(), {N * D, N * D, D, 1}};
  }
  if (lamina_attention_forward(plan, &call, nullptr, 0) != LAMINA_OK ||
      lamina_attention_backward(plan, &call, nullptr, 0) != LAMINA_OK)
    return std::puts(lamina_last_error()), 1;
  lamina_attention_free(plan);

  const double more = static_cast<double>(status_kb("VmHWM:") - before) / 1024;
  double error = 0;
  for (const int64_t i : {int64_t{0}, N / 3, N - 1})
    error = std::fmax(error, error_of_row(arrays[0], arrays[1], arrays[2], arrays[4], i));
  std::printf("beyond inputs and outputs (%.0f MB): %.1f MB at the peak; largest error of three rows %.1e\n",
              8.0 * N * D * sizeof(float) / 1048576, more, error);
  return more <= 64 && error <= 1e-6 ? 0 : 1;
}

}  // namespace

int main() {
  return run();
}
