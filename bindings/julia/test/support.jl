# What tests share: small runs, attention by its definition, errors by their text, processes of their own.
module Support

using Lamina

export SMALL, RUN, ENDLESS, PACKAGE, GOLDEN, small, same_bits, same_rows, same_parameters, draw, naive_head, naive, throws_saying, own_process

const PACKAGE = dirname(@__DIR__)
# In the tree, or where LAMINA_GOLDEN says.
const GOLDEN = get(ENV, "LAMINA_GOLDEN", joinpath(PACKAGE, "..", "..", "tests", "golden"))

const SMALL = (vocabulary = 20, triggers = 3, outputs = 5, unseen_outputs = 3, prompt_length = 24, occurrences = 3)
const RUN = merge(SMALL, (samples = 64, evaluation_samples = 32, steps = 20, progress = false))
# Gradient descent with so small a step comes to no end.
const ENDLESS = merge(RUN, (steps = 10^9, record_every = 1000, optimiser = :gd, step_size = 1e-6, probes = :none))

small(; options...) = Lamina.train(; merge(RUN, values(options))...)

same_bits(a, b) = size(a) == size(b) && reinterpret(UInt64, vec(Array{Float64}(a))) == reinterpret(UInt64, vec(Array{Float64}(b)))
same_rows(a, b) = propertynames(a) == propertynames(b) && all(same_bits(a[name], b[name]) for name in propertynames(a))
same_parameters(a, b) = keys(a.parameters) == keys(b.parameters) && all(map(same_bits, a.parameters, b.parameters))

# Not from libm, and the same in every test: numbers in (-1, 1) that repeat late.
draw(seed, size...) = reshape([mod(0.6180339887498949 * (seed + 1) * i + 0.3 * i^2 / 7, 1) * 2 - 1 for i in 1:prod(size)], size)

# o and P of one head by the definition in lamina.h, (feature, position): `seen[j, i]` says that query i sees key j.
function naive_head(q, k, v; map = :softmax, scale = 1 / sqrt(size(q, 1)), bias = 0.0, seen = trues(size(k, 2), size(q, 2)))
    s = scale .* (k' * q) .+ bias
    if map == :softmax
        p = exp.(s .- maximum(s[seen])) .* seen
        p = p ./ sum(p; dims = 1)
    else
        p = (map == :linear ? s : max.(s, 0)) .* seen
    end
    return v * p, p
end

# The same for (feature, position, head, batch), as many heads of keys as of queries.
function naive(q, k, v; arguments...)
    heads = [naive_head(q[:, :, h, b], k[:, :, h, b], v[:, :, h, b]; arguments...) for h in axes(q, 3), b in axes(q, 4)]
    gather(of) = cat((cat((of(heads[h, b]) for h in axes(q, 3))...; dims = 3) for b in axes(q, 4))...; dims = 4)
    return gather(first), gather(last)
end

# call() throws `kind`, and each of `texts` is in what it says.
function throws_saying(call, kind, texts...)
    error = try
        call()
        nothing
    catch caught
        caught
    end
    said = error === nothing ? "nothing was thrown" : sprint(showerror, error)
    fine = error isa kind && all(occursin(text, said) for text in texts)
    fine || println("must be $kind saying $texts, is $(typeof(error)): $said")
    return fine
end

# A Julia of its own with this package, which runs `code`; `settings` are of its environment.
function own_process(code, settings...; threads = 1)
    command = `$(Base.julia_cmd()) --startup-file=no --project=$PACKAGE -e $("using Lamina\n" * code)`
    return setenv(command, merge(Dict(ENV), Dict("JULIA_NUM_THREADS" => string(threads), "JULIA_LOAD_PATH" => "@:@stdlib", settings...)))
end

end
