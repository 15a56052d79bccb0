// The plan: every field of the spec checked and every default resolved, then the sizes of blocks and scratch memory.
#include <cmath>
#include <string>

#include "attention/attention.hpp"
#include "attention/scratch.hpp"
#include "attention/short.hpp"
#include "attention/states.hpp"
#include "attention/tile.hpp"
#include "base/error.hpp"

namespace lamina::attention {
namespace {

constexpr int64_t extent_limit = int64_t{1} << 40;  // so that sums of a few extents never overflow
constexpr int32_t threads_limit = 1024;
constexpr uint32_t all_flags = (LAMINA_WITH_OFFSETS << 1) - 1;

// Queries of a block: no bit depends on it. Keys of a tile: part of the order of summation, so a function of the element type
// alone; a tile of either type takes 64 KiB.
constexpr int64_t block_queries = block_panels * panel;
constexpr int64_t chunk_keys(bool f64) {
  return f64 ? 128 : 256;
}
// Backward keeps all tiles of a block while they fit the third-level cache, and sums dK and dV of a whole head while they are
// no more than this for a thread, or partial_bytes for all; both change what is computed twice, and no bit.
constexpr int64_t panel_bytes = int64_t{8} << 20;
constexpr int64_t sums_bytes = int64_t{4} << 20;
// Where few key heads are to occupy several threads, segments of queries have sums dK and dV of their own, in so many bytes;
// also the most for the sums, two a thread, of long sequences of many heads.
constexpr int64_t partial_bytes = int64_t{48} << 20;
// Multiply-adds of a call, n H L_q L_k (d + d_v), below which threads cost more than they save (about 20 us of one core).
constexpr double parallel_products = 1 << 20;

[[noreturn]] void fail_integer(const char* field, int64_t value, const std::string& allowed) {
  fail(LAMINA_E_ARGUMENT, std::string(field) + " is " + std::to_string(value) + ", must be " + allowed);
}
int64_t in_range(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) fail_integer(field, value, std::to_string(low) + ".." + std::to_string(high));
  return value;
}
int64_t extent(const char* field, int64_t value, int64_t low) {
  return in_range(field, value, low, extent_limit);
}

// The bytes of an array of these extents must be a pointer difference.
void check_product(const char* what, int64_t element_bytes, std::initializer_list<int64_t> extents) {
  int64_t product = element_bytes;
  for (const int64_t value : extents)
    if (value > 0 && __builtin_mul_overflow(product, value, &product))
      fail(LAMINA_E_ARGUMENT, std::string(what) + ": an array of more than 2^63 - 1 bytes, must be less");
}

int64_t window(const char* field, int64_t value, bool given, const char* flag) {
  if (!given) {
    if (value != 0) fail_integer(field, value, std::string("0 without ") + flag);
    return -1;
  }
  if (value < 0) fail_integer(field, value, "0 or more");
  return value;
}

const kernels::InstructionSet* choose(const char* isa) {
  if (const kernels::InstructionSet* set = kernels::select(isa)) return set;
  std::string names;
  for (int32_t i = 0; i < kernels::count(); ++i) names.append(i ? ", " : "").append(kernels::at(i)->name);
  std::string text = "isa is ";
  text.append(isa && *isa ? isa : "that of LAMINA_ISA").append(", must be one that this CPU runs: ").append(names);
  fail(LAMINA_E_UNSUPPORTED, text);
}

// How fast each way of short sequences (short.hpp) is with all lanes at work, a key head a lane being 1, as measured
// (bench/attention): by the share of its registers that the features fill, and of how many there are.
struct Speeds {
  double key_heads = 1, queries, block = 0;

