// Linear attention in linear time. Where the map is linear, sums over keys do not need the scores: with the state M of all keys
// that a query sees,
//   M = sum_j K[j,:]^T V[j,:]  [d, d_v]:            O_i = scale / N_i (Q_i M)     dQ_i = scale (dO_i / N_i) M^T
// and with that of all queries that see a key,
//   R = sum_i Q[i,:]^T dO[i,:] / N_i  [d, d_v]:     dV_j = scale (K_j R)          dK_j = scale (V_j R^T)
// A band without a left side (causal order, a right window) is cut into blocks of queries: what all of a block see is in M, and
// the keys that only some see, at most as many as it has queries, are scores in a tile as in forward.cpp. [Katharopoulos et
// al., "Transformers are RNNs", 2020, eqs. 8 to 12, in chunks.]
//
// The bits: a state is the sum of chains, one a chunk of keys (with a band: what each block adds) or a block of queries,
// ascending for M, descending for R; Q is not scaled; x = a chain over the features of the state that goes on over the keys
// (queries) of the tile, ascending; O = [x [scale / N]]; [dO / N] stands for dO; dQ, dK, dV = [scale x]. The error: a term Q K
// V passes a chain of c keys, the sum of n chunks, a chain of d features and two factors, so
//   |O - O*| <= u (c + n + d + 4) scale / N sum_j sum_f |Q||K||V|
// to first order, and the least normal number, as by scores, where it passes the same sums in another order. Threads that share a key head make chains of
// many blocks at once and then add them in this order.
#pragma once
#include "attention/call.hpp"

namespace lamina::attention {

// The least number of queries and of keys that makes states the way of a sequence; 0: none does. (Plan::states_from)
int64_t least_for_states(const Plan& plan);

// Queries of a block where there is a band: few, for the pairs of a tile are as many for each query, but enough for the
// products.
inline constexpr int64_t band_block = 32;

// How many states of one key head are in memory at a time where several threads share it, as they do where there are fewer key
// heads than occupy them; 0: they do not. (Plan::shared_states)
int64_t states_to_share(const Plan& plan);

template <class T>
size_t states_bytes(const Plan& plan, int32_t direction);
template <class T>
size_t shared_states_bytes(const Plan& plan, int32_t direction);

// Where threads share key heads: `threads` is the memory of thread 0, `stride` bytes before that of the next, and `shared`
// their common one, shared_states_bytes. Else that of the thread that calls, states_bytes, and nullptr.
struct StatesMemory {
  char* threads;
  size_t stride;
  char* shared;
};

// body(b, group, slot) for all key heads: by the calling thread where threads share each.
template <class Body>
void for_each_key_head(const Plan& plan, const Body& body) {
  const auto one = [&](int64_t item, int slot) { body(item / plan.H_kv, item % plan.H_kv, slot); };
  if (plan.shared_states == 0) return for_each_item(plan, plan.n * plan.H_kv, one);
  for (int64_t item = 0; item < plan.n * plan.H_kv; ++item) one(item, 0);
}

// All results of one key head and of the heads that read it, or false, and the results are any: where queries or keys are too
// few, and where a number of Q, K, V (and dO in LAMINA_BACKWARD) is not finite, for a state would spread an infinity to queries
// whose scores it makes infinite, as NaN; or not in range (states_range.hpp). dscale [group, blocks]: of a head in its first
// place.
template <class T>
bool states_forward(const Call<T>& call, const StatesMemory& memory, int64_t b, int64_t group);
template <class T>
bool states_backward(const Call<T>& call, const StatesMemory& memory, int64_t b, int64_t group, double* dscale);

}  // namespace lamina::attention
