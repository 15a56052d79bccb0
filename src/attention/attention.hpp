// Attention of one layer, forward and backward: the notation of this folder, the plan, the two calls.
//
// For n sequences and H heads (head h reads key head h / group, group = H / H_kv), one head of one sequence is
//   Q [L_q, d]   K [L_k, d]   V [L_k, d_v]
//   S[i,j] = scale sum_f Q[i,f] K[j,f] + bias[i,j]   over the keys j that query i sees
//   P[i,j] = w(S[i,j]) / N_i      softmax: w = exp, N_i = sum_j w;  linear: w = S;  relu: w = max(S, 0);
//                                 N_i = 1, the number of keys seen, or the row sum sum_j w
//   O[i,:] = sum_j P[i,j] V[j,:]
// dA is the derivative of the loss with respect to A; the loss is sum O . dO + sum lse . dlse + sum P . dP:
//   G[i,j]  = dO[i,:] . V[j,:] + dP[i,j]
//   dS[i,j] = P (G - D_i + dlse_i)       softmax
//           = w'(S) (G - D_i) / N_i      linear, relu;   D_i = sum_j P G where N_i is a row sum, else 0
//   dV = P^T dO    dQ = scale dS K    dK = scale dS^T Q    dbias = dS    dscale = sum_i Q_i . (dS K)_i
//
// A block is a few queries; a tile is a block against a chunk of keys. A tile is stored key by key: element (j, i) stands at
// j * stride + i, so that rows of Q^T are what the product reads in vectors, and a query is one lane of every vector.
//
// Arithmetic and order of summation (the bits), all in the element type; [x] is x rounded, chunks are 256 keys (f32), 128
// (f64):
//   c = [scale log2 e] for softmax in plans without a bias, where t is S log2 e and E = exp2; else [scale], t = S and E = exp,
//   so that a bias of any size is itself, also the least and the largest finite number;  q = [c Q]
//   t[i,j] = chain of fma(q[i,f], K[j,f], .) from 0, f ascending, then + bias
//   m = max of t over the chunks so far (-inf read as 0);  p = E([t - m]) or w(t);  when m grows from m_old: factor =
//   E([m_old - m]) multiplies the sum and o
//   sum = [sum + ((l0 + l2) + (l1 + l3))] chunk by chunk, l_k = sum of p over keys j = k mod 4 of the chunk, ascending
//   o = fma(o, factor, chain of fma(p, V, .) from 0 over the chunk's keys, ascending); the first chunk: the chain
//   softmax: O = [o [1 / sum]], P = [p [1 / sum]], lse = log sum + m (E = exp2: m ln 2), S = t ([t ln 2])
//   linear, relu: O = [o / N], P = [p / N]
//   G: chain over f ascending, then + dP; sum_j P G as sum, by fma(p, G, .) in each lane; dQ as o, with
//   factor 1: a chain over each chunk, ascending, added to those before
//   dK and dV over (head of the group, query) ascending: one chain, or in a sequence of more than 512 queries one for each 512
//   (a segment) of a head; the first goes on from 0, the others are added to it, ascending, where the segment's band has keys
// Linear attention of long sequences goes by states, in an order of its own: states.hpp.
// No step may leave the range of the type: results are right where c Q, t and o are finite in it.
// The error of softmax, with u the unit roundoff and S the largest scale sum |q||k| + |bias|, to 65 536 keys, calibrated, not proven
// (tests/attention/accuracy_test.cpp):
//   |O - O*| <= u max|V| (128 + 4 S);  (8 + 4 S) where values have both signs, so that roundings cancel
// Terms of one sign are off the same way along the chain of a chunk, and again where chunks are added one by one: with V constant and
// scores equal by 55 u at 256 keys, by 94 u at 65 536. Chains of 16 keys added in two numbers are within 8 u at any length, and cost a
// sixth of forward; of 64, within 20 u, and cost 2 to 8 %.
// Chunks depend on the element type alone, so no bit depends on the batch, the strides, the threads or the instruction set.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/parallel.hpp"
#include "kernels/kernels.hpp"
#include "lamina/lamina.h"

namespace lamina::attention {

using kernels::Normaliser;

// Extents of an array.
struct Extents {
  int64_t n[4] = {};
  bool empty = true, small = false;  // no elements; none above 2^28
  uint64_t dense[4] = {}, count = 0;  // strides with the last index fastest and nothing between; elements. Modulo 2^64.

