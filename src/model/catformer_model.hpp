// The trained model of the authors' code (arXiv 2402.14735), a disentangled transformer of two attention layers with one head each:
// what a layer attends to is appended to the stream. With S tokens, T positions, d = S + T, queries i and keys j <= i:
//   x_i = (one-hot token, one-hot position) in R^d,
//   P = softmax(x_i^T A1 x_j) by rows,     z_i = (x_i, sum_j P_ij x_j) in R^2d,        A1 [d, d],
//   a = softmax(z_T^T A2 z_j),             stream = (z_T, sum_j a_j z_j) in R^4d,      A2 [2d, 2d],
//   f = softmax(W^T stream),               L = mean -sum_y pi_y log f_y,               W [4d, S],
// all matrices 0 at the start and all moved at once. No layer is computed as a product with one-hot vectors. For weights g over the
// positions of a prompt x and any matrix row M, let
//   X g = (sum over k with x_k = t of g_k; g),   <M, k> = M[x_k] + M[S + k],   so that M^T X g = sum_k g_k <M, k>.
// Then, with p the last row of P, b = P^T a, and w = A2^T z_T of which w' are the last d entries,
//   x_i^T A1 x_j = <A1[x_i] + A1[S + i], j>,  z_T = (x_T, X p),  z_T^T A2 z_j = <w, j> + (P u)_j,  u_k = <w', k>,
//   stream = (x_T, X p, X a, X b).
// Backward, r = f - pi, D = W r in the blocks of the stream:
//   db_k = <D_b, k>,  da_j = <D_a, j> + (P db)_j,  ds = a (da - a.da),  dw = (X ds, X P^T ds),  dA2 = z_T dw^T,
//   dp_k = <D_p + (A2 dw)', k>,  dP_jk = a_j db_k + ds_j u_k, in the last row + dp_k,  dS_jk = P_jk (dP_jk - sum_l P_jl dP_jl),
//   dA1 = sum_j x_j (X dS_j)^T:
// of rank two in (j, k), so that the sum over l is a_j (P db)_j + ds_j (P u)_j, which are known, + p.dp in the last row.
// An entry of A1 with a later key than query, as of positions j > i, has no gradient and stays 0.
#pragma once
#include "model/model.hpp"

namespace lamina {

// The place of an entry among the parameters: A1 between positions, A2 between tokens (of the query, and of what a key's first layer
// attended to), W between a token that such a key attended from and the logit.
struct CatformerPlaces {
  size_t S, T, d;
  explicit CatformerPlaces(const CausalLaw& law)
      : S(static_cast<size_t>(law.vocabulary)), T(static_cast<size_t>(law.length)), d(S + T) {}
  size_t positions(size_t i, size_t j) const { return (S + i) * d + S + j; }
  size_t tokens(size_t query, size_t attended) const { return d * d + query * 2 * d + d + attended; }
  size_t read_out(size_t token, size_t y) const { return 5 * d * d + (2 * d + token) * S + y; }
};

std::unique_ptr<Model> make_catformer_model(const CausalLaw& law, const Settings& settings, const kernels::InstructionSet& isa);

}  // namespace lamina
