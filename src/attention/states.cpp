// Linear attention by states (states.hpp): blocks of queries ascending for O and dQ, descending for dK and dV. One thread goes
// from block to block with one state; where there are few key heads, several share one: what each block adds to the state is
// found for many blocks at once, then the states of all of them in order, each thread some rows, then what they are for.
#include "attention/states.hpp"

#include <atomic>
#include <cmath>

#include "attention/states_blocks.hpp"

namespace lamina::attention {
namespace {

using kernels::padded;

// States of one key head in memory at a time: what the caches of a core hold, but some for every thread; no bit depends on it.
constexpr int64_t shared_bytes = int64_t{1} << 20, most_shared_bytes = int64_t{8} << 20, states_of_thread = 8;

int64_t state_elements(const Plan& plan) {
  return padded(plan.d) * padded(plan.d_v);
}

// to += x, both states
template <class T>
void add_state(const Call<T>& call, int64_t rows, int64_t cols, const T* x, T* to) {
  call.step.scale_add(rows, cols, nullptr, x, padded(cols), to, padded(cols));
}

// body(index, state) for every block of queries, with the sum M (M^T in LAMINA_BACKWARD) of the keys that all of it see.
template <class T, class Body>
void over_blocks(const Call<T>& call, int32_t direction, const States<T>& x, T* state, const Body& body) {
  const Plan& plan = call.plan;
  const bool forward = direction == LAMINA_FORWARD;
  const int64_t rows = forward ? plan.d : plan.d_v, cols = forward ? plan.d_v : plan.d;
  std::fill_n(state, rows * padded(cols), T(0));
  int64_t held = 0;
  for (int64_t index = 0; index < x.blocks(); ++index) {
    while (held < x.held(index)) {
      const int64_t count = std::min(plan.key_chunk, x.held(index) - held);
      x.key_chain(direction, held, count, x.scratch().add);
      add_state(call, rows, cols, x.scratch().add, state);
      held += count;
    }
    body(index, state);
  }
}

template <class T>
void over_keys(const Call<T>& call, States<T>& x) {
  const Plan& plan = call.plan;
  T* const r = x.scratch().m;
  std::fill_n(r, plan.d * padded(plan.d_v), T(0));
  int64_t end = x.band().last(x.band().queries() - 1);
  const T* r_t = nullptr;  // unless it is to be made
  for (int64_t index = x.last_block(); index >= 0; --index) {
    const Block block = x.block(index);
    const int64_t first = x.seen_by_all(block.i0);
    if (first < end) x.key_gradients(first, end, &block, r, x.transposed(r));
    end = first;
    for (int64_t h = x.first_head(); h < x.first_head() + plan.group; ++h) {
      x.query_chain(h, block, x.scratch().add);
      add_state(call, plan.d, plan.d_v, x.scratch().add, r);
    }
  }
  for (int64_t first = 0; first < end; first += plan.key_chunk) {
    if (!r_t) r_t = x.transposed(r);
    x.key_gradients(first, std::min(first + plan.key_chunk, end), nullptr, r, r_t);
  }
  x.unseen_key_gradients();
}

// The memory of threads that share a key head.
template <class T>
struct SharedScratch {
  T* states;        // those before the first of some blocks, and after each of them
  uint8_t* filled;  // whether a block adds to the state
  double* dscale;   // of every block and head
  SharedScratch(const Plan& plan, int32_t direction, Carver& carver) {
    states = carver.take<T>(plan.shared_states > 0 ? plan.shared_states + 1 : 0, state_elements(plan));
    filled = carver.take<uint8_t>(plan.shared_states);
    const bool backward = direction == LAMINA_BACKWARD && plan.shared_states > 0;
    dscale = carver.take<double>(backward ? plan.group : 0, (plan.L_q + band_block - 1) / band_block);
  }
};

// Several threads on one key head; all in the order of over_blocks and over_keys.
template <class T>
class SharedStates {
 public:
  SharedStates(const Call<T>& call, int32_t direction, const StatesMemory& memory, int64_t b, int64_t group)
      : call_(call), plan_(call.plan), direction_(direction), memory_(memory), b_(b), group_(group), any_(of(0)), w_(carve()) {}

