# The module: what it is, and its parts in the order of the data flow.
"""
One-layer transformers: attention with gradients, and training by gradient descent, by the library `liblamina`.

    using Lamina
    run = Lamina.train("in_context_recall"; noise = 0.5, steps = 400)
    run.trajectory.excess

`Lamina.list()` says which tasks there are, `Lamina.describe(name)` what options a run of one has. Arrays have the library's
dimensions in reverse, so that memory is the same and nothing is copied: prompts are columns, attention takes
(feature, position, head, batch). Parameters are matrices as in the mathematics: `run.parameters.W[i, j]`. Nothing is exported.
"""
module Lamina

import Libdl

include("library.jl")
include("structs.jl")
include("catalogue.jl")
include("task.jl")
include("model.jl")
include("trajectory.jl")
include("progress.jl")
include("run.jl")
include("sweep.jl")
include("arrays.jl")
include("attention.jl")

end
