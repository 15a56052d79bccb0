# Sweeps: each run is the run alone; statistics are those of the table; failures, interrupts and files keep what has ended.
const BASE = (data = "fresh", batch = 16, prompt_length = 20, steps = 30, record_every = 3, progress = false)
const NAME = "in_context_convergence"

sweep = Lamina.sweep(NAME; BASE..., attention = [:softmax, :relu], seed = 0:2, step_size = [0.5, 2.0], threads = 2)
@test length(sweep) == 12
@test axes(sweep) == (attention = ["softmax", "relu"], seed = [0.0, 1.0, 2.0], step_size = [0.5, 2.0])
table = Lamina.table(sweep)
for i in 1:12
    chosen = (attention = Lamina.option(sweep, i, :attention), seed = parse(Int, Lamina.option(sweep, i, :seed)),
              step_size = parse(Float64, Lamina.option(sweep, i, :step_size)))
    alone = Lamina.train(NAME; BASE..., chosen...).trajectory
    mine = table.member .== i - 1
    @test all(==(chosen.attention), table.attention[mine])
    @test same_rows(alone, Lamina.trajectory(sweep, i))
    @test all(same_bits(alone[name], table[name][mine]) for name in propertynames(alone))
end
@test all(==("finished"), Lamina.statuses(sweep)) && occursin("12 finished", string(sweep))

rows = Lamina.quantiles(sweep, :loss; quantiles = [0.5])
for i in eachindex(rows.step)
    these = (table.attention .== rows.attention[i]) .& (table.step_size .== rows.step_size[i]) .& (table.step .== rows.step[i])
    @test sort(table.loss[these])[2] == rows[Symbol("q0.5")][i] && rows.members[i] == 3
end

# F6 of in-context convergence.
laws = Lamina.sweep(NAME; prompt_length = Inf, features = [160, 320], steps = 200000, record_every = 1000000, probes = "none", progress = false,
                    crossings = ["loss=0.1", "loss=0.01"], loss_target = 0.01)
@test all(abs.(Lamina.exponents(laws, :loss; along = :features).exponent .- [1.94, 1.82]) .< 0.006)
@test Lamina.times(laws, :loss).level == [0.1, 0.01, 0.1, 0.01]
@test isnan(Lamina.times(laws, :loss, [1e-9]).time[1])

mixed = Lamina.sweep(NAME; BASE..., dimension = [0, 2])
@test occursin("dimension is 2", Lamina.statuses(mixed)[2])
@test throws_saying(() -> Lamina.trajectory(mixed, 2), Lamina.Error, "dimension is 2")
@test throws_saying(() -> Lamina.sweep(NAME; BASE..., seed = [1, 1]), Lamina.Error, "twice")
lists = Lamina.sweep(NAME; BASE..., features = 2, feature_weights = [[1, 1], [1, 3]], probes = [["weights"], ["weights", "attention"]])
@test axes(lists) == (feature_weights = ["1,1", "1,3"], probes = ["weights", "weights,attention"])

# Stopped by its progress, saved, loaded, continued: the bits of an uninterrupted sweep.
long(progress) = Lamina.sweep(NAME; merge(BASE, (steps = 600, record_every = 50, batch = 64, progress = progress))..., seed = 0:29, probes = "none")
seen = Lamina.SweepProgress[]
half = long(at -> (push!(seen, at); false))
@test !isempty(seen) && seen[end].members == 30 && seen[end].all_steps == 30 * 600 && 0 < seen[end].steps <= 30 * 600
path = Lamina.save(half, tempname())
resumed, whole = Lamina.table(Lamina.continue!(Lamina.load_sweep(path; progress = false))), Lamina.table(long(false))
@test keys(resumed) == keys(whole) && all(same_bits(resumed[name], whole[name]) for name in keys(whole))
