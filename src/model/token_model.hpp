// The model whose matrices are free, in the embeddings' own basis: variants w_free, uv_free, original.
#pragma once
#include "model/model.hpp"

namespace lamina {

std::unique_ptr<Model> make_token_model(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa);

}  // namespace lamina
