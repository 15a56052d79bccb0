# Does a run that was saved go on with the same bits?
path = joinpath(mktempdir(), "run.safetensors")

for options in ((;), (variant = :original, initialisation = :gaussian, optimiser = :adam, step_size = 1e-2),
                (data = :fresh, batch = 16, optimiser = :momentum))
    whole = small(; options...)
    first_part = Lamina.continue!(Lamina.Run(; RUN..., options...), 7)
    @test Lamina.save(first_part, path) == path
    loaded = Lamina.load(path; progress = false)
    @test loaded.step == 7 && loaded.status === :unfinished && same_rows(loaded.trajectory, whole.trajectory[1:8])
    @test loaded.task.name == "in_context_recall" && loaded.task.vocabulary == 20 && loaded.options == first_part.options
    @test same_parameters(loaded, first_part)
    prompts = Lamina.sample(loaded.task, 4; split = :test).prompts
    @test same_bits(Lamina.predict(loaded, prompts), Lamina.predict(first_part, prompts))
    @test Lamina.continue!(loaded).status === :finished
    @test same_rows(loaded.trajectory, whole.trajectory) && same_parameters(loaded, whole)
end

# A task of the host is not in the file.
task = Lamina.Task([0 1; 3 4; 1 2; 0 1], [3, 4]; vocabulary = 5)
options = (samples = 2, evaluation_samples = 2, steps = 6, progress = false)
whole = Lamina.train(task; options...)
Lamina.save(Lamina.continue!(Lamina.Run(task; options...), 3), path)
@test throws_saying(() -> Lamina.load(path), Lamina.Error, "host's own task")
@test same_rows(Lamina.continue!(Lamina.load(path; task = task, progress = false)).trajectory, whole.trajectory)

@test throws_saying(() -> Lamina.load("/nowhere/run.safetensors"), Lamina.Error, "/nowhere/run.safetensors")
@test throws_saying(() -> Lamina.save(whole, "/nowhere/run.safetensors"), Lamina.Error, "/nowhere/run.safetensors")
write(path, "not a run")
@test throws_saying(() -> Lamina.load(path), Lamina.Error, path)
