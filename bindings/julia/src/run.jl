# Runs: a model descends an objective, and a trajectory is recorded.

const INTERVAL = 0.1  # seconds between two looks at Ctrl-C and two lines of progress

"""
    Run(task = "in_context_recall"; model = nothing, progress = :auto, progress_seconds = 0.1, options...)

A run, made but not begun: `Lamina.continue!(run)` makes its steps, all or some. `Lamina.train` does both.

`task` is a name or a `Lamina.Task`, `model` a `Lamina.Model` to start from (it is copied; else one is made), `options` are those
of `Lamina.describe(name)`. `progress` is `:auto` (a line if stderr is a terminal), `true`, `false`, or a function of a
`Lamina.Progress` that is called about every `progress_seconds` (0: after every step) and may return `false` to stop the run.

Properties: `trajectory` (a `Lamina.Trajectory`, a table to Tables.jl), `definitions` (of its columns), `parameters`, `loss`,
`excess`, `step`, `steps`, `status` (:finished, :unfinished, :stopped, :diverged, :gradient_vanished, :target_reached, :time_limit),
`crossings`, `options`, `task`.
"""
mutable struct Run
    handle::Handle
    task::Task
    progress::Any
    progress_seconds::Float64
    last::Int32  # the status of the last lamina_trainer_run
    lock::ReentrantLock  # a handle serves one thread at a time
end

function Run(task::Union{AbstractString,Symbol,Task} = "in_context_recall"; model::Union{Model,Nothing} = nothing,
             progress = :auto, progress_seconds::Real = INTERVAL, options...)
    reporter(progress)
    set = make_options(options)
    law = as_task(task, options, set)
    start = model === nothing ? C_NULL : model
    handle = create(:lamina_trainer_free; failures = law.failures, alive = law.handle.alive) do out
        ccall(symbol(:lamina_trainer_create), Int32, (Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), law, start, set, out)
    end
    return Run(handle, law, progress, progress_seconds, 0, ReentrantLock())
end

Base.cconvert(::Type{Ptr{Cvoid}}, run::Run) = getfield(run, :handle)

"    train(task = \"in_context_recall\"; arguments of Lamina.Run...)\n\nMakes a `Lamina.Run` and all its steps."
train(task = "in_context_recall"; arguments...) = continue!(Run(task; arguments...))

"Ctrl-C during a run or a sweep. `run` is it with everything computed so far; it can be read, saved and continued."
struct Interrupted <: Exception
    run::Any
end

Base.showerror(io::IO, e::Interrupted) =
    print(io, "Lamina.Interrupted: ", e.run isa Run ? "stopped at step $(e.run.step) of $(e.run.steps)" : "stopped: $(e.run)",
          "; what was computed so far is `run` of this exception ",
          "(in the REPL: err[1][1].run)")

# What C points at during a run.
mutable struct Watch
    report::Any
    failures::Vector{Any}
end

function tell(user::Ptr{Cvoid}, record::Ptr{ProgressRecord})::Int32
    watch = unsafe_pointer_to_objref(user)::Watch
    # Also without a report: this is where Ctrl-C is noticed.
    going = call_host(() -> watch.report === nothing ? true : watch.report(Progress(unsafe_load(record))), watch.failures)
    return going === false || !isempty(watch.failures) ? 1 : 0
end

set_progress(run, call, user, seconds) =
    @call lamina_trainer_on_progress(run::Ptr{Cvoid}, call::Ptr{Cvoid}, user::Ptr{Cvoid}, seconds::Float64)

