// Prompts as the tied model (variant `full`) reads them: all that its logits depend on, with equal prompts merged.
//
// W has entries only at (E(q), Et(q)) and (E(q), E(tau)), so a position's score depends on its class alone:
//   0: after q, not tau     score lambda_q
//   1: after q, tau         score (1 - kappa) lambda_q - beta
//   2: elsewhere, tau       score -kappa lambda_q - beta
//   3: elsewhere, not tau   score 0
// With weights a_c per position of class c, and P_c[j] = how often token j stands in class c,
//   xi_j   = s sum_c a_c P_c[j]                                              j != tau
//   xi_tau = s sum_c a_c (T_c + F_c) + X,   F_c = F0_c + l Fl_c + s Fs_c,   X = X0 + l Xl + s Xs,
// where T_c = (1 - v) P_c[tau], F_c sums f over the positions of class c (through V), and X is f on x_H. Tokens with equal P
// have equal logits: they are one group with a multiplicity.
#pragma once
#include <array>
#include <span>
#include <vector>

#include "model/construction.hpp"
#include "model/model.hpp"

namespace lamina {

inline constexpr int classes = 4;
using PerClass = std::array<double, classes>;

struct TokenGroup {
  PerClass count{};          // P_c
  double multiplicity = 0;
  bool below_answer = false; // holds a token below the answer: it then wins a tie
};

struct TiedPrompt {
  double weight = 0;           // of all labels together
  double label_weight[3] = {}; // of the labels answer, tau, and the token of other_label
  int32_t other_label = -1;    // a label that is neither: the index of its group, else -1
  int32_t trigger = -1;        // index into lambda, -1 if the query is no trigger
  bool answer_is_tau = false;
  PerClass positions{};        // n_c; where the logits do not depend on it (linear, relu), the mean over the merged prompts
  PerClass tau_value{};      // T_c
  PerClass tau_read[3]{};    // F0_c, Fl_c, Fs_c
  double tau_query[3]{};     // X0, Xl, Xs
  TokenGroup answer;
  int32_t first_group = 0, group_count = 0;  // the other tokens, in TiedPrompts::groups
};

class TiedPrompts final : public CompiledPrompts {
 public:
  std::vector<TiedPrompt> prompts;
  std::vector<TokenGroup> groups;
};

// `weights` empty means 1 / count each. active[c]: class c can have a weight other than 0. normalised: the logits depend on n_c.
TiedPrompts tie_prompts(const Prompts& prompts, std::span<const double> weights, const RecallLaw& law,
                        const Construction& construction, const std::array<bool, classes>& active, bool normalised);

}  // namespace lamina
