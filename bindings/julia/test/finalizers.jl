# Are handles freed in any order, and is what C points at kept as long as needed?
orders(items) = isempty(items) ? [[]] : [[item; rest] for item in items for rest in orders(filter(!=(item), items))]

function objects()
    sampler(split, seed, first, count) = (repeat([0, 3, 1, 0], 1, count), fill(3, count))
    task = Lamina.Task(sampler; length = 4, vocabulary = 6)
    run = Lamina.Run(task; steps = 3, data = :fresh, samples = 4, evaluation_samples = 4, progress = false)
    return Any[task, run, Lamina.Model(run), Lamina.continue!(run, 1).trajectory]
end

for order in orders(collect(1:4))
    kept = objects()
    for index in order[1:3]
        kept[index] = nothing
        GC.gc()
    end
    last = kept[order[4]]
    # Its task's function must still be there.
    last isa Lamina.Run && @test Lamina.continue!(last).step == 3
    last isa Lamina.Task && @test Lamina.sample(last, 1).prompts == reshape([0, 3, 1, 0], 4, 1)
    last isa Lamina.Model && @test all(isfinite, Lamina.predict(last, [0, 3, 1, 0]))
    last isa Lamina.Trajectory && @test last.step == [0, 1]
end

# Collections in the middle of runs: callbacks, progress, records.
collecting = Lamina.Run(; RUN..., progress = at -> (GC.gc(false); nothing), progress_seconds = 0)
@test same_rows(Lamina.continue!(collecting).trajectory, small().trajectory)

# A run that was loaded keeps its own task; a model outlives its run.
path = tempname()
Lamina.save(small(), path)
model = Lamina.Model(Lamina.load(path; progress = false))
prompts = Lamina.sample(model.task, 3).prompts
GC.gc()
@test same_bits(Lamina.predict(model, prompts), Lamina.predict(small(), prompts))

# By hand, and used again: refused, not crashed.
model = Lamina.Model(; SMALL...)
finalize(getfield(model, :handle))
finalize(getfield(model, :handle))
@test throws_saying(() -> Lamina.predict(model, [0, 3, 0]), Lamina.Error, "model is NULL")
