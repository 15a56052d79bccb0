// One query or a few against many keys, as when a sequence goes on by one position, or is read at its last: one key a lane. The
// rows of all heads that read a key head are worked on together, so that K and V are read once for all; rows of scores stand in
// memory, so that chunks of keys may go to several threads. Chunks and sums are those of forward.cpp and backward.cpp, and so
// are the bits.
#include <iterator>

#include "attention/key_lanes.hpp"
#include "attention/short.hpp"

namespace lamina::attention {
namespace {

// Whether threads share a key head, chunk by chunk: where there are fewer than two for each.
bool shares_chunks(const Plan& plan) {
  return plan.slots > 1 && plan.chunks() > 1 && plan.n * plan.H_kv < 2 * int64_t{plan.slots};
}

// The steps above, of one key head after the other, or of all of them step by step, where a step of chunks is shared out.
template <class T>
void run(const Plan& plan, const lamina_attention_arrays& arrays, int32_t direction, char* memory, double* dscale) {
  using Lanes = KeyLanes<T>;
  struct Step {
    void (Lanes::*of_chunk)(int64_t c, const ChunkMemory<T>& room) const;
    void (Lanes::*of_head)() const;
  };
  static constexpr Step forward[] = {{nullptr, &Lanes::load},      {&Lanes::score, nullptr},   {nullptr, &Lanes::maxima},
                                     {&Lanes::weigh, nullptr},     {&Lanes::product, nullptr}, {nullptr, &Lanes::finish}};
  static constexpr Step backward[] = {{nullptr, &Lanes::load},       {&Lanes::score, nullptr},
                                      {nullptr, &Lanes::maxima},     {&Lanes::weigh, nullptr},
                                      {nullptr, &Lanes::statistics}, {&Lanes::gradients, nullptr},
                                      {nullptr, &Lanes::finish_gradients}};
  const bool shared = shares_chunks(plan);
  const Step* const first = direction == LAMINA_FORWARD ? std::begin(forward) : std::begin(backward);
  const Step* const last = direction == LAMINA_FORWARD ? std::end(forward) : std::end(backward);
  const Call<T> call(plan, arrays);
  const size_t of_head = bytes_of<HeadMemory<T>>(plan, direction), of_chunk = bytes_of<ChunkMemory<T>>(plan, direction);
  const int64_t items = plan.n * plan.H_kv, chunks = plan.chunks();
  char* const rooms = memory + of_head * static_cast<size_t>(shared ? items : plan.slots);
  // Steps first .. last - 1 of a key head, of chunks c0 <= c < c1 of it.
  const auto work = [&](const Step* step, const Step* end, int64_t item, int64_t c0, int64_t c1, int slot) {
    Carver head_carver(memory + of_head * static_cast<size_t>(shared ? item : slot));
    Carver room_carver(rooms + of_chunk * static_cast<size_t>(slot));
    const HeadMemory<T> head(plan, direction, head_carver);
    const ChunkMemory<T> room(plan, direction, room_carver);
    const Lanes x(call, direction, head, item / plan.H_kv, item % plan.H_kv, dscale);
    for (; step < end; ++step) {
      if (step->of_head) (x.*step->of_head)();
      for (int64_t c = c0; c < c1 && step->of_chunk; ++c)
        if (x.has(c)) (x.*step->of_chunk)(c, room);
    }
  };
  if (!shared)
    return for_each_item(plan, items, [&](int64_t item, int slot) { work(first, last, item, 0, chunks, slot); });
  for (const Step* step = first; step < last; ++step) {
    const int64_t pieces = step->of_chunk ? chunks : 1;
    for_each_item(plan, items * pieces, [&](int64_t item, int slot) {
      work(step, step + 1, item / pieces, item % pieces, item % pieces + 1, slot);
    });
  }
}

}  // namespace

template <class T>
size_t keys_workspace(const Plan& plan, int32_t direction) {
  Carver carver;
  if (direction == LAMINA_BACKWARD) carver.take<double>(plan.n, plan.H);
  carver.take<char>(shares_chunks(plan) ? plan.n * plan.H_kv : plan.slots, static_cast<int64_t>(bytes_of<HeadMemory<T>>(plan, direction)));
  carver.take<char>(plan.slots, static_cast<int64_t>(bytes_of<ChunkMemory<T>>(plan, direction)));
  return carver.bytes();
}

template <class T>
void keys_forward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory) {
  run<T>(plan, arrays, LAMINA_FORWARD, memory, nullptr);
}

template <class T>
void keys_backward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory) {
  Carver carver(memory);
  double* const dscale = carver.take<double>(plan.n, plan.H);
  run<T>(plan, arrays, LAMINA_BACKWARD, memory + carver.bytes(), dscale);
  if (!arrays.d_scale) return;
  double sum = 0;
  for (int64_t h = 0; h < plan.n * plan.H; ++h) sum += dscale[h];
  *arrays.d_scale = sum;
}

template size_t keys_workspace<float>(const Plan&, int32_t);
template size_t keys_workspace<double>(const Plan&, int32_t);
template void keys_forward<float>(const Plan&, const lamina_attention_arrays&, char*);
template void keys_forward<double>(const Plan&, const lamina_attention_arrays&, char*);
template void keys_backward<float>(const Plan&, const lamina_attention_arrays&, char*);
template void keys_backward<double>(const Plan&, const lamina_attention_arrays&, char*);

}  // namespace lamina::attention
