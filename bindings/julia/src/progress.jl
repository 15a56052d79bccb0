# What is told while a run goes on: a record for the user's function, and the line that is shown on a terminal.

"Updates made and asked for in all, loss and excess of the last (NaN where it is not defined), time."
struct Progress
    step::Int
    steps::Int
    loss::Float64
    excess::Float64
    seconds::Float64
    steps_per_second::Float64
end

Progress(record::ProgressRecord) =
    Progress(record.step, record.steps, record.loss, record.excess, record.seconds, record.steps_per_second)

function Base.show(io::IO, at::Progress)
    print(io, "step ", at.step, "/", at.steps, "  loss ", round(at.loss; digits = 6))
    isnan(at.excess) || print(io, "  excess ", round(at.excess; sigdigits = 4))
    rate = at.steps_per_second
    isfinite(rate) && rate > 0 &&
        print(io, "  ", round(Int128, rate), " steps/s  ", round(Int128, (at.steps - at.step) / rate), " s left")
end

const QUIET_SECONDS = 0.5  # shorter runs show no line

# A line on a terminal that is written again and again, and cleared at the end.
mutable struct Line
    io::IO
    shown::Int
end

function (line::Line)(at::Progress)
    at.seconds < QUIET_SECONDS && return nothing
    text = string(at)
    print(line.io, "\r", rpad(text, line.shown))
    line.shown = length(text)
    return nothing
end

function clear(line::Line)
    line.shown > 0 && print(line.io, "\r", " "^line.shown, "\r")
    line.shown = 0
end
clear(_) = nothing

reporter(progress::Nothing) = nothing
reporter(progress::Bool) = progress ? Line(stderr, 0) : nothing
reporter(progress::Symbol) = progress === :auto ? reporter(stderr isa Base.TTY) : reporter(string(progress))
reporter(progress::Union{AbstractString,Number}) =
    throw(ArgumentError("progress is $(repr(progress)), must be a function, :auto, true, false or nothing"))
reporter(progress) = progress
