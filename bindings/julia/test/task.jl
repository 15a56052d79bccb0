# Are samples what the task says: by seed, split and number, as tokens and as texts?
task = Lamina.Task(noise = 0.5)
@test (task.name, task.length, task.vocabulary, task.outputs) == ("in_context_recall", 256, 60, 61)
prompts, targets = Lamina.sample(task, 50; seed = 7)
@test prompts isa Matrix{Int} && size(prompts) == (256, 50) && size(targets) == (2, 50)
@test Lamina.sample(task, 10; seed = 7, first = 20).prompts == prompts[:, 21:30]
@test Lamina.sample("in_context_recall", 50; seed = 7, noise = 0.5).prompts == prompts
@test Lamina.sample(task, 50; seed = 8).prompts != prompts

# What follows an earlier trigger is its answer or tau, and so is the label.
tau = task.vocabulary
for (prompt, (label, answer)) in zip(eachcol(prompts), eachcol(targets))
    after = [prompt[i+1] for i in 1:255 if prompt[i] == prompt[end]]
    @test answer in after && after ⊆ (answer, tau) && label in (answer, tau)
end
@test isempty(intersect(Lamina.sample(task, 50; split = :unseen).targets[2, :], targets[2, :]))

@test Lamina.tokens(task)[end] == "tau" && length(Lamina.tokens(task)) == 61
@test Lamina.encode(task, Lamina.decode(task, prompts)) == prompts
@test Lamina.decode(task, [0, 60]) == ["q0", "tau"]

# Options that are numbers with commas in C.
weighted = Lamina.Task(; vocabulary = 20, triggers = 3, outputs = 5, prompt_length = 24, occurrences = 3, unseen_outputs = 3,
                       trigger_weights = [1, 1e-4, 1e-4])
@test count(==(0), Lamina.sample(weighted, 200).prompts[end, :]) > 180

@test Lamina.Task(prompt_length = nothing).length == 256  # nothing is the default
@test Lamina.Task(prompt_length = Inf).length === nothing
@test throws_saying(() -> Lamina.sample(Lamina.Task(prompt_length = Inf), 1), ArgumentError, "infinite")
@test throws_saying(() -> Lamina.sample(task, 1; split = :valid), ArgumentError, "split is :valid", ":train, :test, :unseen")
@test throws_saying(() -> Lamina.encode(task, ["q99"]), ArgumentError, "\"q99\" is not a token")
@test throws_saying(() -> Lamina.sample(task, -1), Lamina.Error, "count is -1")
@test throws_saying(() -> Lamina.Task(steps = 3), ArgumentError, "steps is an option of the trainer")
@test throws_saying(() -> Lamina.train(task; noise = 0.2), ArgumentError, "noise is an option of the task, which is made already")

# Targets that are laws, tokens without tau.
causal = Lamina.Task("causal_structure"; vocabulary = 4, prompt_length = 6)
sequences, laws = Lamina.sample(causal, 20)
@test size(laws) == (4, 20) && all(abs.(sum(laws; dims = 1) .- 1) .< 1e-14) && maximum(sequences) < 4
@test Lamina.tokens(causal) == ["s0", "s1", "s2", "s3"]
@test sprint(show, causal) == "Lamina.Task causal_structure: prompts of 6 tokens out of 4"
@test size(Lamina.loss_gradient(Lamina.Model(causal), sequences, laws).gradient.A1) == (6, 6)
@test_throws DimensionMismatch Lamina.loss_gradient(Lamina.Model(causal), sequences, laws[1:2, :])