  // What comes from memory comes slower by as many streams as there are lanes if heads are short, and by many passes: on AVX2
  // forward reads K and V once for a register of queries, number by number, so a head should be in the nearest cache by then.
  Speeds(const Plan& plan, bool forward, bool wide, int64_t lanes) {
    const int64_t width = std::max(plan.d, plan.d_v), registers = (width + lanes - 1) / lanes;
    const double filled = static_cast<double>(width) / static_cast<double>(registers * lanes);
    const bool band = plan.causal != LAMINA_CAUSAL_NONE || plan.left >= 0 || plan.right >= 0, partly = width < lanes;
    const int64_t head_bytes = plan.L_k * (plan.d + plan.d_v) * plan.element_bytes();
    const bool from_memory = plan.n * plan.H_kv * head_bytes > (int64_t{1} << 20);
    if (from_memory && head_bytes <= 4096 && (!forward || !band || plan.f64)) key_heads = wide ? 0.9 : 0.76;
    if (wide) {  // a block is a query a lane, and more around it
      queries = (0.6 + 0.65 * filled + (registers > 1 ? 0.1 : 0)) * (!band ? 1 : forward ? 0.78 : 0.64);
    } else if (forward) {
      block = band ? 0.675 : 1.35;
      queries = 1.6 * (partly ? (band ? 0.6 : 0.85) : filled) * (from_memory && head_bytes > 16384 ? 0.75 : 1) * (band ? 0.9 : 1);
    } else {
      block = band ? 0.6 : 1.2;
      queries = (band ? 0.8 : 1.4) * (partly ? 0.85 : 1);
    }
  }
};

// What fills the lanes of a register best, by how many of them work and how fast each way is. The reference is given what
// AVX-512 is given, so that it is tested.
Plan::Lanes choose_lanes(const Plan& plan, int32_t direction) {
  const uint32_t elsewhere =
      LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES | LAMINA_WITH_OFFSETS;
  const int64_t heads = plan.n * plan.H_kv;
  const bool is_short = std::max(plan.L_q, plan.L_k) <= short_tokens && std::max(plan.d, plan.d_v) <= short_width;
  const uint32_t not_by_keys = LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES | (direction == LAMINA_BACKWARD ? LAMINA_WITH_BIAS : 0);
  if (!plan.has(not_by_keys) && !is_short && heads > 0 && plan.L_q > 0 && plan.L_q <= few_rows && plan.L_k > 0)
    return Plan::Lanes::keys;
  if (plan.states_from > 0 || plan.has(elsewhere) || !is_short || heads == 0 || plan.L_q == 0) return Plan::Lanes::block;
  const int64_t widest = 64 / plan.element_bytes();
  const int64_t entries = plan.f64 ? plan.isa->f64->short_attention.entries : plan.isa->f32->short_attention.entries;
  const bool wide = entries == widest || entries == 1;
  const int64_t lanes = wide ? widest : entries;
  const auto at_work = [&](int64_t count) {
    const int64_t registers = (count + lanes - 1) / lanes;
    return static_cast<double>(count) / static_cast<double>(std::max<int64_t>(registers, 1) * lanes);
  };
  const Speeds speed(plan, direction == LAMINA_FORWARD, wide, lanes);
  const double by_key_head = at_work(heads) * speed.key_heads, by_query = at_work(plan.L_q) * speed.queries;
  const double by_block = std::min(1.0, static_cast<double>(plan.L_q) / static_cast<double>(4 * lanes)) * speed.block;
  if (by_key_head >= std::max(by_query, by_block)) return Plan::Lanes::key_heads;
  return by_query >= by_block ? Plan::Lanes::queries : Plan::Lanes::block;
}

// Which backward sweeps: with segments 5 products for each score (8 if tiles are not kept), in whole rounds of the threads;
// twice 7 (10), divided as finely as one likes. Of two segments to a thread the late ones of causal order can go with early
// ones.
int64_t sums_at_once(const Plan& plan) {
  const int64_t threads = plan.team().threads();
  const int64_t of_key = (kernels::padded(plan.d) + kernels::padded(plan.d_v)) * plan.element_bytes();
  const int64_t items = plan.n * plan.H_kv * plan.parts();
  const int64_t most = std::min({items, 2 * threads, partial_bytes / of_key / std::max<int64_t>(plan.L_k, 1) - 2});
  return most > threads ? most / threads * threads : most;
}
bool segments_pay(const Plan& plan) {
  if (plan.partial_sums < 2) return false;
  const int64_t threads = plan.team().threads(), items = plan.n * plan.H_kv * plan.parts();
  const int64_t waves = items / plan.partial_sums, last = items % plan.partial_sums;
  const auto rounds = [&](int64_t count) { return (count + threads - 1) / threads; };
  const int64_t steps = (waves * rounds(plan.partial_sums) + rounds(last)) * threads;
  return (plan.keep_tiles ? 5 : 8) * steps < (plan.keep_tiles ? 7 : 10) * items;
}

template <class T>
size_t room(const Plan& plan, int32_t direction) {
  switch (plan.lanes(direction)) {
    case Plan::Lanes::key_heads:
      return short_workspace<T>(plan, direction);
    case Plan::Lanes::queries:
      return few_workspace<T>(plan, direction);
    case Plan::Lanes::keys:
      return keys_workspace<T>(plan, direction);
    case Plan::Lanes::block:
      break;
  }
  return direction == LAMINA_FORWARD ? forward_workspace<T>(plan) : backward_workspace<T>(plan);
}

}  // namespace

