# Are parameters named arrays, and predictions the mathematics?

# The tied model of the paper's section 2 on short prompts: xi_y = lambda n_y, xi_tau = lambda n_y + ln(a / (1 - a)).
model = Lamina.Model(; SMALL..., noise = 0.3, initialisation = :n1_star)
@test Lamina.parameters!(model; lambda = 1.5) === model
prompt = [1, 4, 9, 1, 20, 12, 1, 4, 1]
logits = Lamina.predict(model, prompt)
expected = zeros(21)
expected[4+1], expected[20+1] = 3, 3 + log(0.3 / 0.7)
@test logits isa Vector{Float64} && isapprox(logits, expected; atol = 1e-12)
@test [argmax(column) - 1 for column in eachcol(Lamina.predict(model, [1 1; 4 5; 1 1]; part = :attention))] == [4, 5]
@test Lamina.attention(model, prompt)[[2, 5, 8]] == [1.5, 1.5, 1.5] && size(Lamina.attention(model, [1 1; 4 5; 1 1])) == (3, 2)
@test same_bits(Lamina.predict(model, ["q1", "o1", "q1"]), Lamina.predict(model, [1, 4, 1]))
@test isapprox(Lamina.predict(model, prompt; part = :attention) + Lamina.predict(model, prompt; part = :feed_forward), logits)
@test throws_saying(() -> Lamina.predict(model, prompt; part = :everything), ArgumentError, "part is :everything")
@test throws_saying(() -> Lamina.predict(model, zeros(1, 2, 3)), ArgumentError, "a vector or a matrix")
@test throws_saying(() -> Lamina.predict(model, [0, 99]), Lamina.Error, "prompts[0, 1] is 99")

# A trained model on prompts of one's own: the token that followed the trigger.
trained = small(noise = 0, steps = 400, step_size = 0.1)
@test argmax(Lamina.predict(trained, ["q2", "o4", "q0", "o1", "q2"])) - 1 == only(Lamina.encode(trained.task, ["o4"]))
prompts, targets = Lamina.sample(trained.task, 100; split = :test)
@test [argmax(column) - 1 for column in eachcol(Lamina.predict(trained, prompts))] == targets[2, :]

# Out and in again, W[i, j] as in the mathematics: the row i of a matrix is what the library has first.
free = Lamina.Model(; SMALL..., variant = :original, initialisation = :gaussian)
@test (:W, :V, :U) ⊆ keys(free.parameters) && size(free.parameters.W) == (42, 42)
given = map(array -> reshape(collect(1.0:length(array)), size(array)) ./ 7, free.parameters)
Lamina.parameters!(free, given)
@test all(map(same_bits, free.parameters, given))
@test Lamina.parameter_vector(free)[1:2] == given[1][1, 1:2]
other = copy(free)
Lamina.parameters!(other; W = 0)
@test all(iszero, other.parameters.W) && same_bits(free.parameters.W, given.W)
Lamina.parameters!(free; W = PermutedDimsArray(permutedims(given.W), (2, 1)), V = view(given.V, :, :) .+ 1)
@test same_bits(free.parameters.W, given.W) && same_bits(free.parameters.V, given.V .+ 1)
free.parameters.W[1, 1] = -1  # of a copy
@test same_bits(free.parameters.W, given.W)
started = Lamina.Run(; RUN..., variant = :original, model = free)
@test same_bits(started.parameters.V, given.V .+ 1) && same_bits(Lamina.Model(started).parameters.W, given.W)

# All that are given, or none.
@test throws_saying(() -> Lamina.parameters!(free; V = 0, W = zeros(3)), DimensionMismatch, "parameter W has size (42, 42)")
@test throws_saying(() -> Lamina.parameters!(free; X = 1), ArgumentError, "X is not a parameter, must be one of", "W")
@test throws_saying(() -> Lamina.parameters!(free; V = 0, W = NaN), Lamina.Error, "values")
@test same_bits(free.parameters.V, given.V .+ 1)
@test throws_saying(() -> Lamina.parameters!(started; V = 0), ArgumentError, "Lamina.Model(run)")

# Loss and gradient: cross-entropy of the logits, and difference quotients.
function check_gradient(model)
    prompts, targets = Lamina.sample(model.task, 8)
    loss, gradient = Lamina.loss_gradient(model, prompts, targets)
    logits = Lamina.predict(model, prompts)
    @test isapprox(loss, sum(log(sum(exp, logits[:, i])) - logits[targets[1, i]+1, i] for i in 1:8) / 8; rtol = 1e-12)
    for name in (:W, :V, :U)
        direction, h = draw(3, size(gradient[name])...), 1e-5
        moved(sign) = Lamina.parameters!(copy(model), NamedTuple{(name,)}((model.parameters[name] .+ sign * h .* direction,)))
        up, down = (Lamina.loss_gradient(moved(sign), prompts, targets).loss for sign in (1, -1))
        @test isapprox(sum(gradient[name] .* direction), (up - down) / 2h; rtol = 1e-6, atol = 1e-9)
    end
end
foreach(check_gradient, Lamina.Model(; SMALL..., variant = :original, initialisation = :gaussian, initial_scale = 0.3, attention = map)
                        for map in (:linear, :softmax))
