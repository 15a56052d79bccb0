# Is the trajectory a table as Tables.jl has it: columns by name, rows as named tuples?
run = small()
table = run.trajectory

# A vector of named tuples is a table to Tables.jl without a method of it.
@test table isa AbstractVector{<:NamedTuple} && length(table) == 21
@test propertynames(table)[1:3] == (:step, :loss, :excess) == fieldnames(eltype(table))[1:3]
@test table.step == 0:20 && table.step isa Vector{Float64}
@test table[:loss] === table["loss"] === table.loss

row = table[end]
@test row isa NamedTuple && row === last(table) && row.step === 20.0 && row.excess === table.excess[end]
@test [r.loss for r in table] == table.loss && collect(table) isa Vector{eltype(table)}
@test NamedTuple(table).excess === table.excess && keys(NamedTuple(table)) == propertynames(table)

# Some of the rows are a trajectory.
for rows in (2:3, [2, 3], 0 .< table.step .< 3)
    @test table[rows] isa Lamina.Trajectory && table[rows].step == [1, 2] && table[rows].loss == table.loss[2:3]
end
@test filter(r -> r.step > 18, collect(table)) == table[20:21]

# It is a copy, and stays what it was.
part = Lamina.continue!(Lamina.Run(; RUN...), 3)
before = part.trajectory
kept = deepcopy(NamedTuple(before))
Lamina.continue!(part)
@test NamedTuple(before) == kept && length(part.trajectory) == 21
table.loss[1] = 0
@test run.trajectory.loss[1] > 1

# Columns are defined, probes chosen by name.
@test keys(run.definitions) == propertynames(table) && all(!isempty, run.definitions)
names = (:step, :loss, :excess, :lambda_0, :lambda_1, :lambda_2)
@test propertynames(small(probes = [:lambda, :mass]).trajectory) == (names..., :mass_answer, :mass_noise, :mass_other)
@test propertynames(small(probes = "none").trajectory) == names[1:3]
watched = Lamina.watch!(Lamina.Run(; RUN..., probes = :none), :lambda)
@test propertynames(Lamina.continue!(watched).trajectory) == names
@test throws_saying(() -> Lamina.watch!(watched, "mass"), Lamina.Error, "before the first step")
@test throws_saying(() -> Lamina.watch!(Lamina.Run(; RUN...), "nonsense"), Lamina.Error, "nonsense", "mass")

@test throws_saying(() -> table.nothing_such, ArgumentError, "nothing_such is not a column, must be one of step, loss, excess")
@test_throws BoundsError table[22]
@test_throws BoundsError table[0]