Plan::Plan(const lamina_attention_spec& spec) {
  f64 = in_range("element", spec.element, 0, LAMINA_F32) != LAMINA_F32;
  map = spec.map == 0 ? kernels::Map::softmax : static_cast<kernels::Map>(in_range("map", spec.map, 0, LAMINA_RELU));
  const bool softmax = map == kernels::Map::softmax;
  in_range("normaliser", spec.normaliser, LAMINA_NORMALISE_DEFAULT, LAMINA_NORMALISE_ROW_SUM);
  if (softmax && spec.normaliser != LAMINA_NORMALISE_DEFAULT && spec.normaliser != LAMINA_NORMALISE_ROW_SUM)
    fail_integer("normaliser", spec.normaliser, "LAMINA_NORMALISE_ROW_SUM (3) or 0 for softmax");
  normaliser = spec.normaliser != LAMINA_NORMALISE_DEFAULT ? static_cast<Normaliser>(spec.normaliser)
               : softmax                                   ? Normaliser::row_sum
                                                           : Normaliser::none;
  causal = static_cast<int32_t>(in_range("causal", spec.causal, LAMINA_CAUSAL_NONE, LAMINA_CAUSAL_BOTTOM_RIGHT));
  in_range("threads", spec.threads, 0, threads_limit);
  flags = spec.flags;
  if (flags & ~all_flags) fail_integer("flags", flags, "a combination of 0.." + std::to_string(all_flags));
  if (spec.reserved != 0) fail_integer("reserved", spec.reserved, "0");
  if (has(LAMINA_WITH_LSE) && !softmax) fail_integer("flags", flags, "without LAMINA_WITH_LSE (16) unless the map is softmax");

  n = extent("batch", spec.batch, 0);
  H = extent("heads", spec.heads, 0);
  H_kv = spec.kv_heads == 0 ? H : extent("kv_heads", spec.kv_heads, 0);
  if (H_kv > H || (H_kv > 0 && H % H_kv != 0))
    fail_integer("kv_heads", H_kv, "a divisor of heads, which is " + std::to_string(H));
  group = H_kv > 0 ? H / H_kv : 1;
  L_q = extent("queries", spec.queries, 0);
  L_k = extent("keys", spec.keys, 0);
  d = extent("width", spec.width, 1);
  d_v = spec.value_width == 0 ? d : extent("value_width", spec.value_width, 0);
  check_product("batch, heads, queries, width", element_bytes(), {n, H, L_q, std::max(d, d_v)});
  check_product("batch, kv_heads, keys, width", element_bytes(), {n, H_kv, L_k, std::max(d, d_v)});
  if (flags & (LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES))
    check_product("batch, heads, queries, keys", element_bytes(), {n, H, L_q, L_k});

  of_q = {n, H, L_q, d}, of_k = {n, H_kv, L_k, d}, of_v = {n, H_kv, L_k, d_v};
  of_o = {n, H, L_q, d_v}, of_lse = {n, H, L_q, 1}, of_pairs = {n, H, L_q, L_k};

  left = window("window_left", spec.window_left, has(LAMINA_WINDOW_LEFT), "LAMINA_WINDOW_LEFT");
  right = window("window_right", spec.window_right, has(LAMINA_WINDOW_RIGHT), "LAMINA_WINDOW_RIGHT");
  const double log2_scale = softmax ? spec.scale * 0x1.71547652b82fep+0 : spec.scale;  // what Q is multiplied by
  if (!std::isfinite(log2_scale) || (!f64 && !std::isfinite(static_cast<float>(log2_scale))))
    fail_argument("scale", spec.scale, "finite in the element type");
  if (spec.scale != 0 && !f64 && static_cast<float>(spec.scale) == 0)
    fail_argument("scale", spec.scale, "0 (the default), or not rounding to 0 in the element type");
  if (has(LAMINA_SCALE_IS_ZERO) && spec.scale != 0) fail_argument("scale", spec.scale, "0 with LAMINA_SCALE_IS_ZERO");
  scale = spec.scale != 0 ? spec.scale : has(LAMINA_SCALE_IS_ZERO) ? 0.0 : 1 / std::sqrt(static_cast<double>(d));
  if (!(spec.relu_at_zero >= 0 && spec.relu_at_zero <= 1)) fail_argument("relu_at_zero", spec.relu_at_zero, "0..1");
  relu_at_zero = spec.relu_at_zero;
  allocator = spec.allocator;
  if ((allocator.allocate == nullptr) != (allocator.release == nullptr))
    fail(LAMINA_E_ARGUMENT, std::string("allocator.") + (allocator.allocate ? "release" : "allocate") +
                                " is NULL, must be given when the other function is");
  isa = choose(spec.isa);

  query_block = std::min(block_queries, std::max<int64_t>(L_q, 1));
  key_chunk = std::min(chunk_keys(f64), std::max<int64_t>(L_k, 1));
  const auto fits = [&](int64_t limit, int64_t per_key) { return L_k <= limit / (per_key * element_bytes()); };
  keep_tiles = fits(panel_bytes, 2 * kernels::padded(query_block));
  const double products = static_cast<double>(n) * H * L_q * L_k * static_cast<double>(d + d_v);
  const bool serial = spec.threads == 1 || products < parallel_products;
  team_ = std::make_unique<Team>(serial ? 1 : spec.threads);
  states_from = least_for_states(*this);
  shared_states = states_to_share(*this);
  const int64_t tiles_of_bias = has(LAMINA_WITH_BIAS) ? n * H * blocks() * chunks() : 0;  // backward may share these out
  const int64_t items = std::max({n * H * blocks(), n * H_kv * chunks(), tiles_of_bias});
  slots = shared_states > 0 ? team_->threads() : static_cast<int>(std::clamp<int64_t>(items, 1, team_->threads()));
  partial_sums = sums_at_once(*this);
  const bool head_fits = fits(std::max(sums_bytes, partial_bytes / (2 * slots)), d + d_v);
  const bool own = serial || states_from > 0 || n * H_kv >= 2 * team_->threads();  // a thread has key heads of its own
  sweep = own ? (head_fits ? Sweep::key_head : Sweep::twice) : segments_pay(*this) ? Sweep::segments : Sweep::twice;
  forward_lanes_ = choose_lanes(*this, LAMINA_FORWARD);
  backward_lanes_ = choose_lanes(*this, LAMINA_BACKWARD);
  forward_bytes_ = f64 ? room<double>(*this, LAMINA_FORWARD) : room<float>(*this, LAMINA_FORWARD);
  backward_bytes_ = f64 ? room<double>(*this, LAMINA_BACKWARD) : room<float>(*this, LAMINA_BACKWARD);
}

size_t Plan::workspace(int32_t direction) const {
  in_range("direction", direction, LAMINA_FORWARD, LAMINA_BACKWARD);
  return direction == LAMINA_FORWARD ? forward_bytes_ : backward_bytes_;
}

}  // namespace lamina::attention
