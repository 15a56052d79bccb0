# Sweeps: one run for every combination of values, in parallel, each with the bits of that run alone; and statistics over them.

"Runs that have ended and in all, of those that failed, time; updates made, and of all runs to their ends."
struct SweepProgress
    ended::Int
    members::Int
    failed::Int
    seconds::Float64
    steps::Float64
    all_steps::Float64
end

function Base.show(io::IO, at::SweepProgress)
    print(io, "run ", at.ended, "/", at.members)
    at.failed > 0 && print(io, "  failed ", at.failed)
    at.steps > 0 && print(io, "  ", round(100 * at.steps / at.all_steps; digits = 1), " % of steps  ",
                          round(Int, at.seconds * (at.all_steps / at.steps - 1)), " s left")
end

"""
    Sweep(task = "in_context_recall"; progress = :auto, progress_seconds = 0.1, options...)

A sweep, made but not begun: `Lamina.continue!(sweep)` trains its runs. `Lamina.sweep` does both.

`options` are those of `Lamina.train`; one with a vector or range of values is an axis, and there is a run for every combination, the
last axis fastest (an option that takes an array or a text varies over a vector of vectors). `threads` says how many runs go at once.

`Lamina.table(sweep)` is one tidy table, `quantiles`, `times` and `exponents` are statistics; all are named tuples of columns, which are
tables to Tables.jl. `axes(sweep)`, `length(sweep)`, `trajectory(sweep, i)`, `option(sweep, i, key)`, `statuses(sweep)`, `save(sweep, path)`.
"""
mutable struct Sweep
    handle::Handle
    task::Union{Task,Nothing}
    progress::Any
    progress_seconds::Float64
    lock::ReentrantLock
end

Base.cconvert(::Type{Ptr{Cvoid}}, sweep::Sweep) = sweep.handle

is_list(value) = value isa Union{AbstractArray,Tuple}
value_text(value::Bool) = value ? "yes" : "no"
value_text(value) = is_list(value) ? join(map(value_text, value), ",") : string(value)
value_text(value::AbstractFloat) = isinf(value) ? (value > 0 ? "inf" : "-inf") : string(value)

# The values of an axis as the library takes them; nothing for a single value.
function axis_text(entry, value)
    is_list(value) && entry !== nothing || return nothing
    if entry.kind in (:text, :array)
        return !isempty(value) && all(is_list, value) ? join(map(value_text, value), ";") : nothing
    end
    return join(map(value_text, value), ",")
end

function Sweep(task::Union{AbstractString,Symbol,Task} = "in_context_recall"; progress = :auto, progress_seconds::Real = INTERVAL, options...)
    reporter(progress)
    law = task isa Task ? task : nothing
    name = law === nothing ? String(task) : law.name
    known = entries(name)
    texts = [String(key) => axis_text(get(known, String(key), nothing), value) for (key, value) in options]
    fixed = make_options(Dict{Symbol,Any}(key => value for ((key, value), (_, text)) in zip(options, texts) if text === nothing))
    handle = create(:lamina_ensemble_free; alive = law === nothing ? nothing : law.handle.alive) do out
        ccall(symbol(:lamina_ensemble_create), Int32, (Cstring, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), name,
              law === nothing ? C_NULL : law, fixed, out)
    end
    for (key, text) in texts
        text === nothing || @call lamina_ensemble_vary(handle::Ptr{Cvoid}, key::Cstring, text::Cstring)
    end
    return Sweep(handle, law, progress, progress_seconds, ReentrantLock())
end

"    sweep(task = \"in_context_recall\"; arguments of Lamina.Sweep...)\n\nMakes a `Lamina.Sweep` and trains all its runs."
sweep(task = "in_context_recall"; arguments...) = continue!(Sweep(task; arguments...))

function tell_sweep(user::Ptr{Cvoid}, record::Ptr{SweepProgressRecord})::Int32
    watch = unsafe_pointer_to_objref(user)::Watch
    at = unsafe_load(record)
    now = SweepProgress(at.ended, at.members, at.failed, at.seconds, at.steps, at.all_steps)
    going = call_host(() -> watch.report === nothing ? true : watch.report(now), watch.failures)
    return going === false || !isempty(watch.failures) ? 1 : 0
end

