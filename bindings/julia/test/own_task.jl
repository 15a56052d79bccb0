# Are the host's own arrays and its own sampler tasks like any other?
named = Lamina.Task(; SMALL..., noise = 0.5)
prompts, targets = Lamina.sample(named, 64)

# Arrays: the same training set, the same bits.
own = Lamina.Task(prompts, targets; vocabulary = 20, noise = 0.5)
options = (samples = 64, steps = 20, probes = :none, progress = false)
@test same_bits(Lamina.train(own; options...).trajectory.loss, Lamina.train(named; options...).trajectory.loss)
@test Lamina.sample(own, 5).prompts == prompts[:, 1:5] && Lamina.sample(own, 3; first = 64).prompts == prompts[:, 1:3]
@test Lamina.sample(Lamina.Task(view(prompts, :, 2:2:64), view(targets, :, 2:2:64); vocabulary = 20), 2).prompts == prompts[:, [2, 4]]
@test Lamina.sample(Lamina.Task(reshape([0, 3, 1, 0], :, 1), [3]; vocabulary = 5), 1).targets == reshape([3, 3], 2, 1)
@test throws_saying(() -> Lamina.Task(reshape([0, 9, 1, 0], :, 1), [3]; vocabulary = 5), Lamina.Error, "prompts", "9")
@test throws_saying(() -> Lamina.Task(prompts, [1, 2]; vocabulary = 20), DimensionMismatch, "must be (2, 64) or (64,)")

# A sampler: the same prompts, the same bits, called on this thread and in this task.
calls = []
sampler(split, seed, first, count) = (push!(calls, (split, first, count, current_task(), Threads.threadid()));
                                      Lamina.sample(named, count; split = split, seed = seed, first = first))
law = Lamina.Task(sampler; length = 24, vocabulary = 20, noise = 0.5)
# The library cannot know which tokens of an own task are triggers; a model without ties has no use for them.
fresh = (data = :fresh, batch = 32, steps = 20, probes = :none, variant = :original, initialisation = :gaussian, progress = false)
@test same_bits(Lamina.train(law; fresh...).trajectory.loss, Lamina.train(named; fresh...).trajectory.loss)
@test (:train, 32, 32, current_task(), Threads.threadid()) in calls
@test all(call[4:5] == (current_task(), Threads.threadid()) for call in calls)
@test Lamina.sample(law, 2; split = :unseen).prompts == Lamina.sample(named, 2; split = :unseen).prompts
@test calls[end][1:3] == (:unseen, 0, 2)

# What it throws comes out, whoever called it.
failing = Lamina.Task((arguments...) -> throw(KeyError("no more prompts")); length = 4, vocabulary = 6)
@test throws_saying(() -> Lamina.sample(failing, 1), KeyError, "no more prompts")
@test throws_saying(() -> Lamina.train(failing; progress = false), KeyError, "no more prompts")
run = Lamina.Run(failing; data = :fresh, samples = 4, evaluation_samples = 4, probes = :none, progress = false)
@test throws_saying(() -> Lamina.continue!(run), KeyError, "no more prompts")
@test run.step == 0
stopped = Lamina.Task((arguments...) -> throw(InterruptException()); length = 4, vocabulary = 6)
@test_throws InterruptException Lamina.sample(stopped, 1)

# What it gives is checked.
gives(prompts, targets) = Lamina.Task((arguments...) -> (prompts, targets); length = 4, vocabulary = 6)
@test throws_saying(() -> Lamina.sample(gives(reshape([0, 1, 2, 77], :, 1), [1]), 1), Lamina.Error, "77")
@test throws_saying(() -> Lamina.sample(gives(zeros(3, 1), [1]), 1), DimensionMismatch, "size (3, 1), must be (4, 1)")
@test throws_saying(() -> Lamina.sample(gives(zeros(4, 1), [1, 2]), 1), DimensionMismatch, "must be (2, 1) or (1,)")
