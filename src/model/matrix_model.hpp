// Variants with free matrices (w_free, uv_free, original), and every variant under random orthonormal embeddings: matrix
// products over chunks of prompts between a front (positions) and the cross-entropy.
#pragma once
#include <memory>

#include "model/model.hpp"

namespace lamina {

std::unique_ptr<Model> make_matrix_model(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa);

}  // namespace lamina
