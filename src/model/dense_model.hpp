// Every variant under random orthonormal embeddings, the long way: dense vectors x_h in R^d, attention, products of matrices.
#pragma once
#include "model/model.hpp"

namespace lamina {

std::unique_ptr<Model> make_dense_model(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa);

}  // namespace lamina
