// Variant `full` in the embeddings' own basis: W, V, U, F have the forms of construction.hpp, and only lambda is learnt (with
// the value scale s and the noise logit l, where asked for). One step costs a few exponentials per distinct prompt.
#pragma once
#include <memory>

#include "model/model.hpp"

namespace lamina {

std::unique_ptr<Model> make_tied_model(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa);

}  // namespace lamina