set_sweep_progress(sweep, call, user, seconds) =
    @call lamina_ensemble_on_progress(sweep::Ptr{Cvoid}, call::Ptr{Cvoid}, user::Ptr{Cvoid}, seconds::Float64)

"""
    continue!(sweep)

Trains the runs that have not ended, goes on for as long again with those that `time_limit` ended, and tries again those that failed;
gives the sweep. Ctrl-C throws `Lamina.Interrupted`; what has ended
stays, and the sweep can be continued with the same bits.
"""
function continue!(sweep::Sweep)
    lock(sweep.lock) do
        report = reporter(sweep.progress)
        watch = Watch(report, sweep.task === nothing ? Any[] : sweep.task.failures)
        call = @cfunction(tell_sweep, Int32, (Ptr{Cvoid}, Ptr{SweepProgressRecord}))
        GC.@preserve watch begin
            set_sweep_progress(sweep, call, pointer_from_objref(watch), report === nothing ? INTERVAL : sweep.progress_seconds)
            try
                hosting(watch.failures; translate = e -> e isa InterruptException ? Interrupted(sweep) : e) do
                    ccall(symbol(:lamina_ensemble_run), Int32, (Ptr{Cvoid},), sweep)
                end
            finally
                set_sweep_progress(sweep, C_NULL, C_NULL, 0)
                clear(report)
            end
        end
    end
    return sweep
end

stop(sweep::Sweep) = @call lamina_ensemble_stop(sweep::Ptr{Cvoid})::Cvoid

function Base.length(sweep::Sweep)
    count = Ref{Int64}(0)
    @call lamina_ensemble_count(sweep::Ptr{Cvoid}, count::Ptr{Int64})
    return Int(count[])
end

"    axes(sweep)\n\nThe options that vary and their values, a named tuple in order."
function Base.axes(sweep::Sweep)
    count, key, text = Ref{Int64}(0), Ref{Ptr{UInt8}}(C_NULL), Ref{Ptr{UInt8}}(C_NULL)
    number, is_number = Ref{Float64}(0), Ref{Int32}(0)
    @call lamina_ensemble_axis_count(sweep::Ptr{Cvoid}, count::Ptr{Int64})
    names, values = Symbol[], Any[]
    for axis in 0:count[]-1
        size = Ref{Int64}(0)
        @call lamina_ensemble_axis(sweep::Ptr{Cvoid}, axis::Int64, key::Ptr{Ptr{UInt8}}, size::Ptr{Int64})
        GC.@preserve sweep push!(names, Symbol(unsafe_string(key[])))
        push!(values, map(0:size[]-1) do index
            @call lamina_ensemble_axis_value(sweep::Ptr{Cvoid}, axis::Int64, index::Int64, text::Ptr{Ptr{UInt8}}, number::Ptr{Float64},
                                             is_number::Ptr{Int32})
            GC.@preserve sweep is_number[] != 0 ? number[] : unsafe_string(text[])
        end)
    end
    return NamedTuple{Tuple(names)}(Tuple(values))
end

"    option(sweep, i, key)\n\nThe value of an option in run `i` (from 1), as text."
function option(sweep::Sweep, i::Integer, key)
    out = Ref{Ptr{UInt8}}(C_NULL)
    @call lamina_ensemble_option(sweep::Ptr{Cvoid}, (i - 1)::Int64, string(key)::Cstring, out::Ptr{Ptr{UInt8}})
    return GC.@preserve sweep unsafe_string(out[])
end

"    statuses(sweep)\n\nHow each run ended: \"finished\", \"not ended\", \"diverged\" ..., or why it failed."
function statuses(sweep::Sweep)
    status, text = Ref{Int32}(0), Ref{Ptr{UInt8}}(C_NULL)
    return map(0:length(sweep)-1) do member
        @call lamina_ensemble_status(sweep::Ptr{Cvoid}, member::Int64, status::Ptr{Int32}, text::Ptr{Ptr{UInt8}})
        status[] < 0 && return GC.@preserve sweep unsafe_string(text[])
        return status[] == 0 ? "finished" : status[] == 1 ? "not ended" : string(STATUSES[status[]])
    end
end

"    trajectory(sweep, i)\n\nWhat run `i` (from 1) recorded, as `run.trajectory`."
trajectory(sweep::Sweep, i::Integer) = first(read_trajectory() do out
    ccall(symbol(:lamina_ensemble_trajectory), Int32, (Ptr{Cvoid}, Int64, Ptr{Ptr{Cvoid}}), sweep, i - 1, out)
end)

