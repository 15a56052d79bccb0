# Attention and its gradient on arrays of any strides, without a copy of any.

const PLANS = Dict{Any,Handle}()
const PLANS_LOCK = ReentrantLock()

# The plan of these fields of lamina_attention_spec; plans are immutable, so one serves all threads.
function plan(fields::NamedTuple)
    lock(PLANS_LOCK) do
        length(PLANS) < 128 || empty!(PLANS)
        get!(PLANS, fields) do
            spec, isa = blank(AttentionSpec), fields.isa
            for (name, value) in pairs(fields)
                name === :isa || setproperty!(spec, name, convert(fieldtype(AttentionSpec, name), value))
            end
            GC.@preserve isa begin
                isa === nothing || (spec.isa = pointer(isa))
                create(:lamina_attention_free) do out
                    ccall(symbol(:lamina_attention_create), Int32, (Ref{AttentionSpec}, Ptr{Ptr{Cvoid}}), spec, out)
                end
            end
        end
    end
end

# Dimensions (feature, position, head, batch); those that are left out are 1.
full(array) = ntuple(i -> size(array, i), 4)

function element_strides(name, array)
    try
        return strides(array)
    catch
        throw(ArgumentError("$name is a $(typeof(array)), which has no strides: use an Array, or a view or permutation of one"))
    end
end

# Where the array lies; a dimension of 1 is repeated (stride 0) where `repeated` has more. In C the dimensions are in reverse.
function place(name, array::AbstractArray{T}, repeated = full(array)) where {T}
    steps = element_strides(name, array)
    stride(i) = i <= ndims(array) && size(array, i) == repeated[i] ? Int64(steps[i]) : Int64(0)
    return Strided(Base.unsafe_convert(Ptr{T}, array), (stride(4), stride(3), stride(2), stride(1)))
end

function broadcast_place(name, array, square, rank)
    ndims(array) <= rank && all(size(array, i) in (1, square[i]) for i in 1:4) ||
        throw(DimensionMismatch("$name has size $(size(array)), which does not broadcast to $(square[1:rank])"))
    return place(name, array, square)
end

function check_like(name, array, q)
    eltype(array) == eltype(q) || throw(ArgumentError("$name has elements $(eltype(array)), q has $(eltype(q))"))
    ndims(array) == ndims(q) || throw(DimensionMismatch("$name has $(ndims(array)) dimensions, q has $(ndims(q))"))
end

# The sizes of a call, all checked.
function call_sizes(q, k, v)
    eltype(q) in (Float32, Float64) || throw(ArgumentError("q has elements $(eltype(q)), must be Float32 or Float64"))
    foreach(element_strides, ("q", "k", "v"), (q, k, v))
    2 <= ndims(q) <= 4 || throw(DimensionMismatch("q has $(ndims(q)) dimensions, must have 2 to 4: (feature, position, head, batch)"))
    check_like("k", k, q)
    check_like("v", v, q)
    (d, queries, heads, batch), (dk, keys, kv_heads, k_batch) = full(q), full(k)
    dk == d && k_batch == batch || throw(DimensionMismatch("k has size $(size(k)), q $(size(q)): features and batch must agree"))
    full(v)[2:4] == full(k)[2:4] || throw(DimensionMismatch("v has size $(size(v)), k $(size(k)): all but the features must agree"))
    return (square = (keys, queries, heads, batch), o = (size(v, 1), queries, heads, batch),
            fields = (element = eltype(q) == Float64 ? 1 : 2, batch = batch, heads = heads, kv_heads = kv_heads,
                      queries = queries, keys = keys, width = d, value_width = size(v, 1)))
end

function lengths_vector(name, lengths, batch, most)
    vector = lengths === nothing ? fill(Int64(most), batch) : Vector{Int64}(collect(lengths))
    length(vector) == batch ||
        throw(DimensionMismatch("$name has $(length(vector)) numbers, must have one for each of $batch sequences"))
    return vector
end

# What both directions take, and its defaults.
const ARGUMENTS = (causal = false, map = :softmax, normaliser = :default, scale = nothing, bias = nothing, mask = nothing,
                   query_lengths = nothing, key_lengths = nothing, window = nothing, threads = 0, isa = nothing, relu_at_zero = 0)

function with_defaults(given)
    for name in keys(given)
        haskey(ARGUMENTS, name) ||
            throw(ArgumentError("$name is not an argument of attention, must be one of $(join(keys(ARGUMENTS), ", "))"))
    end
    return merge(ARGUMENTS, given)
end

root(array) = parent(array) === array ? array : root(parent(array))