  // body(x, h, index, state, slot) for every block of queries of every head
  template <class Body>
  void over_blocks(const Body& body) {
    const bool forward = direction_ == LAMINA_FORWARD;
    const int64_t rows = forward ? plan_.d : plan_.d_v, cols = forward ? plan_.d_v : plan_.d, blocks = any_.blocks();
    std::fill_n(state(0), rows * padded(cols), T(0));
    const int64_t first_held = any_.held(0), chunks = (first_held + plan_.key_chunk - 1) / plan_.key_chunk;
    for (int64_t first = 0; first < chunks; first += plan_.shared_states) {
      const int64_t count = std::min(plan_.shared_states, chunks - first);
      scan(rows, cols, count, [&](States<T>& x, int64_t k, T* sum) {
        const int64_t j0 = (first + k) * plan_.key_chunk;
        x.key_chain(direction_, j0, std::min(plan_.key_chunk, first_held - j0), sum);
        return true;
      });
      carry(rows, cols, count);
    }
    const int64_t step = any_.has_band() ? plan_.shared_states : blocks;
    for (int64_t first = 0; first < blocks; first += step) {
      const int64_t count = std::min(step, blocks - first);
      if (any_.has_band())
        scan(rows, cols, count, [&](States<T>& x, int64_t k, T* sum) {
          const int64_t index = first + k, from = index > 0 ? x.held(index - 1) : first_held, keys = x.held(index) - from;
          if (keys > 0) x.key_chain(direction_, from, keys, sum);
          return keys > 0;
        });
      for_each_item(plan_, count * plan_.group, [&](int64_t item, int slot) {
        States<T> x = of(slot);
        const int64_t k = item / plan_.group;
        body(x, any_.first_head() + item % plan_.group, first + k, state(any_.has_band() ? k + 1 : 0));
      });
      if (any_.has_band()) carry(rows, cols, count);
    }
  }

  void over_keys() {
    const int64_t last = any_.last_block(), step = plan_.shared_states / plan_.group;
    std::fill_n(state(0), plan_.d * padded(plan_.d_v), T(0));
    for (int64_t first = 0; first <= last; first += step) {
      const int64_t count = std::min(step, last + 1 - first);
      scan(plan_.d, plan_.d_v, count * plan_.group, [&](States<T>& x, int64_t k, T* sum) {
        x.query_chain(any_.first_head() + k % plan_.group, x.block(last - first - k / plan_.group), sum);
        return true;
      });
      if (any_.has_band())
        for_each_item(plan_, count, [&](int64_t k, int slot) {
          States<T> x = of(slot);
          const Block block = x.block(last - first - k);
          const int64_t begin = x.seen_by_all(block.i0), end = first + k == 0 ? x.band().last(x.band().queries() - 1)
                                                                              : x.seen_by_all(block.i0 + x.block_queries());
          const T* r = state(k * plan_.group);
          if (begin < end) x.key_gradients(begin, end, &block, r, x.transposed(r));
        });
      carry(plan_.d, plan_.d_v, count * plan_.group);
    }
    const int64_t end = any_.seen_by_all(0);
    for_each_item(plan_, (end + plan_.key_chunk - 1) / plan_.key_chunk, [&](int64_t item, int slot) {
      States<T> x = of(slot);
      const int64_t first = item * plan_.key_chunk;
      x.key_gradients(first, std::min(first + plan_.key_chunk, end), nullptr, state(0), x.transposed(state(0)));
    });
    any_.unseen_key_gradients();
  }

  // dscale of a block of a head
  double& dscale(int64_t h, int64_t index) { return w_.dscale[(h - any_.first_head()) * any_.blocks() + index]; }
  double dscale_of(int64_t h) {
    double sum = 0;
    for (int64_t index = 0; index < any_.blocks(); ++index) sum += dscale(h, index);
    return sum;
  }

 private:
  States<T> of(int slot) const { return States<T>(call_, direction_, memory_.threads + slot * memory_.stride, b_, group_); }
  SharedScratch<T> carve() const {
    Carver carver(memory_.shared);
    return SharedScratch<T>(plan_, direction_, carver);
  }
  T* state(int64_t k) const { return w_.states + k * state_elements(plan_); }

