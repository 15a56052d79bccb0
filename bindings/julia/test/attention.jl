# Is attention its definition: maps, masks, bias, windows, lengths, groups of heads, optional outputs?
q, k, v = draw(1, 5, 7, 3, 2), draw(2, 5, 9, 3, 2), draw(3, 4, 9, 3, 2)
lower = [j <= i for j in 1:9, i in 1:7]

for map in (:softmax, :linear, :relu), causal in (false, true), (T, tolerance) in ((Float64, 1e-12), (Float32, 1e-5))
    o, p = naive(q, k, v; map = map, seen = causal ? lower : trues(9, 7))
    got = Lamina.attention(T.(q), T.(k), T.(v); map = map, causal = causal, also = :weights)
    @test got.o isa Array{T,4} && isapprox(got.o, o; rtol = tolerance) && isapprox(got.weights, p; rtol = tolerance)
end
s = permutedims(cat((cat((k[:, :, h, b]' * q[:, :, h, b] ./ sqrt(5) for h in 1:3)...; dims = 3) for b in 1:2)...; dims = 4), (1, 2, 3, 4))
all_of_it = Lamina.attention(q, k, v; also = (:lse, :scores))
@test isapprox(all_of_it.scores, s; rtol = 1e-12) && isapprox(all_of_it.lse, dropdims(log.(sum(exp.(s); dims = 1)); dims = 1); rtol = 1e-12)
@test keys(all_of_it) == (:o, :lse, :scores) && size(all_of_it.lse) == (7, 3, 2)

# Normalisers: by the keys that are seen, by the row's sum.
seen = sum(lower; dims = 1)
o, p = naive(q, k, v; map = :relu, seen = lower)
@test isapprox(Lamina.attention(q, k, v; map = :relu, normaliser = :visible, causal = true), o ./ seen; rtol = 1e-12)
@test isapprox(Lamina.attention(q .+ 2, k .+ 2, v; map = :relu, normaliser = :row_sum), Lamina.attention(q .+ 2, k .+ 2, v; map = :linear, normaliser = :row_sum); rtol = 1e-12)

# Bias and mask, each broadcast to (key, query, head, batch).
bias = draw(4, 9, 7)
@test isapprox(Lamina.attention(q, k, v; bias = bias), naive(q, k, v; bias = bias)[1]; rtol = 1e-12)
per_key = draw(5, 9, 1)
@test isapprox(Lamina.attention(q, k, v; bias = per_key), naive(q, k, v; bias = per_key)[1]; rtol = 1e-12)
one_head = draw(6, 9, 7, 1, 2)
@test same_bits(Lamina.attention(q, k, v; bias = one_head), Lamina.attention(q, k, v; bias = repeat(one_head, 1, 1, 3, 1)))
@test same_bits(Lamina.attention(q, k, v; mask = lower), Lamina.attention(q, k, v; causal = true))
per_batch = reshape([j <= 4 * b for j in 1:9, b in 1:2], 9, 1, 1, 2)
@test same_bits(Lamina.attention(q, k, v; mask = per_batch)[:, :, :, 1], Lamina.attention(q[:, :, :, 1], k[:, 1:4, :, 1], v[:, 1:4, :, 1]))
blind = copy(lower)
blind[:, 3] .= false
@test all(iszero, Lamina.attention(q, k, v; mask = blind)[:, 3, :, :])
@test isapprox(Lamina.attention(q, k, v; bias = bias, mask = lower, scale = 0.3), naive(q, k, v; bias = bias, seen = lower, scale = 0.3)[1]; rtol = 1e-12)

# Windows, lengths, the other alignment, a scale of zero.
near = [i - 2 <= j <= i + 1 for j in 1:9, i in 1:7]
@test same_bits(Lamina.attention(q, k, v; window = (2, 1)), Lamina.attention(q, k, v; mask = near))
@test same_bits(Lamina.attention(q, k, v; window = (nothing, 0)), Lamina.attention(q, k, v; causal = true))
@test same_bits(Lamina.attention(q, k, v; window = (0, 0)), v[:, 1:7, :, :])
@test same_bits(Lamina.attention(q, k, v; key_lengths = [9, 4])[:, :, :, 2], Lamina.attention(q[:, :, :, 2], k[:, 1:4, :, 2], v[:, 1:4, :, 2]))
@test all(iszero, Lamina.attention(q, k, v; query_lengths = (7, 2))[:, 3:7, :, 2])
@test same_bits(Lamina.attention(q, k, v; causal = :bottom_right), Lamina.attention(q, k, v; mask = [j <= i + 2 for j in 1:9, i in 1:7]))
@test isapprox(Lamina.attention(q, k, v; scale = 0), repeat(sum(v; dims = 2) ./ 9, 1, 7, 1, 1); atol = 1e-15)

# Fewer dimensions, fewer heads of keys, edge sizes.
o = Lamina.attention(q, k, v)
@test same_bits(Lamina.attention(q[:, :, :, 1], k[:, :, :, 1], v[:, :, :, 1]), o[:, :, :, 1])
@test same_bits(Lamina.attention(q[:, :, 1, 1], k[:, :, 1, 1], v[:, :, 1, 1]), o[:, :, 1, 1])
@test same_bits(Lamina.attention(q, k[:, :, 1:1, :], v[:, :, 1:1, :]), Lamina.attention(q, repeat(k[:, :, 1:1, :], 1, 1, 3, 1), repeat(v[:, :, 1:1, :], 1, 1, 3, 1)))
@test size(Lamina.attention(q[:, :, 1, 1], k[:, :, 1, 1], v[:, :, 1, 1]; also = :lse).lse) == (7,)
@test Lamina.attention(zeros(5, 3), zeros(5, 0), zeros(4, 0)) == zeros(4, 3)
@test size(Lamina.attention(zeros(5, 0), k[:, :, 1, 1], v[:, :, 1, 1])) == (4, 0)

# Every instruction set, and a number of threads, that is asked for.
for isa in Lamina.instruction_sets()
    @test same_bits(Lamina.attention(q, k, v; isa = isa, threads = 1), o)
end
