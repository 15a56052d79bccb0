# Tasks: what prompts are made of, by name, from arrays, or from a function; samples of them; closed forms.

# What C points at while a task of a function lives.
mutable struct Sampler
    call::Any
    length::Int64
    failures::Vector{Any}
end

"""
    Task(name = "in_context_recall"; options...)

The law of the data; `options` are those of the task in `Lamina.describe(name)`. `length` is `nothing` for infinite prompts.

    Task(prompts, targets; vocabulary, noise = 0)

Your own prompts (length, count), one in each column, and targets: (2, count), label and answer, or a vector where both are the
same. Tokens are 0..vocabulary-1, and `vocabulary` is tau; `noise` is the probability that the label is tau.

    Task(sampler; length, vocabulary, noise = 0)

Your own sampler. `sampler(split, seed, first, count)` gives prompts and targets as above, for prompts number
first..first+count-1 of `split` (:train, :test, :unseen); each must be a function of (seed, split, its number) alone. It is
called on the thread and in the task that call lamina.
"""
struct Task
    handle::Handle
    name::String
    length::Union{Int,Nothing}
    vocabulary::Int
    outputs::Int
    target_width::Int
    failures::Vector{Any}  # of a sampler, until the call in which it threw ends
    function Task(handle::Handle, failures = Any[])
        shape = blank(TaskShape)
        @call lamina_task_get_shape(handle::Ptr{Cvoid}, shape::Ref{TaskShape})
        name = unsafe_string(@call lamina_task_name(handle::Ptr{Cvoid})::Cstring)
        return new(handle, name, shape.length < 0 ? nothing : Int(shape.length), shape.vocabulary, shape.outputs, shape.target_width,
                   failures)
    end
end

Base.cconvert(::Type{Ptr{Cvoid}}, task::Task) = task.handle
Base.show(io::IO, task::Task) = print(io, "Lamina.Task ", task.name, ": prompts of ",
                                      something(task.length, "infinitely many"),
                                      task.vocabulary == 0 ? " numbers" : " tokens out of $(task.vocabulary)",
                                      task.outputs > task.vocabulary > 0 ? " and tau" : "")

task_of_name(name, options) = Task(create(:lamina_task_free) do out
    ccall(symbol(:lamina_task_create), Int32, (Cstring, Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), name, options, out)
end)

function Task(name::Union{AbstractString,Symbol} = "in_context_recall"; options...)
    known = entries(String(name))
    for key in keys(options)
        owner = haskey(known, String(key)) ? known[String(key)].owner : "task"
        owner == "task" || throw(ArgumentError("$key is an option of the $owner, not of a task: give it to Lamina.train"))
    end
    return task_of_name(String(name), make_options(options))
end

function Task(prompts::AbstractMatrix{<:Real}, targets::AbstractArray{<:Real}; vocabulary::Integer, noise::Real = 0)
    columns, pairs = Matrix{Float64}(prompts), target_pairs(targets, size(prompts, 2))
    arrays = blank(TaskArrays)
    arrays.length, arrays.count = size(columns)
    arrays.vocabulary, arrays.noise = vocabulary, noise
    GC.@preserve columns pairs begin
        arrays.prompts, arrays.targets = pointer(columns), pointer(pairs)
        handle = create(:lamina_task_free) do out
            ccall(symbol(:lamina_task_from_arrays), Int32, (Ref{TaskArrays}, Ptr{Ptr{Cvoid}}), arrays, out)
        end
    end
    return Task(handle)
end

function fill_sample(user::Ptr{Cvoid}, split::Int32, seed::UInt64, first::Int64, count::Int64, prompts::Ptr{Float64},
                     targets::Ptr{Float64})::Int32
    sampler = unsafe_pointer_to_objref(user)::Sampler
    filled = call_host(sampler.failures) do
        columns, given = sampler.call(keys(SPLITS)[split+1], Int(seed), Int(first), Int(count))
        size(columns) == (sampler.length, count) ||
            throw(DimensionMismatch("the sampler gave prompts of size $(size(columns)), must be $((sampler.length, count))"))
        copyto!(unsafe_wrap(Array, prompts, (sampler.length, count)), columns)
        copyto!(unsafe_wrap(Array, targets, (2, Int(count))), target_pairs(given, count))
        true
    end
    return filled === true ? 0 : 1
end

function Task(sampler::Function; length::Integer, vocabulary::Integer, noise::Real = 0)
    state = Sampler(sampler, length, Any[])
    callback = blank(TaskCallback)
    callback.length, callback.vocabulary, callback.noise = length, vocabulary, noise
    callback.sample = @cfunction(fill_sample, Int32, (Ptr{Cvoid}, Int32, UInt64, Int64, Int64, Ptr{Float64}, Ptr{Float64}))
    GC.@preserve state begin
        callback.user = pointer_from_objref(state)
        handle = create(:lamina_task_free; alive = state) do out
            ccall(symbol(:lamina_task_from_callback), Int32, (Ref{TaskCallback}, Ptr{Ptr{Cvoid}}), callback, out)
        end
    end
    return Task(handle, state.failures)
end

# (width, count) doubles from (width, count), or of width 2 from a vector where label and answer are the same.
function target_pairs(targets, count, width = 2)
    targets isa AbstractVector && width == 2 && (targets = permutedims([targets targets]))
    size(targets) == (width, count) ||
        throw(DimensionMismatch("targets have size $(size(targets)), must be ($width, $count)$(width == 2 ? " or ($count,)" : "")"))
    return Matrix{Float64}(targets)
