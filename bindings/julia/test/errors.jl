# Does each refusal name the argument, its value and what is allowed?
for (call, texts) in (
    (() -> Lamina.train(noise = 2), "noise is 2", "[0, "),
    (() -> Lamina.train(nois = 0.5), "\"nois\" is not an option", "noise"),
    (() -> Lamina.train("nothing"), "\"nothing\"", "in_context_recall"),
    (() -> Lamina.train(attention = :cubic), "attention is \"cubic\"", "softmax"),
    (() -> Lamina.train(steps = 1.5), "steps is 1.5", "integer"),
    (() -> Lamina.train(isa = "abacus"), "isa", "abacus"))
    @test throws_saying(call, Lamina.Error, texts...)
end
error = try Lamina.train(noise = 2) catch caught; caught end
@test error.status < 0 && error.name == "LAMINA_E_OPTION" && startswith(error.text, "lamina_")
@test sprint(showerror, error) == "Lamina.Error: " * error.text

@test throws_saying(() -> Lamina.train(noise = missing), ArgumentError, "option noise is missing")
@test throws_saying(() -> Lamina.Run(progress = "loud"), ArgumentError, "progress is \"loud\"", ":auto")
run = small()
@test throws_saying(() -> run.nonsense, ArgumentError, "nonsense is not a property of a run, must be one of trajectory")

q, k, v = draw(1, 5, 7), draw(2, 5, 9), draw(3, 4, 9)
for (kind, call, texts) in (
    (ArgumentError, () -> Lamina.attention(Int.(round.(q)), k, v), ("q has elements Int64", "Float32 or Float64",)),
    (ArgumentError, () -> Lamina.attention(q, Float32.(k), v), ("k has elements Float32, q has Float64",)),
    (DimensionMismatch, () -> Lamina.attention(q, k[1:2, :], v), ("k has size (2, 9)", "features and batch must agree",)),
    (DimensionMismatch, () -> Lamina.attention(q, k, v[:, 1:2]), ("v has size (4, 2)", "all but the features",)),
    (DimensionMismatch, () -> Lamina.attention(q[:, 1], k, v), ("q has 1 dimensions, must have 2 to 4",)),
    (DimensionMismatch, () -> Lamina.attention(reshape(q, 5, 7, 1), k, v), ("k has 2 dimensions, q has 3",)),
    (DimensionMismatch, () -> Lamina.attention(q, k, v; bias = zeros(7, 9)), ("bias has size (7, 9)", "(9, 7)",)),
    (DimensionMismatch, () -> Lamina.attention(q, k, v; key_lengths = [1, 2]), ("key_lengths has 2 numbers", "each of 1 sequences",)),
    (DimensionMismatch, () -> Lamina.attention(q, k, v; query_offsets = [0, 5]), ("query_offsets is [0, 5]", "end with the 7 positions")),
    (DimensionMismatch, () -> Lamina.attention(q, k, v; query_offsets = [0, 7], key_offsets = [0, 4, 9]),
     ("key_offsets are of 2 sequences, query_offsets of 1",)),
    (ArgumentError, () -> Lamina.attention(q, k, v; key_offsets = [0, 9]), ("together with query_offsets",)),
    (Lamina.Error, () -> Lamina.attention(q, k, v; query_offsets = [1, 7], key_offsets = [0, 9]), ("query_offsets[0] is 1",)),
    (ArgumentError, () -> Lamina.attention(q, k, v; mask = ones(9, 7)), ("mask has elements Float64, must be Bool",)),
    (ArgumentError, () -> Lamina.attention(q, k, v; bias = zeros(Float32, 9, 7)), ("bias has elements Float32, q has Float64",)),
    (ArgumentError, () -> Lamina.attention(q, k, v; map = :cubic), ("map is :cubic", ":softmax, :linear, :relu",)),
    (ArgumentError, () -> Lamina.attention(q, k, v; window = 3), ("window is 3", "(left, right)",)),
    (ArgumentError, () -> Lamina.attention(q, k, v; casual = true), ("casual is not an argument of attention", "causal",)),
    (ArgumentError, () -> Lamina.attention(q, k, v; also = :entropy), ("also is :entropy", ":lse, :weights, :scores",)),
    (ArgumentError, () -> Lamina.attention(q, k, v; out = zeros(2, 2)), ("out for o is of Float64 and size (2, 2)", "(4, 7)",)),
    (ArgumentError, () -> Lamina.attention_gradient(q, k, v, zeros(2, 2)), ("d_o is of Float64 and size (2, 2)", "(4, 7)",)),
    (Lamina.Error, () -> Lamina.attention(q, k, k; out = q), ("overlaps",)),
    (Lamina.Error, () -> Lamina.attention(q, k, v; key_lengths = [10]), ("key_lengths[0] is 10",)),
    (Lamina.Error, () -> Lamina.attention(q, k, v; scale = NaN), ("scale is nan",)),
    (Lamina.Error, () -> Lamina.attention(q, k, v; isa = "abacus"), ("isa", "abacus",)),
    (Lamina.Error, () -> Lamina.attention(reshape(q, 5, 1, 7), reshape(k, 5, 3, 3), reshape(v, 4, 3, 3)), ("kv_heads is 3",)))
    @test throws_saying(call, kind, texts...)
end

# A library that is not there is said to be missing, by its path.
output = IOBuffer()
alone = own_process("", "LAMINA_LIBRARY" => "/nowhere/liblamina.so")
@test !success(pipeline(alone; stdout = devnull, stderr = output)) && occursin("/nowhere/liblamina.so", String(take!(output)))
