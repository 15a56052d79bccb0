# Are arrays of any strides read where they are, and written where they are?

# The same values in other places: permuted memory, steps back, pieces of something larger that holds NaN.
function views(array)
    permuted(order) = PermutedDimsArray(permutedims(array, order), invperm(order))
    backwards = view(reverse(reverse(array; dims = 1); dims = 2), size(array, 1):-1:1, size(array, 2):-1:1, :, :)
    larger = fill(eltype(array)(NaN), 2 .* size(array) .+ 1)
    piece = view(larger, 2:2:2size(array, 1), 3:2:2size(array, 2)+1, 1:2:2size(array, 3), 2:size(array, 4)+1)
    piece .= array
    return [permuted((1, 3, 2, 4)), permuted((4, 3, 2, 1)), backwards, piece, view(permuted((2, 1, 3, 4)), :, :, :, :)]
end

for T in (Float64, Float32)
    q, k, v, d_o = T.(draw(1, 5, 7, 3, 2)), T.(draw(2, 5, 9, 3, 2)), T.(draw(3, 4, 9, 3, 2)), T.(draw(4, 4, 7, 3, 2))
    o, gradient = Lamina.attention(q, k, v), Lamina.attention_gradient(q, k, v, d_o)
    for (qs, ks, vs, ds) in zip(views(q), views(k), views(v), views(d_o))
        @test qs == q && !(qs isa Array)
        @test same_bits(Lamina.attention(qs, ks, vs), o)
        other = Lamina.attention_gradient(qs, ks, vs, ds)
        @test all(same_bits(other[name], gradient[name]) for name in (:d_q, :d_k, :d_v))
    end
end

q, k, v = draw(1, 5, 7, 3, 2), draw(2, 5, 9, 3, 2), draw(3, 4, 9, 3, 2)
plain = (q[:, :, 1, 1], k[:, :, 1, 1], v[:, :, 1, 1])
@test same_bits(Lamina.attention((permutedims(a)' for a in plain)...), Lamina.attention(plain...))
@test same_bits(Lamina.attention((transpose(permutedims(a)) for a in plain)...), Lamina.attention(plain...))

# Masks: bytes in views of any step, transposes, bits.
mask = [isodd(i + j ÷ 2) || i == j for j in 1:9, i in 1:7]
masked, bias = Lamina.attention(q, k, v; mask = mask), draw(5, 9, 7)
larger = fill(false, 20, 16)
piece = view(larger, 18:-2:2, 2:2:14)
piece .= mask
for other in (piece, permutedims(mask)', PermutedDimsArray(permutedims(mask), (2, 1)), BitArray(mask), view(BitArray(mask), :, :),
              reinterpret(Bool, UInt8.(mask)), repeat(mask, 1, 1, 3, 2), view(repeat(mask, 1, 1, 3, 2), :, :, 1:1, 2:2))
    @test other == mask || size(other)[1:2] == size(mask)
    @test same_bits(Lamina.attention(q, k, v; mask = other), masked)
end
@test same_bits(Lamina.attention(q, k, v; bias = permutedims(bias)'), Lamina.attention(q, k, v; bias = bias))

# Nothing is copied: 64 MB are read where they are.
long = view(ones(4, 4_000_000), :, 4_000_000:-2:1)
few, out = view(ones(4, 3), 4:-1:1, :), Array{Float64}(undef, 4, 2_000_000)
Lamina.attention(long, few, few; out = out)
@test all(==(1), out) && (@allocated Lamina.attention(long, few, few; out = out)) < 100_000
gradients = (similar(out), similar(few), similar(few))
Lamina.attention_gradient(long, few, few, out; out = gradients)
@test (@allocated Lamina.attention_gradient(long, few, few, out; out = gradients)) < 100_000

# New arrays have the memory order of q, given ones are written.
heads_inside = [PermutedDimsArray(permutedims(a, (1, 3, 2, 4)), (1, 3, 2, 4)) for a in (q, k, v)]
o = Lamina.attention(heads_inside...)
@test strides(o) == (1, 12, 4, 84) && o == Lamina.attention(q, k, v)
into = view(zeros(8, 7, 3, 2), 1:2:8, :, :, :)
@test Lamina.attention(q, k, v; out = into) === into && into == o && all(iszero, parent(into)[2:2:8, :, :, :])
d_q = view(zeros(5, 14, 3, 2), :, 2:2:14, :, :)
@test Lamina.attention_gradient(q, k, v, o; out = (d_q, nothing, nothing)).d_q === d_q
@test d_q == Lamina.attention_gradient(q, k, v, o).d_q

# What has no strides is refused, not copied.
@test throws_saying(() -> Lamina.attention(view(plain[1], [1, 2, 3, 4, 5], :), plain[2], plain[3]), ArgumentError, "q is a SubArray",
                    "has no strides")