# A table of the library as a named tuple of columns, with words where an axis has no numbers.
function sweep_table(call, sweep)
    columns = NamedTuple(first(read_trajectory(call)))
    varied = axes(sweep)
    return NamedTuple{keys(columns)}(map(keys(columns), values(columns)) do key, column
        words = get(varied, key, nothing)
        words isa Vector{String} ? [words[Int(place)+1] for place in column] : column
    end)
end

over_text(sweep, over) = join([string(key) for key in (is_list(over) ? over : (over,)) if Symbol(key) in keys(axes(sweep))], ",")

"    table(sweep)\n\nEvery recorded row of every run that has ended: `member` (from 0), the axes, `status`, then the columns of the runs."
table(sweep::Sweep) = sweep_table(sweep) do out
    ccall(symbol(:lamina_ensemble_table), Int32, (Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), sweep, out)
end

"""
    quantiles(sweep, column = :excess; over = :seed, quantiles = [0.1, 0.5, 0.9])

Mean and quantiles of a column by step over the runs that agree on every axis but `over`, at the steps that all which have not ended
recorded. A run that ended by a target or a vanished gradient counts with its last value from then on (column `ended`).
"""
function quantiles(sweep::Sweep, column = :excess; over = :seed, quantiles = [0.1, 0.5, 0.9])
    numbers = collect(Float64, quantiles)
    return sweep_table(sweep) do out
        ccall(symbol(:lamina_ensemble_summary), Int32, (Ptr{Cvoid}, Cstring, Cstring, Ptr{Float64}, Int64, Ptr{Ptr{Cvoid}}), sweep,
              string(column), over_text(sweep, over), numbers, length(numbers), out)
    end
end

"""
    times(sweep, column = :excess, levels = [])

The first step at which each run reaches each level, NaN if never; no levels: those of the option crossings, found to the step.
"""
function times(sweep::Sweep, column = :excess, levels = Float64[])
    numbers = collect(Float64, levels)
    return sweep_table(sweep) do out
        ccall(symbol(:lamina_ensemble_times), Int32, (Ptr{Cvoid}, Cstring, Ptr{Float64}, Int64, Ptr{Ptr{Cvoid}}), sweep, string(column), numbers,
              length(numbers), out)
    end
end

"""
    exponents(sweep, column = :excess; along = :level, levels = [], over = :seed, confidence = 0.95)

d log time / d log of the axis `along`, or of 1/level, by least squares, with its confidence interval.
"""
function exponents(sweep::Sweep, column = :excess; along = :level, levels = Float64[], over = :seed, confidence::Real = 0.95)
    numbers = collect(Float64, levels)
    return sweep_table(sweep) do out
        ccall(symbol(:lamina_ensemble_exponents), Int32, (Ptr{Cvoid}, Cstring, Cstring, Cstring, Ptr{Float64}, Int64, Float64, Ptr{Ptr{Cvoid}}),
              sweep, string(column), string(along), over_text(sweep, over), numbers, length(numbers), confidence, out)
    end
end

function save(sweep::Sweep, path::AbstractString)
    lock(() -> (@call lamina_ensemble_save(sweep::Ptr{Cvoid}, path::Cstring)), sweep.lock)
    return path
end

"    load_sweep(path; task = nothing, progress = :auto)\n\nA sweep that was saved; `continue!` trains the rest. `task` as in `Lamina.load`."
function load_sweep(path::AbstractString; task::Union{Task,Nothing} = nothing, progress = :auto, progress_seconds::Real = INTERVAL)
    reporter(progress)
    handle = create(:lamina_ensemble_free; alive = task === nothing ? nothing : task.handle.alive) do out
        ccall(symbol(:lamina_ensemble_load), Int32, (Cstring, Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), path, task === nothing ? C_NULL : task, out)
    end
    return Sweep(handle, task, progress, progress_seconds, ReentrantLock())
end

function Base.show(io::IO, sweep::Sweep)
    found = statuses(sweep)
    print(io, "Lamina.Sweep of ", length(found), " runs (", join(["$key: $(length(list))" for (key, list) in pairs(axes(sweep))], ", "), "): ")
    print(io, join(["$(count(==(word), found)) $word" for word in unique(found)], ", "))
end