"""
    continue!(run, steps = 0)

Makes at most `steps` more updates, 0: all that remain of the option `steps`; gives the run. Ctrl-C throws `Lamina.Interrupted`
after the step under way; what was computed stays, and the run can be continued.
"""
function continue!(run::Run, steps::Integer = 0)
    lock(run.lock) do
        report = reporter(run.progress)
        watch = Watch(report, run.task.failures)
        call = @cfunction(tell, Int32, (Ptr{Cvoid}, Ptr{ProgressRecord}))
        GC.@preserve watch begin
            set_progress(run, call, pointer_from_objref(watch), report === nothing ? INTERVAL : run.progress_seconds)
            try
                hosting(watch.failures; translate = e -> e isa InterruptException ? Interrupted(run) : e) do
                    status = ccall(symbol(:lamina_trainer_run), Int32, (Ptr{Cvoid}, Int64), run, steps)
                    status < 0 || (run.last = status)
                    status
                end
            finally
                set_progress(run, C_NULL, C_NULL, 0)
                clear(report)
            end
        end
    end
    status(run) === :diverged && @warn "the run diverged at step $(run.step): loss or gradient is no longer finite"
    return run
end

"    stop(run)\n\nEnds the run after the step under way; from any thread."
stop(run::Run) = @call lamina_trainer_stop(run::Ptr{Cvoid})::Cvoid

"    watch!(run, probe)\n\nAdds a probe of `Lamina.list(\"probes\")` to the trajectory; before the first step only."
function watch!(run::Run, probe)
    lock(() -> (@call lamina_trainer_watch(run::Ptr{Cvoid}, string(probe)::Cstring)), run.lock)
    return run
end

"    save(run, path)\n\nWrites everything needed to continue with the same bits to one safetensors file, whole or not at all."
function save(run::Run, path::AbstractString)
    lock(() -> (@call lamina_trainer_save(run::Ptr{Cvoid}, path::Cstring)), run.lock)
    return path
end

"""
    load(path; task = nothing, progress = :auto, progress_seconds = 0.1)

A run that was saved; `continue!` goes on with the same bits. A task made from arrays or a function is not in the file: give it as
`task`.
"""
function load(path::AbstractString; task::Union{Task,Nothing} = nothing, progress = :auto, progress_seconds::Real = INTERVAL)
    reporter(progress)
    given = task === nothing ? C_NULL : task
    failures, alive = task === nothing ? (Any[], nothing) : (task.failures, task.handle.alive)
    handle = create(:lamina_trainer_free; failures = failures, alive = alive) do out
        ccall(symbol(:lamina_trainer_load), Int32, (Cstring, Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), path, given, out)
    end
    law = task
    if law === nothing
        law = Task(create(:lamina_task_free) do out
            ccall(symbol(:lamina_trainer_task), Int32, (Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), handle, out)
        end)
    end
    return Run(handle, law, progress, progress_seconds, 0, ReentrantLock())
end

Model(run::Run) = lock(run.lock) do
    handle = create(:lamina_model_free) do out
        ccall(symbol(:lamina_trainer_model), Int32, (Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), run, out)
    end
    Model(handle, run.task)
end

parameters(run::Run) = parameters(Model(run))
parameters!(run::Run, values...; named...) =
    throw(ArgumentError("the parameters of a run are what it computed: set those of a copy, Lamina.Model(run)"))
predict(run::Run, prompts; part = :all) = predict(Model(run), prompts; part = part)
attention(run::Run, prompts) = attention(Model(run), prompts)
loss_gradient(run::Run, prompts, targets) = loss_gradient(Model(run), prompts, targets)

"    trajectory(run)\n\nThe rows recorded so far, a `Lamina.Trajectory`; also `run.trajectory`."
trajectory(run::Run) = lock(() -> read_trajectory(run)[1], run.lock)

"    definitions(run)\n\nWhat each column of the trajectory is, a named tuple of texts; also `run.definitions`."
definitions(run::Run) = lock(() -> read_trajectory(run)[2], run.lock)

