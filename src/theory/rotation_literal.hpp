// Linear attention on rotating sequences with every entry of P = W_PV [d,2d] and Q = W_KQ [2d,2d] free, complex (arXiv 2405.16845). Tokens
// are e_t = (x_t, x_{t-1}), so rows and columns of length 2d are pairs (lag, coordinate); with z_j = e^{i theta_j} and x = x_1, real,
//   yhat_t = 1/(t-1) sum_{s <= t} sum P_{.,aj} Q_{bk,cl} x_j x_k x_l z_j^{s-1-a} z_k^{-(s-1-b)} z_l^{t-1-c},   s >= 1 + max(a, b).
// E|yhat_t|^2 is a sum over six coordinates j,k,l,j',k',l' and six lags. Which of the coordinates are equal is a partition of the six;
// over coordinates distinct from block to block the phases leave the number N_t(partition, lags) of pairs (s, s') for which the
// exponents of every block add up to 0, times a product of moments of x:
//   (t-1)^2 E|yhat_t|^2 = sum_{partition, lags} moments N_t sum_distinct R_{aj,a'j'} Q_{bk,cl} conj(Q_{b'k',c'l'}),   R = P^T conj(P).
// Moebius inversion on partitions makes the sums free, hence products of R, Q and conj(Q), each summed over coordinates that no other
// shares. N_t is a polynomial of degree two from some t on, so the sum over t is closed but for sum 1/n and sum 1/n^2. The same holds of
// E x_{t+1}^H yhat_t with four coordinates. So the loss 1/2 sum_{t=2}^{T-1} E|yhat_t - x_{t+1}|^2 and its gradient cost O(d^3) at any T,
// all of it in products of matrices [d,d]: sums with two shared coordinates or fewer cost O(d^2), and with three they are traces
// tr(X Y Z). Both forms are linear in each factor, so no value is ever summed: it is the inner product of a factor with its slope.
// With < , > for the sum over t of E yhat^H yhat', Z = (P, Q), and Z0 = (P0, Q0) the blocks b I, a I of the mean diagonals,
//   L(Z) = L(Z0) + Re [ <Z0 + Z, D> / 2 - sum_t E x_{t+1}^H yhat_t(D) ],  yhat(D) = yhat(Z) - yhat(Z0), of (P - P0, Q) and of (P0, Q - Q0):
// L(Z0) is known as a sum of squares above its infimum, and the rest is small where Z is near Z0.
//
// For gaussian and sparse starts the infimum of the blocks is the infimum over all entries, at every d and T. (1) The law is that of all
// phases moved by one more, under which the part of yhat with lags a, b, c turns by t-1+b-a-c and x_{t+1} by t: parts with different
// b-a-c are orthogonal and only a = c = 0, b = 1 meets the target, so other blocks of P and Q add to the loss. (2) With A and B for these
// blocks, yhat_i = sum A_ij B_kl f_jkl. Sparse: only f_jjj is not 0, and the blocks reach loss 0. Gaussian, scale 1, n = t-1, S = T-2,
// h = sum_t 1/n <= S: the f are orthogonal in the sum over t but for those of three different coordinates among each other and for f_jjl
// with f_ljj; |f_jjj|^2 = 15 S, |f_jkj|^2 = |f_jkk|^2 = 3 h, |f_jjl|^2 = 3 S, <f_jjl, f_ljj> = 3 h. Hence
//   sum E|yhat|^2 >= sum_i 15 S |A_ii B_ii|^2 + sum_{j != i} ( 15 S |A_ij B_jj|^2 + 3 h |A_ii B_jj + A_ij B_ji|^2 + 3 h |A_ii B_ji|^2 )
//                 >= sum_i 15 S |A_ii B_ii|^2 + sum_{j != i} 3 h |A_ii B_jj|^2,
// as 15 S x^2 + 3 h y^2 >= 6 h x y. With s = sum_i |A_ii B_ii| the last is at least (15 S + 3 h (d-1)) s^2 / d by Cauchy and Schwarz, and
// the target gives 3 S Re sum A_ii B_ii <= 3 S s: the loss of the blocks at c = s / d. Starts of ones have no free signs, and from
// d = 2 on other entries are pulled at the optimum of the blocks: the excess over it becomes negative.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.hpp"
#include "theory/rotation_population.hpp"

namespace lamina {

class RotationSums;

class RotationLiteralPopulation {
 public:
  RotationLiteralPopulation(const RotationLaw& law, const kernels::Table<double>& table);

  struct Value {
    double loss, excess;  // L, and L minus the least loss of blocks b I, a I: the infimum, but for starts of ones with d > 1
  };

  // parameters: Re P, Im P, Re Q, Im Q; gradient, of the same size, is d/dRe and d/dIm and may be null.
  Value loss_and_gradient(std::span<const double> parameters, double* gradient) const;

 private:
  // weight times a sum over up to two coordinates that factors share, each from 0 to d - 1; of a factor: which block of lags, where its
  // sums begin, and how far it moves with each coordinate.
  struct Factor {
    int64_t block = 0, offset = 0;
    std::array<int64_t, 3> stride{};
  };
  struct Term {
    double weight;
    size_t shared;
    std::array<Factor, 3> factors;
  };
  // What three shared coordinates are: a trace of the product of three blocks. Its slope by one factor is a product of the others, added
  // to block `to`: X M, or M X, where X is a block of the first of the others and M a weighted sum of blocks of the second.
  struct Product {
    struct Part {
      double weight;
      int64_t block;
      bool transposed;
    };
    int64_t to, block;
    bool left, transposed;  // of X
    std::vector<Part> sum;
  };
  struct Form {
    std::vector<Term> terms;
    std::array<std::vector<Product>, 3> products;  // by the factor whose slope they are
  };
  using Ends = std::vector<std::array<size_t, 2>>;  // the two indices of each factor

  // tail: the sums over t, from where counts are polynomials c_0 + c_1 n + c_2 n^2 in n = t - 1, by which to weigh c_0, c_1, c_2.
  void add_terms(const RotationLaw& law, const std::array<double, 3>& tail, const Ends& ends, Form& form) const;
  static void add_products(const Term& term, int64_t d, Form& form);
  // The slope of the form by factor `slot` at the other two, in those blocks of lags whose bit is in `wanted`, into factors[slot].
  void slope(const Form& form, size_t slot, unsigned wanted, const std::array<RotationSums*, 3>& factors) const;
  void multiply(const std::vector<Product>& products, unsigned wanted, const RotationSums& first, const RotationSums& second,
                RotationSums& out) const;

  int64_t d_;
  const kernels::Table<double>* table_;
  RotationPopulation blocks_;
  Form square_, cross_;  // E|yhat|^2 by R, Q, conj Q; E x^H yhat by P, Q and 1
};

}  // namespace lamina