end

# (length, count) doubles of tokens or of their texts.
prompt_columns(task, prompts::AbstractVecOrMat{<:Real}) = Matrix{Float64}(reshape(prompts, size(prompts, 1), :))
prompt_columns(task, prompts::AbstractVecOrMat{<:AbstractString}) = prompt_columns(task, encode(task, prompts))
prompt_columns(task, prompts) = throw(ArgumentError("prompts must be a vector or a matrix with a prompt in each column"))

as_task(task::Union{AbstractString,Symbol}, options, set) = task_of_name(String(task), set)
function as_task(task::Task, options, set)
    for entry in values(entries(task.name))
        entry.owner == "task" && get(options, Symbol(entry.name), nothing) !== nothing &&
            throw(ArgumentError("$(entry.name) is an option of the task, which is made already: give it to Lamina.Task"))
    end
    return task
end

"""
    sample(task, count; split = :train, seed = 1, first = 0, options...)

Prompts number first..first+count-1 of `split` (:train, :test, :unseen), each a function of (seed, split, its number) alone:
`(prompts = (length, count), targets = (2, count))`, tokens (of causal_structure the law of what follows); the targets are the label that is scored and the answer that the
context identifies. `options` are those of a task given by name.
"""
function sample(task::Union{AbstractString,Symbol,Task}, count::Integer; split = :train, seed::Integer = 1, first::Integer = 0,
                options...)
    law = task isa Task ? as_task(task, options, nothing) : Task(task; options...)
    law.length === nothing && throw(ArgumentError("task $(law.name) has infinite prompts, which cannot be sampled"))
    prompts, targets = Matrix{Float64}(undef, law.length, max(count, 0)), Matrix{Float64}(undef, law.target_width, max(count, 0))
    number = choice("split", split, SPLITS)
    status = hosting(law.failures) do
        ccall(symbol(:lamina_task_sample), Int32, (Ptr{Cvoid}, Int32, UInt64, Int64, Int64, Ptr{Float64}, Ptr{Float64}), law,
              number, seed, first, count, prompts, targets)
    end
    status == 0 || throw(failure(status))
    law.vocabulary == 0 && return (prompts = prompts, targets = targets)  # features and labels, not tokens
    law.target_width == 2 || return (prompts = Matrix{Int}(prompts), targets = targets)  # a law, not tokens
    return (prompts = Matrix{Int}(prompts), targets = Matrix{Int}(targets))
end

"    tokens(task)\n\nThe text of every token, that of token `t` at `t + 1`; where there is tau, it is the last."
function tokens(task::Task)
    out = Ref{Ptr{UInt8}}(C_NULL)
    return map(0:task.outputs-1) do token
        @call lamina_task_token(task::Ptr{Cvoid}, token::Int64, out::Ptr{Ptr{UInt8}})
        unsafe_string(out[])
    end
end

"    decode(task, tokens)\n\nThe texts of an array of tokens."
decode(task::Task, numbers::AbstractArray) = getindex.(Ref(tokens(task)), Int.(numbers) .+ 1)

"    encode(task, texts)\n\nThe tokens of an array of texts."
function encode(task::Task, texts::AbstractArray)
    numbers = Dict(text => number - 1 for (number, text) in enumerate(tokens(task)))
    return map(texts) do text
        haskey(numbers, text) || throw(ArgumentError("$(repr(text)) is not a token of $(task.name); see Lamina.tokens(task)"))
        numbers[text]
    end
end

"""
    theory(name, arguments...; task = nothing, options...)

The closed form `name` of `Lamina.list("theory")` at its arguments; `options` are those of the task, where it reads one (by default
the first it knows). Arguments may be arrays, which are broadcast; a form of a matrix takes it whole. A form with several results
gives a vector, a gradient by a matrix a matrix.
"""
function theory(name, arguments...; task = nothing, options...)
    form = get(list("theory"), name, nothing)
    if form === nothing || form.owner == "task"
        chosen = something(task, form === nothing ? "in_context_recall" : first(form.words))
        law = chosen isa Task ? as_task(chosen, options, nothing) : Task(chosen; options...)
    else
        isempty(options) || throw(ArgumentError("$name reads no task: $(join(keys(options), ", ")) would mean nothing"))
        law = C_NULL
    end
    form !== nothing && form.minimum < 0 && return evaluate_whole(form, law, arguments...)
    results = form === nothing ? 1 : Int(form.maximum)
    evaluate(point...) = evaluate_form(string(name), law, Float64[point...], results)
    return isempty(arguments) ? evaluate() : broadcast(evaluate, arguments...)
end

function evaluate_whole(form, law, arguments...)
    length(arguments) == 1 && arguments[1] isa AbstractArray{<:Real} ||
        throw(ArgumentError("$(form.name) takes one array: it is $(form.description)"))
    array = reversed(arguments[1])
    out = evaluate_form(form.name, law, Vector{Float64}(vec(array)), form.maximum < 0 ? length(array) : Int(form.maximum))
    return form.maximum < 0 ? reversed(reshape(out, size(array))) : out
end

function evaluate_form(name, law, point, results)
    out = Vector{Float64}(undef, results)
    @call lamina_theory_evaluate(name::Cstring, law::Ptr{Cvoid}, point::Ptr{Float64}, length(point)::Int64, out::Ptr{Float64},
                                 results::Int64)
    return results == 1 ? out[1] : out
end
