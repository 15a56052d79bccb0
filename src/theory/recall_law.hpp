// The exact law of how often the queried trigger is followed by its answer and by tau in a prompt: what the population loss of
// the model `full` is an expectation over.
#pragma once
#include <cstdint>
#include <vector>

#include "task/task.hpp"

namespace lamina {

// P(n_y = answer[i], n_tau = noise[i]) = probability[i], given any trigger; entries below 1e-30 are left out.
struct CountLaw {
  std::vector<int64_t> answer, noise;
  std::vector<double> probability;
};

// S1, S3: m ~ Unif{1..m_max}, n_y = max(Bin(m, 1-alpha), 1), n_tau = m - n_y, at any length, an infinite one too.
// S2 with the uniform bigram law: by recursion over positions, given that the prompt is accepted. Throws LAMINA_E_UNSUPPORTED
// naming data=fresh where there is no exact form: S2 with given laws, of infinite length or longer than 65536, and host data.
CountLaw count_law(const RecallLaw& law);

}  // namespace lamina