  // State k + 1 = state k + chain k, k < count ascending. chain(x, k, sum) returns whether there is one.
  template <class Chain>
  void scan(int64_t rows, int64_t cols, int64_t count, const Chain& chain) {
    for_each_item(plan_, count, [&](int64_t k, int slot) {
      States<T> x = of(slot);
      w_.filled[k] = chain(x, k, state(k + 1)) ? 1 : 0;
    });
    constexpr int64_t part = 8;  // rows
    for_each_item(plan_, (rows + part - 1) / part, [&](int64_t item, int) {
      const int64_t count_rows = std::min(part, rows - item * part), at = item * part * padded(cols);
      for (int64_t k = 0; k < count; ++k)
        if (w_.filled[k])
          add_state(call_, count_rows, cols, state(k) + at, state(k + 1) + at);
        else
          std::copy_n(state(k) + at, count_rows * padded(cols), state(k + 1) + at);
    });
  }
  void carry(int64_t rows, int64_t cols, int64_t count) { std::copy_n(state(count), rows * padded(cols), state(0)); }

  const Call<T>& call_;
  const Plan& plan_;
  const int32_t direction_;
  const StatesMemory memory_;
  const int64_t b_, group_;
  States<T> any_;  // for what does not depend on the thread
  const SharedScratch<T> w_;
};

// Of x [rows, cols]; where threads share a key head, by all of them.
template <class T>
Range range(const Call<T>& call, const Matrix<const T>& x, int64_t rows, int64_t cols) {
  if (call.plan.shared_states == 0) return range_of(call, x, 0, rows, cols);
  constexpr int64_t part = 512;  // rows
  std::atomic<int> low{Range().low}, high{Range().high};
  const auto replace = [](std::atomic<int>& old, int by, auto better) {
    for (int seen = old.load(std::memory_order_relaxed); better(by, seen);)
      if (old.compare_exchange_weak(seen, by, std::memory_order_relaxed)) return;
  };
  for_each_item(call.plan, (rows + part - 1) / part, [&](int64_t item, int) {
    const Range here = range_of(call, x, item * part, std::min(part, rows - item * part), cols);
    replace(low, here.low, std::less<int>());
    replace(high, here.high, std::greater<int>());
  });
  return {low.load(std::memory_order_relaxed), high.load(std::memory_order_relaxed)};
}

template <class T>
Ranges ranges(const Call<T>& call, int32_t direction, int64_t b, int64_t group) {
  const Plan& plan = call.plan;
  const Band band = call.band(b);
  Ranges x;
  x.k = range(call, call.of_keys(call.arrays.k, b, group), band.keys(), plan.d);
  x.v = range(call, call.of_keys(call.arrays.v, b, group), band.keys(), plan.d_v);
  for (int64_t h = group * plan.group; h < (group + 1) * plan.group; ++h) {
    x.q.take(range(call, call.of_queries(call.arrays.q, b, h), band.queries(), plan.d));
    if (direction == LAMINA_BACKWARD) x.d_o.take(range(call, call.of_queries(call.arrays.d_o, b, h), band.queries(), plan.d_v));
  }
  return x;
}

// by_several(all) or by_one(x) on one key head; whether its numbers allowed it. With everyone seen each of them passes one
// thread's hands once before a result is known to be good: their sizes are found then, since to read them all beforehand costs
// a tenth of the time.
template <class T, class Several, class One>
bool run_states(const Call<T>& call, int32_t direction, const StatesMemory& memory, int64_t b, int64_t group,
                const Several& by_several, const One& by_one) {
  const Band band = call.band(b);
  if (std::min(band.queries(), band.keys()) < call.plan.states_from) return false;
  const auto hold = [&](const Ranges& x) { return states_in_range<T>(call.plan, direction, band.queries(), band.keys(), x); };
  States<T> x(call, direction, memory.threads, b, group);
  if (memory.shared || x.has_band()) {
    if (!hold(ranges(call, direction, b, group))) return false;
    if (memory.shared)
      by_several(SharedStates<T>(call, direction, memory, b, group));
    else
      by_one(x);
    return true;
  }
  Ranges seen;
  x.measure(seen);
  by_one(x);
  return hold(seen);
}

}  // namespace

// Below, scores are fewer multiply-adds or nearly.
int64_t least_for_states(const Plan& plan) {
  const uint32_t elsewhere = LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES;
  if (plan.map != kernels::Map::linear || plan.normaliser == kernels::Normaliser::row_sum || plan.has(elsewhere) ||
      plan.left >= 0 || plan.d_v == 0)
    return 0;
  const bool everyone = plan.causal == LAMINA_CAUSAL_NONE && plan.right < 0;
  const int64_t width = std::max(plan.d, plan.d_v);
  const int64_t least = everyone ? std::max<int64_t>(64, 2 * width) : std::max<int64_t>(256, 4 * width);
  return std::min(plan.L_q, plan.L_k) >= least ? least : 0;
}

int64_t states_to_share(const Plan& plan) {
  const int64_t threads = plan.team().threads();
  if (plan.states_from == 0 || threads == 1 || plan.n * plan.H_kv >= 2 * threads) return 0;
  const int64_t state_bytes = plan.element_bytes() * state_elements(plan);
  const int64_t most =
      std::min(std::max(shared_bytes / state_bytes, states_of_thread * threads), most_shared_bytes / state_bytes);
  const int64_t needed = std::max(plan.chunks(), plan.group * ((plan.L_q + band_block - 1) / band_block));
  return most >= std::max(2 * threads, plan.group) ? std::min(most, needed) : 0;
}

template <class T>
size_t states_bytes(const Plan& plan, int32_t direction) {
  if (plan.states_from == 0) return 0;
  Carver carver;
  StatesScratch<T>(plan, direction, carver);
  return carver.bytes();
}
template <class T>
size_t shared_states_bytes(const Plan& plan, int32_t direction) {
  if (plan.shared_states == 0) return 0;
  Carver carver;
  SharedScratch<T>(plan, direction, carver);
  return carver.bytes();
}

template <class T>
bool states_forward(const Call<T>& call, const StatesMemory& memory, int64_t b, int64_t group) {
  const auto by_several = [](SharedStates<T>&& all) {
    all.over_blocks([](States<T>& x, int64_t h, int64_t index, const T* m) { x.outputs(h, x.block(index), m); });
  };
  return run_states(call, LAMINA_FORWARD, memory, b, group, by_several, [&](States<T>& x) {
    over_blocks(call, LAMINA_FORWARD, x, x.scratch().m, [&](int64_t index, const T* m) {
      for (int64_t h = x.first_head(); h < x.first_head() + call.plan.group; ++h) x.outputs(h, x.block(index), m);
    });
  });
}

template <class T>
bool states_backward(const Call<T>& call, const StatesMemory& memory, int64_t b, int64_t group, double* dscale) {
  const int64_t heads = call.plan.group, blocks = call.plan.blocks(), first = group * heads;
  std::fill_n(dscale, heads * blocks, 0.0);
  const auto by_several = [&](SharedStates<T>&& all) {
    all.over_blocks([&](States<T>& x, int64_t h, int64_t index, const T* m_t) {
      all.dscale(h, index) = x.query_gradients(h, x.block(index), m_t);
    });
    for (int64_t h = first; h < first + heads; ++h) dscale[(h - first) * blocks] = all.dscale_of(h);
    all.over_keys();
  };
  return run_states(call, LAMINA_BACKWARD, memory, b, group, by_several, [&](States<T>& x) {
    over_blocks(call, LAMINA_BACKWARD, x, x.scratch().m_t, [&](int64_t index, const T* m_t) {
      for (int64_t h = first; h < first + heads; ++h) dscale[(h - first) * blocks] += x.query_gradients(h, x.block(index), m_t);
    });
    over_keys(call, x);
  });
}

template size_t states_bytes<float>(const Plan&, int32_t);
template size_t states_bytes<double>(const Plan&, int32_t);
template size_t shared_states_bytes<float>(const Plan&, int32_t);
template size_t shared_states_bytes<double>(const Plan&, int32_t);
template bool states_forward(const Call<float>&, const StatesMemory&, int64_t, int64_t);
template bool states_forward(const Call<double>&, const StatesMemory&, int64_t, int64_t);
template bool states_backward(const Call<float>&, const StatesMemory&, int64_t, int64_t, double*);
template bool states_backward(const Call<double>&, const StatesMemory&, int64_t, int64_t, double*);

}  // namespace lamina::attention
