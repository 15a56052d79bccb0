// Pages without access around every array and the workspace: one element read or written beyond them, on either side, is a
// crash. And what a million calls leave behind in memory: nothing.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>

#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

// Memory that ends, or begins, at a page without access. Aligned to `alignment` where it cannot end there exactly.
class Fenced {
 public:
  Fenced(size_t bytes, bool at_end, size_t alignment) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), pages = (bytes + page - 1) / page + 1;
    size_ = (pages + 1) * page;
    base_ = static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(base_, MAP_FAILED);
    mprotect(base_, page, PROT_NONE);
    mprotect(base_ + size_ - page, page, PROT_NONE);
    if (pages == 1) mprotect(base_, size_, PROT_NONE);  // no bytes: none may be touched
    data_ = at_end ? base_ + size_ - page - bytes : base_ + page;
    data_ -= reinterpret_cast<uintptr_t>(data_) % alignment;
  }
  ~Fenced() { munmap(base_, size_); }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;
  void* data() const { return data_; }

 private:
  char *base_, *data_;
  size_t size_;
};

// A dense copy of an input's numbers, or room for an output's, between fences; features contiguous or one row apart.
template <class T>
class Side {
 public:
  Side(bool at_end, bool transposed) : at_end_(at_end), transposed_(transposed) {}
  template <class Source>
  lamina_input input(const std::vector<Source>& from, const Extents& e) {
    const lamina_output at = output(e);
    auto* to = static_cast<T*>(at.data);
    size_t n = 0;
    for (int64_t b = 0; b < e[0]; ++b)
      for (int64_t h = 0; h < e[1]; ++h)
        for (int64_t i = 0; i < e[2]; ++i)
          for (int64_t f = 0; f < e[3]; ++f)
            to[b * at.stride[0] + h * at.stride[1] + i * at.stride[2] + f * at.stride[3]] = static_cast<T>(from[n++]);
    return {at.data, {at.stride[0], at.stride[1], at.stride[2], at.stride[3]}};
  }
  lamina_output output(const Extents& e) {
    held_.push_back(std::make_unique<Fenced>(static_cast<size_t>(count(e)) * sizeof(T), at_end_, sizeof(T)));
    const int64_t rows = std::max<int64_t>(e[2], 1), cols = std::max<int64_t>(e[3], 1), heads = std::max<int64_t>(e[1], 1);
    return {held_.back()->data(), {heads * rows * cols, rows * cols, transposed_ ? 1 : cols, transposed_ ? rows : 1}};
  }

 private:
  bool at_end_, transposed_;
  std::vector<std::unique_ptr<Fenced>> held_;
};

template <class T>
void check(const Problem& p, const char* isa, bool at_end, bool transposed, int32_t threads) {
  Side<T> side(at_end, transposed);
  Side<uint8_t> bytes(at_end, transposed);
  lamina_attention_arrays c;
  ASSERT_EQ(lamina_attention_arrays_init(&c, sizeof c), LAMINA_OK);
  const Extents q = {p.B(), p.H(), p.Lq(), p.D()}, k = {p.B(), p.H_kv(), p.Lk(), p.D()}, v = {p.B(), p.H_kv(), p.Lk(), p.Dv()};
  const Extents o = {p.B(), p.H(), p.Lq(), p.Dv()}, row = {p.B(), p.H(), p.Lq(), 1}, square = {p.B(), p.H(), p.Lq(), p.Lk()};
  c.q = side.input(p.q, q), c.k = side.input(p.k, k), c.v = side.input(p.v, v), c.d_o = side.input(p.d_o, o);
  c.o = side.output(o), c.d_q = side.output(q), c.d_k = side.output(k), c.d_v = side.output(v);
  if (p.has(LAMINA_WITH_BIAS)) c.bias = side.input(p.bias, square), c.d_bias = side.output(square);
  if (p.has(LAMINA_WITH_MASK)) c.mask = bytes.input(p.mask, square);
  if (p.has(LAMINA_WITH_LSE)) c.lse = side.output(row), c.d_lse = side.input(p.d_lse, row);
  if (p.has(LAMINA_WITH_WEIGHTS)) c.weights = side.output(square), c.d_weights = side.input(p.d_weights, square);
  if (p.has(LAMINA_WITH_SCORES)) c.scores = side.output(square);
  lamina_attention_spec spec = p.spec;
  spec.isa = isa, spec.threads = threads;
  const Plan plan = make_plan(spec);
  for (const int32_t direction : {LAMINA_FORWARD, LAMINA_BACKWARD}) {
    size_t needed = 0;
    ASSERT_EQ(lamina_attention_workspace(plan.get(), direction, &needed), LAMINA_OK);
    const Fenced workspace(needed, at_end, 64);
    const auto call = direction == LAMINA_FORWARD ? lamina_attention_forward : lamina_attention_backward;
    ASSERT_EQ(call(plan.get(), &c, workspace.data(), needed), LAMINA_OK) << lamina_last_error() << describe(p);
  }
}

