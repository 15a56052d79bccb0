# Models: named parameters, and what they predict on the user's own prompts.

# Where a parameter lies in the vector of all; row-major there.
struct Tensor
    name::Symbol
    shape::Tuple{Vararg{Int}}
    trained::Bool
    range::UnitRange{Int}
end

"""
    Model(task = "in_context_recall"; options...)

A one-layer transformer for a task, a name or a `Lamina.Task`; `options` are those of the task (given by name) and of the model.
`Model(run)` is a copy of a run's model as it stands, `copy(model)` an independent model. `model.parameters` are a named tuple of
arrays, copies; `Lamina.parameters!` sets them.
"""
struct Model
    handle::Handle
    task::Task
end

Base.cconvert(::Type{Ptr{Cvoid}}, model::Model) = getfield(model, :handle)
Base.propertynames(::Model) = (:task, :parameters, :isa)
function Base.getproperty(model::Model, name::Symbol)
    name === :parameters && return parameters(model)
    name === :isa && return unsafe_string(@call lamina_model_isa(model::Ptr{Cvoid})::Cstring)
    return getfield(model, name)
end

function Model(task::Union{AbstractString,Symbol,Task} = "in_context_recall"; options...)
    set = make_options(options)
    law = as_task(task, options, set)
    handle = create(:lamina_model_free; failures = law.failures) do out
        ccall(symbol(:lamina_model_create), Int32, (Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), law, set, out)
    end
    return Model(handle, law)
end

function Base.copy(model::Model)
    handle = create(:lamina_model_free) do out
        ccall(symbol(:lamina_model_copy), Int32, (Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), model, out)
    end
    return Model(handle, model.task)
end

function tensors(model::Model)
    count = Ref{Int64}(0)
    @call lamina_model_tensor_count(model::Ptr{Cvoid}, count::Ptr{Int64})
    return map(0:count[]-1) do index
        record = blank(TensorRecord)
        @call lamina_model_tensor_describe(model::Ptr{Cvoid}, index::Int64, record::Ref{TensorRecord})
        Tensor(Symbol(unsafe_string(record.name)), Tuple(Int.(record.shape[1:record.rank])), record.trained != 0,
               record.offset+1:record.offset+record.count)
    end
end

function parameter_vector(model::Model)
    count = Ref{Int64}(0)
    @call lamina_model_parameter_count(model::Ptr{Cvoid}, count::Ptr{Int64})
    vector = Vector{Float64}(undef, count[])
    @call lamina_model_get_parameters(model::Ptr{Cvoid}, vector::Ptr{Float64}, count[]::Int64)
    return vector
end

# The dimensions of a row-major array are reversed in memory.
reversed(array::AbstractArray) = permutedims(array, ndims(array):-1:1)
reversed(vector::AbstractVector) = copy(vector)

named_arrays(vector, tensors) =
    NamedTuple{Tuple(t.name for t in tensors)}(Tuple(reversed(reshape(vector[t.range], reverse(t.shape))) for t in tensors))

"    parameters(model)\n\nThe parameters of a model or a run, a named tuple of arrays, copies: `parameters(model).W[i, j]`."
parameters(model::Model) = named_arrays(parameter_vector(model), tensors(model))

"""
    parameters!(model; name = array, ...)
    parameters!(model, named_tuple)

Sets parameters, all that are given or none; a number fills a whole one. Those of a run are set in a copy, `Lamina.Model(run)`.
"""
function parameters!(model::Model; values...)
    vector, known = parameter_vector(model), tensors(model)
    for (name, value) in pairs(values)
        at = findfirst(t -> t.name === name, known)
        at === nothing &&
            throw(ArgumentError("$name is not a parameter, must be one of $(join((t.name for t in known), ", "))"))
        tensor = known[at]
        value isa Number || size(value) == tensor.shape ||
            throw(DimensionMismatch("parameter $name has size $(tensor.shape), the value $(size(value))"))
        vector[tensor.range] .= value isa Number ? value : vec(reversed(value))
    end
    @call lamina_model_set_parameters(model::Ptr{Cvoid}, vector::Ptr{Float64}, length(vector)::Int64)
    return model
end
parameters!(model::Model, values) = parameters!(model; pairs(values)...)

"""
    predict(model, prompts; part = :all)

Logits (vocabulary + 1, count) of prompts (length, count), tokens or their texts, one prompt in each column, of a model or a run;
of one prompt, a vector, a vector. The logit of token `t` is at `t + 1`. `part` is `:all`, `:attention` (what attention alone
gives) or `:feed_forward` (what that part alone gives).
"""
function predict(model::Model, prompts; part = :all)
    columns = prompt_columns(model.task, prompts)
    logits = Matrix{Float64}(undef, model.task.outputs, size(columns, 2))
    @call lamina_model_forward(model::Ptr{Cvoid}, columns::Ptr{Float64}, size(columns, 2)::Int64, size(columns, 1)::Int64,
                               choice("part", part, PARTS)::Int32, logits::Ptr{Float64})
    return ndims(prompts) == 2 ? logits : vec(logits)
end

"""
    attention(model, prompts)

The weights of the last position over all positions, of a model or a run, in the size of the prompts, one in each column.
"""
function attention(model::Model, prompts)
    columns = prompt_columns(model.task, prompts)
    weights = similar(columns)
    @call lamina_model_attention(model::Ptr{Cvoid}, columns::Ptr{Float64}, size(columns, 2)::Int64, size(columns, 1)::Int64,
                                 weights::Ptr{Float64})
    return ndims(prompts) == 2 ? weights : vec(weights)
end

"""
    loss_gradient(model, prompts, targets)

`(loss, gradient)`: mean cross-entropy in nats, and its gradient as a named tuple of arrays (zero for parameters that are held).
"""
function loss_gradient(model::Model, prompts, targets)
    columns = prompt_columns(model.task, prompts)
    pairs, loss, gradient = target_pairs(targets, size(columns, 2), model.task.target_width), Ref{Float64}(0), parameter_vector(model)
    @call lamina_model_loss_gradient(model::Ptr{Cvoid}, columns::Ptr{Float64}, pairs::Ptr{Float64}, size(columns, 2)::Int64,
                                     size(columns, 1)::Int64, loss::Ptr{Float64}, gradient::Ptr{Float64})
    return (loss = loss[], gradient = named_arrays(gradient, tensors(model)))
end

Base.show(io::IO, model::Model) = print(io, "Lamina.Model of ", model.task.name, ", running ", model.isa)
function Base.show(io::IO, ::MIME"text/plain", model::Model)
    show(io, model)
    for t in tensors(model)
        print(io, "\n  ", t.name, " ", join(t.shape, " x "), t.trained ? " trained" : " held")
    end
end