  Extents() = default;
  Extents(int64_t n0, int64_t n1, int64_t n2, int64_t n3)
      : n{n0, n1, n2, n3},
        empty(n0 == 0 || n1 == 0 || n2 == 0 || n3 == 0),
        small(static_cast<uint64_t>(n0 | n1 | n2 | n3) < uint64_t{1} << 28) {
    count = 1;
    for (int k = 4; k-- > 0; count *= static_cast<uint64_t>(n[k])) dense[k] = count;
  }
};

// Everything about a call but the pointers, every default resolved. Immutable: any number of threads may run it at once.
class Plan {
 public:
  // Throws Error naming the field, its value and what is allowed. Strings and pointers of `spec` are not kept, the allocator
  // is.
  explicit Plan(const lamina_attention_spec& spec);

  bool f64 = true;
  kernels::Map map = kernels::Map::softmax;
  Normaliser normaliser = Normaliser::row_sum;
  uint32_t flags = 0;
  int32_t causal = LAMINA_CAUSAL_NONE;
  int64_t n = 0, H = 0, H_kv = 0, L_q = 0, L_k = 0, d = 0, d_v = 0;
  int64_t group = 1;              // heads that share one key head
  int64_t left = -1, right = -1;  // the window; -1: no limit
  double scale = 1, relu_at_zero = 0;
  const kernels::InstructionSet* isa = nullptr;
  lamina_allocator allocator = {};  // of the host: for callers of the engine, which itself calls no host

  bool has(uint32_t flag) const { return (flags & flag) != 0; }
  int64_t element_bytes() const { return f64 ? 8 : 4; }

  Extents of_q, of_k, of_v, of_o, of_lse, of_pairs;  // of the arrays, without offsets; pairs: [query, key]

  int64_t query_block, key_chunk;  // queries of a block, keys of a tile
  int64_t blocks() const { return (L_q + query_block - 1) / query_block; }
  int64_t chunks() const { return (L_k + key_chunk - 1) / key_chunk; }
  bool keep_tiles;  // backward: all tiles of a block fit the panel, nothing is computed twice
  // Backward: one sweep gives dQ, dK, dV of a key head, by one thread or each of its segments by any; or one over blocks gives
  // dQ, a second one over chunks dK and dV.
  enum class Sweep { key_head, segments, twice } sweep;
  static constexpr int64_t segment = 512;  // queries whose share of dK and dV is one sum
  int64_t parts() const { return L_q <= segment ? 1 : group * ((L_q + segment - 1) / segment); }  // at most, of a key head
  int64_t partial_sums;  // Sweep::segments: segments whose sums are in memory at a time
  // What a lane of a register is: a query of a block, or of short sequences a key head or a query, or of a few queries a key
  // (short.hpp), where what stands above means nothing.
  enum class Lanes { block, key_heads, queries, keys };
  Lanes lanes(int32_t direction) const { return direction == LAMINA_FORWARD ? forward_lanes_ : backward_lanes_; }
  int64_t states_from;  // linear attention: sequences of so many queries and keys are computed by states (states.hpp); 0: none
  int64_t shared_states;  // and as many in memory at a time where threads share a key head; 0: they do not
  int slots;              // threads that can work at once: copies of the scratch

  // Whether a call has nothing to write (but dscale = 0): no array of queries has an element and, backward, none of keys.
  bool nothing(int32_t direction) const { return n * H == 0 || (L_q == 0 && (direction == LAMINA_FORWARD || L_k == 0)); }

  const Team& team() const { return *team_; }
  // Bytes that one call in `direction` (LAMINA_FORWARD, LAMINA_BACKWARD) needs.
  size_t workspace(int32_t direction) const;

 private:
  std::unique_ptr<Team> team_;
  Lanes forward_lanes_, backward_lanes_;
  size_t forward_bytes_ = 0, backward_bytes_ = 0;
};

// Run a plan. The arrays are checked before any write (arrays.cpp); workspace nullptr: allocated here and released.
void forward(const Plan& plan, const lamina_attention_arrays& arrays, void* workspace, size_t workspace_bytes);
void backward(const Plan& plan, const lamina_attention_arrays& arrays, void* workspace, size_t workspace_bytes);

}  // namespace lamina::attention