# A mask with a byte an element; one of bits (what `.<=` makes) is unpacked, the only copy here.
function byte_mask(mask)
    eltype(mask) == Bool || throw(ArgumentError("mask has elements $(eltype(mask)), must be Bool"))
    return root(mask) isa BitArray ? Array(mask) : mask
end

function window_sides(window)
    window === nothing && return (nothing, nothing)
    window isa Union{Tuple,AbstractVector} && length(window) == 2 && all(side -> side isa Union{Integer,Nothing}, window) ||
        throw(ArgumentError("window is $(repr(window)), must be (left, right), each an integer or nothing"))
    return window
end

# Runs `direction` with what forward and gradient share filled in; fill!(arrays) adds the rest. `kept` lives through the call.
function run_attention(fill!, direction, kept, sizes, q, k, v, flags, given)
    arrays, rank, a = blank(AttentionArrays), ndims(q), with_defaults(given)
    arrays.q, arrays.k, arrays.v = place("q", q), place("k", k), place("v", v)
    bias, mask = a.bias, a.mask === nothing ? nothing : byte_mask(a.mask)
    if bias !== nothing
        eltype(bias) == eltype(q) || throw(ArgumentError("bias has elements $(eltype(bias)), q has $(eltype(q))"))
        flags |= WITH_BIAS
        arrays.bias = broadcast_place("bias", bias, sizes.square, rank)
    end
    if mask !== nothing
        flags |= WITH_MASK
        arrays.mask = broadcast_place("mask", mask, sizes.square, rank)
    end
    of_queries = of_keys = Int64[]
    if a.query_lengths !== nothing || a.key_lengths !== nothing
        flags |= WITH_LENGTHS
        of_queries = lengths_vector("query_lengths", a.query_lengths, sizes.square[4], sizes.square[2])
        of_keys = lengths_vector("key_lengths", a.key_lengths, sizes.square[4], sizes.square[1])
        arrays.query_lengths, arrays.key_lengths = pointer(of_queries), pointer(of_keys)
    end
    left, right = window_sides(a.window)
    left === nothing || (flags |= WINDOW_LEFT)
    right === nothing || (flags |= WINDOW_RIGHT)
    a.scale !== nothing && iszero(a.scale) && (flags |= SCALE_IS_ZERO)
    causality = a.causal === true ? :top_left : a.causal === false ? :none : a.causal
    made = plan(merge(sizes.fields, (
        map = choice("map", a.map, MAPS), normaliser = choice("normaliser", a.normaliser, NORMALISERS),
        causal = choice("causal", causality, CAUSAL), threads = a.threads, flags = flags, window_left = something(left, 0),
        window_right = something(right, 0), scale = Float64(something(a.scale, 0)), relu_at_zero = Float64(a.relu_at_zero),
        isa = a.isa === nothing ? nothing : String(a.isa))))
    GC.@preserve q k v bias mask of_queries of_keys kept begin
        fill!(arrays)
        check(ccall(symbol(direction), Int32, (Ptr{Cvoid}, Ref{AttentionArrays}, Ptr{Cvoid}, Csize_t), made, arrays, C_NULL, 0))
    end
end

# A new array in the memory order of `like`.
function new_output(like, dimensions)
    order = sortperm(collect(abs.(strides(like))); alg = InsertionSort)
    array = Array{eltype(like)}(undef, dimensions[order]...)
    return issorted(order) ? array : PermutedDimsArray(array, invperm(order))
end

function given_output(name, out, like, dimensions)
    out === nothing && return new_output(like, dimensions)
    eltype(out) == eltype(like) && size(out) == dimensions ||
        throw(ArgumentError("out for $name is of $(eltype(out)) and size $(size(out)), must be of $(eltype(like)) and $dimensions"))
    return out
end

cotangent(name, array, like, dimensions) =
    eltype(array) == eltype(like) && size(array) == dimensions ||
    throw(ArgumentError("$name is of $(eltype(array)) and size $(size(array)), must be of $(eltype(like)) and $dimensions"))

const ALSO = (lse = WITH_LSE, weights = WITH_WEIGHTS, scores = WITH_SCORES)

# lse has no first dimension; in C it has a last one of 1.
function row_place(name, row)
    at = place(name, row)  # (0, batch, head, query)
    return Strided(at.data, (at.stride[2], at.stride[3], at.stride[4], 0))
end

