# Are gradients the difference quotients of the definition?
q, k, v = draw(1, 5, 7, 3, 2), draw(2, 5, 9, 3, 2), draw(3, 4, 9, 3, 2)
bias, d_o, d_weights, lower = draw(4, 9, 7, 3, 2), draw(5, 4, 7, 3, 2), draw(6, 9, 7, 3, 2), [j <= i for j in 1:9, i in 1:7]

# sum(o . d_o) + sum(P . d_weights) of the definition, head by head since each has a bias of its own.
function objective(q, k, v, bias, scale; map, seen = lower)
    total = 0.0
    for h in 1:3, b in 1:2
        o, p = naive_head(q[:, :, h, b], k[:, :, h, b], v[:, :, h, b]; map = map, scale = scale, bias = bias[:, :, h, b], seen = seen)
        total += sum(o .* d_o[:, :, h, b]) + sum(p .* d_weights[:, :, h, b])
    end
    return total
end

quotient(call, h = 1e-6) = (call(h) - call(-h)) / 2h

for map in (:softmax, :linear, :relu), visibility in ((causal = true,), (mask = lower,))
    given = (q, k, v, bias, 0.7)
    gradient = Lamina.attention_gradient(q, k, v, d_o; map = map, scale = 0.7, bias = bias, d_weights = d_weights, visibility...)
    @test keys(gradient) == (:d_q, :d_k, :d_v, :d_bias, :d_scale) && size(gradient.d_bias) == (9, 7, 3, 2)
    for (index, slope) in enumerate(gradient)
        direction = slope isa Real ? 1.0 : draw(10 + index, size(slope)...)
        moved(h) = objective((i == index ? x .+ h .* direction : x for (i, x) in enumerate(given))...; map = map)
        @test isapprox(sum(slope .* direction), quotient(moved); rtol = 1e-7, atol = 1e-7)
    end
end

# The cotangent of the log-sum-exp; groups of heads: the gradient of a shared head is the sum.
direction = draw(7, 5, 9, 3, 2)
d_lse = draw(8, 7, 3, 2)
lse(h) = sum(Lamina.attention(q, k .+ h .* direction, v; also = :lse).lse .* d_lse)
@test isapprox(sum(Lamina.attention_gradient(q, k, v, zero(d_o); d_lse = d_lse).d_k .* direction), quotient(lse); rtol = 1e-7)
grouped = Lamina.attention_gradient(q, k[:, :, 1:1, :], v[:, :, 1:1, :], d_o)
repeated = Lamina.attention_gradient(q, repeat(k[:, :, 1:1, :], 1, 1, 3, 1), repeat(v[:, :, 1:1, :], 1, 1, 3, 1), d_o)
@test isapprox(grouped.d_k, sum(repeated.d_k; dims = 3); rtol = 1e-12) && grouped.d_bias === nothing

# The slope of relu at zero is what is asked for.
zeros_ = (zeros(2, 1), zeros(2, 1), ones(2, 1))
@test Lamina.attention_gradient(zeros_..., ones(2, 1); map = :relu, scale = 1.0).d_scale == 0
@test Lamina.attention_gradient(ones(2, 1), zeros(2, 1), ones(2, 1), ones(2, 1); map = :relu, scale = 1.0, relu_at_zero = 0.5).d_k == fill(1.0, 2, 1)
