# Does a run compute what it should, whole, in chunks and under watch?

# A population run: lambda = eta t / sqrt(|Q|) exactly, and the excess is that of the law of counts, summed here by hand: m uniform
# on 1..5, n = max(Bin(m, 1/2), 1).
run = Lamina.train(; data = :population, noise = 0.5, steps = 300, step_size = 0.1, probes = :none, progress = false)
law = zeros(5)
for m in 1:5, n in 0:m
    law[max(n, 1)] += binomial(m, n) * 0.5^m / 5
end
step = run.trajectory.step
@test step == 0:300
expected = [sum(law[n] * log1p(59 * 0.5 * exp(-0.1 / sqrt(5) * t * n)) for n in 1:5) for t in step]
@test isapprox(run.trajectory.excess, expected; rtol = 1e-9)
@test isapprox(Lamina.theory("excess_after", 0.1, step, 0; noise = 0.5), expected; rtol = 1e-12)
@test all(isapprox.(run.parameters.lambda, 30 / sqrt(5); rtol = 1e-12))

# Chunks are the whole.
whole = small()
parts = Lamina.Run(; RUN...)
@test parts.status === :unfinished && parts.step == 0 && isempty(parts.trajectory) && isnan(parts.loss)
for steps in (1, 5, 0)
    @test Lamina.continue!(parts, steps) === parts
end
@test parts.step == parts.steps == 20 && parts.status === :finished
@test same_rows(whole.trajectory, parts.trajectory) && same_parameters(whole, parts)
@test whole.loss == whole.trajectory.loss[end] && whole.excess == whole.trajectory.excess[end]
@test same_rows(small(threads = 2).trajectory, whole.trajectory)

# What holds in the run, given and default.
@test whole.options.vocabulary === 20 && whole.options.noise === 0.5 && whole.options.attention == "linear"
@test whole.options.seed === 1 && Lamina.Run(; RUN..., seed = 3).options.seed === 3
@test Lamina.Run(; prompt_length = Inf, data = :population).options.prompt_length === Inf
@test Lamina.Run(; RUN..., estimate_noise = false, isa = nothing).options.estimate_noise == "no"

# Progress is told, in order, and may stop the run.
seen = Lamina.Progress[]
run = small(progress = at -> (push!(seen, at); at.step < 5), progress_seconds = 0)
@test [at.step for at in seen] == 0:5 && all(at.steps == 20 for at in seen)
@test run.status === :stopped && length(run.trajectory) == 6
@test seen[4].loss == run.trajectory.loss[4] && seen[4].excess == run.trajectory.excess[4]
@test Lamina.continue!(run, 1).step == 5  # told once more, and stopped once more
run.progress = false
@test Lamina.continue!(run).status === :finished
@test small(progress = at -> nothing).status === :finished

# A run can be read while it goes on.
rows = Tuple{Int,Int,Int}[]
reading = Lamina.Run(; RUN..., progress_seconds = 0)
reading.progress = at -> (push!(rows, (at.step, reading.step, length(reading.trajectory))); nothing)
Lamina.continue!(reading)
@test rows == [(t, t, t + 1) for t in 0:20]

# What it throws comes out, and the run goes on when asked to.
failing = Lamina.Run(; RUN..., progress = at -> throw(DomainError(at.step, "from the host")), progress_seconds = 0)
@test throws_saying(() -> Lamina.continue!(failing), DomainError, "from the host")
@test failing.step == 0 && length(failing.trajectory) == 1
failing.progress = nothing
@test Lamina.continue!(failing).status === :finished

# The line on a terminal: longer than what follows, and cleared.
line = IOBuffer()
shown = Lamina.Line(line, 0)
shown(Lamina.Progress(5, 20, 1.5, 0.25, 0.1, 50.0))
@test isempty(take!(line))  # a short run shows none
shown(Lamina.Progress(5, 20, 1.5, 0.25, 0.6, 10.0))
text = String(take!(line))
@test occursin("step 5/20", text) && occursin("loss 1.5", text) && occursin("excess 0.25", text) && occursin("2 s left", text)
Lamina.clear(shown)
@test String(take!(line)) == "\r" * " "^(length(text) - 1) * "\r"

# Endings other than the last step.
diverged = @test_logs (:warn, r"diverged at step") Lamina.train(; RUN..., variant = :original, initialisation = :gaussian,
                                                                   optimiser = :gd, step_size = 1e6, steps = 200)
@test diverged.status === :diverged && diverged.step < 200 && !isfinite(diverged.loss)

# Crossings and targets.
balanced(; more...) = Lamina.train("in_context_convergence"; features = 10, prompt_length = Inf, progress = false, steps = 1000, more...)
timed = balanced(probes = :none, record_per_decade = 1, crossings = ["loss=0.1", "attention_0=0.5", "loss=1e-9"])
@test [c.signal for c in timed.crossings] == ["loss", "attention_0", "loss"]
@test isequal([c.step for c in timed.crossings], [166, 145, missing])
@test timed.crossings[1].before > 0.1 >= timed.crossings[1].after
@test isequal([c.time for c in timed.crossings], [166, 145, missing])
along = balanced(optimiser = :flow, step_size = 40, crossings = "attention_0=0.5", stop_at_crossings = "yes")
@test along.step - 1 < along.crossings[1].time < along.step
@test isapprox(along.crossings[1].time * 40, Lamina.theory("flow_time", 0.5; task = along.task); rtol = 1e-7)
@test timed.trajectory.step == [0, 1, 10, 100, 145, 166, 1000]
reached = balanced(excess_target = 0.1)
@test reached.status === :target_reached && reached.step == 166 && isempty(reached.crossings)
@test Lamina.continue!(reached).status === :finished && reached.step == 1000
@test balanced(steps = 10^9, record_every = 10^9, time_limit = 1e-3).status === :time_limit

# A model to start from is copied.
model = Lamina.Model(; SMALL...)
Lamina.parameters!(model; lambda = 2)
started = small(model = model, steps = 5)
@test started.trajectory.lambda_0[1] == 2 && model.parameters.lambda == [2, 2, 2]

# An option that is a file, a word, numbers.
text_file = tempname()
write(text_file, "the cat and the dog and the bird saw the cat "^50)
words = Lamina.train("text_recall"; file = text_file, vocabulary = 8, triggers = 1, unseen_outputs = 1, prompt_length = 32,
                     samples = 32, steps = 2, evaluation_samples = 16, progress = false)
@test words.step == 2 && " " in Lamina.tokens(words.task)
