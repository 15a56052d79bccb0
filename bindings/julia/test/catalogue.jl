# Can everything be listed and described?
tasks = Lamina.list()
@test ["in_context_recall", "text_recall"] ⊆ keys(tasks)
@test haskey(Lamina.list("probes"), "lambda") && haskey(Lamina.list(:theory), "bayes_risk")

described = Lamina.describe("in_context_recall")
@test described["noise"].default == "0.5" && described["noise"].owner == "task" && described[:steps].default == "400"
@test described["attention"].words == ["softmax", "linear", "relu"]
@test described["noise"].minimum == 0 && 0.99 < described["noise"].maximum < 1
@test length(described) == length(collect(described)) == length(keys(described))

text = sprint(show, MIME("text/plain"), described)
@test occursin("2505.15009", text) && all(occursin(name, text) for name in keys(described))
@test maximum(length, split(text, "\n")) <= 110
@test occursin("h(alpha)", sprint(show, MIME("text/plain"), Lamina.describe("binary_entropy")))
@test Lamina.describe(:noise).summary == described["noise"].summary

@test throws_saying(() -> Lamina.describe("nonsense"), ArgumentError, "name is \"nonsense\"", "in_context_recall", "bayes_risk")
@test throws_saying(() -> Lamina.list("nonsense"), ArgumentError, "must be one of tasks, probes, theory")
@test throws_saying(() -> described["nonsense"], KeyError, "nonsense")

@test occursin(r"^\d+\.\d+\.\d+$", Lamina.version()) && occursin("xsimd", Lamina.build_info())
@test Lamina.instruction_sets()[end] == "reference"