"""
    attention(q, k, v; causal = false, map = :softmax, normaliser = :default, scale = nothing, bias = nothing, mask = nothing,
              query_lengths = nothing, key_lengths = nothing, window = nothing, threads = 0, isa = nothing, out = nothing,
              also = ())

`o = v * map(scale * k' * q + bias)` for every head and batch.

`q` (feature, query, head, batch), `k` and `v` (feature, key, kv_head, batch); heads and batch may be left out. All Float32 or all
Float64, with any strides (views, transposes, PermutedDimsArray), read where they are; kv_heads divides heads. `map` is `:softmax`,
`:linear` or `:relu`; `normaliser` `:default` (row sums for softmax, none else), `:none`, `:visible` (the number of visible keys)
or `:row_sum`; `scale` 1/sqrt(features) by default; `causal` false, true (`:top_left`) or `:bottom_right`; `window` (left, right),
`nothing` for no limit; `bias` and `mask` (Bool, true is visible) are broadcast to (key, query, head, batch); `query_lengths` and
`key_lengths` are one number for each batch. The result is a new array in the memory order of `q`, or `out`. With `also = :weights`, or several of `:lse`, `:weights`, `:scores`, the result is a
named tuple of `o` and these.
"""
function attention(q::AbstractArray, k::AbstractArray, v::AbstractArray; out = nothing, also = (), arguments...)
    asked = also isa Union{Symbol,AbstractString} ? (Symbol(also),) : Tuple(Symbol.(also))
    flags = reduce(|, (choice("also", name, ALSO) for name in asked); init = UInt32(0))
    sizes, rank = call_sizes(q, k, v), ndims(q)
    o = given_output("o", out, q, sizes.o[1:rank])
    extras = Tuple(Array{eltype(q)}(undef, (name === :lse ? sizes.square[2:rank] : sizes.square[1:rank])...) for name in asked)
    run_attention(:lamina_attention_forward, (o, extras), sizes, q, k, v, flags, values(arguments)) do arrays
        arrays.o = place("o", o)
        for (name, array) in zip(asked, extras)
            setproperty!(arrays, name, name === :lse ? row_place("lse", array) : place(string(name), array))
        end
    end
    return isempty(asked) ? o : merge((o = o,), NamedTuple{asked}(extras))
end

"""
    attention_gradient(q, k, v, d_o; d_lse = nothing, d_weights = nothing, relu_at_zero = 0, out = (nothing, nothing, nothing),
                       arguments of attention...)

The gradient of `sum(attention(q, k, v) .* d_o)` as `(d_q, d_k, d_v, d_bias, d_scale)`; `d_lse` and `d_weights` are the cotangents
of those outputs. `d_bias` is `nothing` without a bias, else (key, query, head, batch), also where the bias was broadcast to it.
Gradients are new arrays in the memory order of q, k, v, or the three of `out`.
"""
function attention_gradient(q::AbstractArray, k::AbstractArray, v::AbstractArray, d_o::AbstractArray; d_lse = nothing,
                            d_weights = nothing, bias = nothing, out = (nothing, nothing, nothing), arguments...)
    given = merge((bias = bias,), values(arguments))
    sizes, rank = call_sizes(q, k, v), ndims(q)
    cotangent("d_o", d_o, q, sizes.o[1:rank])
    d_lse === nothing || cotangent("d_lse", d_lse, q, sizes.square[2:rank])
    d_weights === nothing || cotangent("d_weights", d_weights, q, sizes.square[1:rank])
    flags = (d_lse === nothing ? UInt32(0) : WITH_LSE) | (d_weights === nothing ? UInt32(0) : WITH_WEIGHTS)
    d_q, d_k, d_v = (given_output(name, place_, like, size(like))
                     for (name, like, place_) in zip(("d_q", "d_k", "d_v"), (q, k, v), out))
    d_bias = bias === nothing ? nothing : Array{eltype(q)}(undef, sizes.square[1:rank]...)
    d_scale = Ref{Float64}(0)
    kept = (d_o, d_lse, d_weights, d_q, d_k, d_v, d_bias, d_scale)
    run_attention(:lamina_attention_backward, kept, sizes, q, k, v, flags, given) do arrays
        arrays.d_o = place("d_o", d_o)
        d_lse === nothing || (arrays.d_lse = row_place("d_lse", d_lse))
        d_weights === nothing || (arrays.d_weights = place("d_weights", d_weights))
        arrays.d_q, arrays.d_k, arrays.d_v = place("d_q", d_q), place("d_k", d_k), place("d_v", d_v)
        d_bias === nothing || (arrays.d_bias = place("d_bias", d_bias))
        arrays.d_scale = Base.unsafe_convert(Ptr{Float64}, d_scale)
    end
    return (d_q = d_q, d_k = d_k, d_v = d_v, d_bias = d_bias, d_scale = d_scale[])
end