TEST(AttentionPages, NothingBeyondIsReadOrWritten) {
  static const int64_t lengths[] = {1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 100, 130, 257};
  static const int64_t widths[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 64, 65, 80, 128};
  for (uint64_t seed = 1; seed <= 150 && !HasFatalFailure(); ++seed) {
    Dice dice(seed);
    lamina_attention_spec s = new_spec();
    s.element = seed % 2 ? LAMINA_F32 : LAMINA_F64;
    s.map = 1 + static_cast<int32_t>(dice.below(3));
    if (s.map != LAMINA_SOFTMAX) s.normaliser = static_cast<int32_t>(dice.below(4));
    s.batch = 1 + dice.below(dice.chance(0.3) ? 20 : 2), s.kv_heads = 1, s.heads = 1 + dice.below(2);
    s.queries = lengths[dice.below(14)], s.keys = lengths[dice.below(14)];
    s.width = widths[dice.below(18)], s.value_width = widths[dice.below(18)];
    while (s.batch > 1 && s.batch * s.heads * s.queries * s.keys * (s.width + s.value_width) > 400000) s.batch /= 2;
    s.causal = static_cast<int32_t>(dice.below(3));
    if (dice.chance(0.3)) s.flags |= LAMINA_WITH_BIAS;
    if (dice.chance(0.3)) s.flags |= LAMINA_WITH_MASK;
    if (dice.chance(0.3)) s.flags |= LAMINA_WITH_WEIGHTS;
    if (dice.chance(0.3)) s.flags |= LAMINA_WITH_SCORES;
    if (s.map == LAMINA_SOFTMAX && dice.chance(0.3)) s.flags |= LAMINA_WITH_LSE;
    const Problem p = make_problem(s, seed);
    const char* isa = lamina_isa_name(static_cast<int32_t>(seed / 2 % static_cast<uint64_t>(lamina_isa_count())));
    for (const bool at_end : {true, false})
      for (const bool transposed : {false, true}) {
        SCOPED_TRACE(describe(p) + " isa=" + isa);
        s.element == LAMINA_F32 ? check<float>(p, isa, at_end, transposed, 1) : check<double>(p, isa, at_end, transposed, 3);
      }
  }
}

int64_t resident_bytes() {
  FILE* file = std::fopen("/proc/self/statm", "r");
  long total = 0, resident = 0;
  if (!file || std::fscanf(file, "%ld %ld", &total, &resident) != 2) resident = 0;
  if (file) std::fclose(file);
  return resident * sysconf(_SC_PAGESIZE);
}

TEST(AttentionPages, AMillionCallsLeaveNothing) {
  lamina_attention_spec s = new_spec();
  s.element = LAMINA_F32, s.batch = s.heads = 1, s.queries = s.keys = s.width = 8;
  const Problem p = make_problem(s, 1);
  const Plan plan = make_plan(s);
  Arrays<float> arrays(p);
  size_t bytes = 0;
  ASSERT_EQ(lamina_attention_workspace(plan.get(), LAMINA_BACKWARD, &bytes), LAMINA_OK);
  Workspace workspace(bytes);
  int64_t failures = 0;
  const auto calls = [&](int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      void* const memory = i % 2 ? workspace.data() : nullptr;
      failures += lamina_attention_forward(plan.get(), &arrays.c, memory, bytes) != LAMINA_OK;
      failures += lamina_attention_backward(plan.get(), &arrays.c, memory, bytes) != LAMINA_OK;
      if (i % 100 == 0) failures += make_plan(s) == nullptr;
    }
  };
  calls(1000);
  const int64_t before = resident_bytes();
  ASSERT_GT(before, 0);
  calls(500000);
  const int64_t grown = resident_bytes() - before;
  printf("1 000 000 calls, 5000 plans: resident memory grew by %lld bytes\n", static_cast<long long>(grown));
  EXPECT_LE(grown, 1 << 20);
  EXPECT_EQ(failures, 0);
}

}  // namespace