"""
    crossings(run)

The pairs of the option `crossings`, such as `crossings = ["excess=1e-3", "loss=0.5"]`, as a table to Tables.jl: the column `signal`,
the `value`, the first `step` at which it was reached (`missing`: not yet), the column `before` and `after`, and the `time` in steps,
which with `optimiser = :flow` is the moment between two steps; also `run.crossings`.
Of sampled data `loss` and `excess` are the batch's; `population_loss` and `population_excess` (probe `population`) are of the exact
law, and `stop_at_crossings = "yes"` ends the run at the last of them.
"""
function crossings(run::Run)
    Row = NamedTuple{(:signal, :value, :step, :before, :after, :time),
                     Tuple{String,Float64,Union{Int,Missing},Float64,Float64,Union{Float64,Missing}}}
    count = Ref{Int64}(0)
    lock(run.lock) do
        @call lamina_trainer_crossing_count(run::Ptr{Cvoid}, count::Ptr{Int64})
        map(0:count[]-1) do index
            record = blank(CrossingRecord)
            @call lamina_trainer_crossing(run::Ptr{Cvoid}, index::Int64, record::Ref{CrossingRecord})
            GC.@preserve run begin
                signal = unsafe_string(record.signal)
            end
            reached(x) = record.step < 0 ? missing : x
            Row((signal, record.value, reached(Int(record.step)), record.before, record.after, reached(record.time)))
        end
    end
end

"    options(run)\n\nThe value of every option that holds in the run, given or default, a named tuple; also `run.options`."
function options(run::Run)
    out = Ref{Ptr{UInt8}}(C_NULL)
    known = entries(run.task.name)
    found = lock(run.lock) do
        map(values(known)) do entry
            @call lamina_trainer_option(run::Ptr{Cvoid}, entry.name::Cstring, out::Ptr{Ptr{UInt8}})
            GC.@preserve run parse_value(entry, unsafe_string(out[]))
        end
    end
    return NamedTuple{Tuple(Symbol(entry.name) for entry in values(known))}(Tuple(found))
end

function updates(run::Run)
    made = Ref{Int64}(0)
    lock(() -> (@call lamina_trainer_step(run::Ptr{Cvoid}, made::Ptr{Int64})), run.lock)
    return Int(made[])
end

function status(run::Run)
    run.last > 0 && return STATUSES[run.last]
    return run.step == run.steps && !isempty(run.trajectory.step) ? :finished : :unfinished
end

last_of(column) = isempty(column) ? NaN : last(column)

const RUN_PROPERTIES = (
    trajectory = trajectory, definitions = definitions, parameters = parameters, options = options, step = updates,
    steps = run -> run.options.steps, status = status, crossings = crossings, loss = run -> last_of(run.trajectory.loss),
    excess = run -> last_of(run.trajectory.excess))

Base.propertynames(::Run) = (keys(RUN_PROPERTIES)..., :task, :progress, :progress_seconds)
function Base.getproperty(run::Run, name::Symbol)
    haskey(RUN_PROPERTIES, name) && return RUN_PROPERTIES[name](run)
    hasfield(Run, name) && return getfield(run, name)
    throw(ArgumentError("$name is not a property of a run, must be one of $(join(propertynames(run), ", "))"))
end

Base.show(io::IO, run::Run) = print(io, "Lamina.Run of ", run.task.name, ": step ", run.step, " of ", run.steps, ", ", run.status)
function Base.show(io::IO, ::MIME"text/plain", run::Run)
    show(io, run)
    table = run.trajectory
    if !isempty(table.step)
        print(io, "\n  loss ", round(run.loss; digits = 6), ", excess ", round(run.excess; sigdigits = 4))
        :predicted in propertynames(table) && print(io, ", predicted ", round(last(table.predicted); sigdigits = 4))
    end
    now = run.options
    chosen = ["$(e.name) = $(repr(now[Symbol(e.name)]))" for e in values(entries(run.task.name))
              if now[Symbol(e.name)] != parse_value(e, e.default)]
    isempty(chosen) || print(io, "\n  ", join(chosen, ", "))
end
