# Are closed forms called by name, with arrays as arguments?
@test isapprox(Lamina.theory("bayes_risk"; noise = 0.2), 0.500402423538188; rtol = 1e-14)
@test isapprox(Lamina.theory("population_excess", [0.5 1; 2 4]; noise = 0.5), [2.62195023 1.92626246; 1.00789218 0.24020155]; atol = 1e-8)
@test length(Lamina.theory(:first_step)) == 3
@test Lamina.theory("binary_entropy", 0.5) ≈ log(2)
@test Lamina.theory("bayes_risk"; task = Lamina.Task(noise = 0.2)) == Lamina.theory("bayes_risk"; noise = 0.2)
@test throws_saying(() -> Lamina.theory("binary_entropy", 0.5; noise = 0.5), ArgumentError, "binary_entropy reads no task")
@test throws_saying(() -> Lamina.theory("binary_entropy"), Lamina.Error, "argument_count is 0")
@test throws_saying(() -> Lamina.theory("nonsense"), Lamina.Error, "name is nonsense", "bayes_risk")

# Forms of a matrix take it whole, and read the task that they are of.
Q = draw(1, 3, 3)
loss, gradient = Lamina.theory("population_loss", Q; features = 3), Lamina.theory("population_gradient", Q; features = 3)
@test loss isa Float64 && size(gradient) == (3, 3)
for i in (1, 6)
    step = zeros(3, 3)
    step[i] = 1e-5
    up, down = (Lamina.theory("population_loss", Q .+ sign .* step; features = 3) for sign in (1, -1))
    @test isapprox(gradient[i], (up - down) / 2e-5; rtol = 1e-6, atol = 1e-9)
end
@test Lamina.theory("loss_infimum") >= 0
@test throws_saying(() -> Lamina.theory("population_loss"), ArgumentError, "population_loss takes one array")
