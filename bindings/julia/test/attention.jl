# Is attention its definition: maps, masks, bias, windows, lengths, groups of heads, optional outputs?
q, k, v = draw(1, 5, 7, 3, 2), draw(2, 5, 9, 3, 2), draw(3, 4, 9, 3, 2)
lower = [j <= i for j in 1:9, i in 1:7]

for map in (:softmax, :linear, :relu), causal in (false, true), (T, tolerance) in ((Float64, 1e-12), (Float32, 1e-5))
    o, p = naive(q, k, v; map = map, seen = causal ? lower : trues(9, 7))
    got = Lamina.attention(T.(q), T.(k), T.(v); map = map, causal = causal, also = :weights)
    @test got.o isa Array{T,4} && isapprox(got.o, o; rtol = tolerance) && isapprox(got.weights, p; rtol = tolerance)
end
all_of_it = Lamina.attention(q, k, v; also = (:lse, :scores))
@test keys(all_of_it) == (:o, :lse, :scores) && size(all_of_it.lse) == (7, 3, 2)
for h in 1:3, b in 1:2
    s = k[:, :, h, b]' * q[:, :, h, b] ./ sqrt(5)
    @test isapprox(all_of_it.scores[:, :, h, b], s; rtol = 1e-12)
    @test isapprox(all_of_it.lse[:, h, b], vec(log.(sum(exp.(s); dims = 1))); rtol = 1e-12)
end

# Normalisers: by the keys that are seen, by the row's sum.
seen = sum(lower; dims = 1)
o = naive(q, k, v; map = :relu, seen = lower)[1]
@test isapprox(Lamina.attention(q, k, v; map = :relu, normaliser = :visible, causal = true), o ./ seen; rtol = 1e-12)
sums = sum(naive(q .+ 2, k .+ 2, v; map = :linear)[2]; dims = 1)  # all scores are positive
@test isapprox(Lamina.attention(q .+ 2, k .+ 2, v; map = :relu, normaliser = :row_sum),
               naive(q .+ 2, k .+ 2, v; map = :linear)[1] ./ sums; rtol = 1e-12)

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
@test isapprox(Lamina.attention(q, k, v; bias = bias, mask = lower, scale = 0.3),
               naive(q, k, v; bias = bias, seen = lower, scale = 0.3)[1]; rtol = 1e-12)

# Windows, lengths, the other alignment, a scale of zero.
near = [i - 2 <= j <= i + 1 for j in 1:9, i in 1:7]
@test same_bits(Lamina.attention(q, k, v; window = (2, 1)), Lamina.attention(q, k, v; mask = near))
@test same_bits(Lamina.attention(q, k, v; window = (nothing, 0)), Lamina.attention(q, k, v; causal = true))
@test same_bits(Lamina.attention(q, k, v; window = (0, 0)), v[:, 1:7, :, :])
@test same_bits(Lamina.attention(q, k, v; key_lengths = [9, 4])[:, :, :, 2], Lamina.attention(q[:, :, :, 2], k[:, 1:4, :, 2], v[:, 1:4, :, 2]))
@test all(iszero, Lamina.attention(q, k, v; query_lengths = (7, 2))[:, 3:7, :, 2])
@test same_bits(Lamina.attention(q, k, v; causal = :bottom_right), Lamina.attention(q, k, v; mask = [j <= i + 2 for j in 1:9, i in 1:7]))
@test isapprox(Lamina.attention(q, k, v; scale = 0), repeat(sum(v; dims = 2) ./ 9, 1, 7, 1, 1); atol = 1e-15)

# Packed sequences are a loop over them, one of them without a query.
rows, columns = [0, 2, 2, 7], [0, 3, 7, 9]
packed, d_o = (q[:, :, :, 1], k[:, :, :, 1], v[:, :, :, 1]), draw(7, 4, 7, 3)
joined = Lamina.attention(packed...; query_offsets = rows, key_offsets = columns, also = (:weights, :lse))
slopes = Lamina.attention_gradient(packed..., d_o; query_offsets = rows, key_offsets = columns)
@test size(joined.o) == (4, 7, 3) && size(joined.lse) == (7, 3) && size(joined.weights) == (4, 5, 3, 3)
for b in (1, 3)
    i, j = rows[b]+1:rows[b+1], columns[b]+1:columns[b+1]
    one = Lamina.attention(packed[1][:, i, :], packed[2][:, j, :], packed[3][:, j, :]; also = (:weights, :lse))
    @test same_bits(joined.o[:, i, :], one.o) && same_bits(joined.lse[i, :], one.lse)
    @test same_bits(joined.weights[1:length(j), 1:length(i), :, b], one.weights)
    slope = Lamina.attention_gradient(packed[1][:, i, :], packed[2][:, j, :], packed[3][:, j, :], d_o[:, i, :])
    @test same_bits(slopes.d_q[:, i, :], slope.d_q) && same_bits(slopes.d_k[:, j, :], slope.d_k) && same_bits(slopes.d_v[:, j, :], slope.d_v)
end
self = packed[2]
@test same_bits(Lamina.attention(self, self, self; query_offsets = 0:3:9, causal = true),
                cat((Lamina.attention(self[:, i, :], self[:, i, :], self[:, i, :]; causal = true) for i in (1:3, 4:6, 7:9))...; dims = 2))

# Fewer dimensions, fewer heads of keys, edge sizes.
o = Lamina.attention(q, k, v)
@test same_bits(Lamina.attention(q[:, :, :, 1], k[:, :, :, 1], v[:, :, :, 1]), o[:, :, :, 1])
@test same_bits(Lamina.attention(q[:, :, 1, 1], k[:, :, 1, 1], v[:, :, 1, 1]), o[:, :, 1, 1])
k1, v1 = k[:, :, 1:1, :], v[:, :, 1:1, :]
@test same_bits(Lamina.attention(q, k1, v1), Lamina.attention(q, repeat(k1, 1, 1, 3, 1), repeat(v1, 1, 1, 3, 1)))
@test size(Lamina.attention(q[:, :, 1, 1], k[:, :, 1, 1], v[:, :, 1, 1]; also = :lse).lse) == (7,)
@test Lamina.attention(zeros(5, 3), zeros(5, 0), zeros(4, 0)) == zeros(4, 3)
@test size(Lamina.attention(zeros(5, 0), k[:, :, 1, 1], v[:, :, 1, 1])) == (4, 0)

# Every instruction set, and a number of threads, that is asked for.
for isa in Lamina.instruction_sets()
    @test same_bits(Lamina.attention(q, k, v; isa = isa, threads = 1), o)
end
