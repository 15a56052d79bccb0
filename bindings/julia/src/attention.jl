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

function check_like(name, array, q)
    eltype(array) == eltype(q) || throw(ArgumentError("$name has elements $(eltype(array)), q has $(eltype(q))"))
    ndims(array) == ndims(q) || throw(DimensionMismatch("$name has $(ndims(array)) dimensions, q has $(ndims(q))"))
end

# The sizes of a call, all checked: `square` of what is (key, query, head, batch), of which there are `rank` dimensions, `row` of
# lse, `o`. Where sequences are packed the batch of the arrays is 1, that of `square` their number.
function call_sizes(q, k, v, a)
    eltype(q) in (Float32, Float64) || throw(ArgumentError("q has elements $(eltype(q)), must be Float32 or Float64"))
    foreach(element_strides, ("q", "k", "v"), (q, k, v))
    2 <= ndims(q) <= 4 || throw(DimensionMismatch("q has $(ndims(q)) dimensions, must have 2 to 4: (feature, position, head, batch)"))
    check_like("k", k, q)
    check_like("v", v, q)
    (d, queries, heads, batch), (dk, keys, kv_heads, k_batch), rank = full(q), full(k), ndims(q)
    dk == d && k_batch == batch || throw(DimensionMismatch("k has size $(size(k)), q $(size(q)): features and batch must agree"))
    full(v)[2:4] == full(k)[2:4] || throw(DimensionMismatch("v has size $(size(v)), k $(size(k)): all but the features must agree"))
    row, o = size(q)[2:rank], (size(v, 1), size(q)[2:rank]...)
    of_queries = of_keys = Int64[]
    if a.query_offsets !== nothing
        batch == 1 || throw(DimensionMismatch("q has a batch of $batch, must be 1: offsets pack all sequences along the positions"))
        of_queries = offsets_vector("query_offsets", a.query_offsets, queries)
        of_keys = offsets_vector("key_offsets", something(a.key_offsets, a.query_offsets), keys)
        length(of_keys) == length(of_queries) ||
            throw(DimensionMismatch("key_offsets are of $(length(of_keys) - 1) sequences, query_offsets of $(length(of_queries) - 1)"))
        batch, queries, keys, rank = length(of_queries) - 1, maximum(diff(of_queries)), maximum(diff(of_keys)), 4
    elseif a.key_offsets !== nothing
        throw(ArgumentError("key_offsets are given, must be together with query_offsets"))
    end
    return (square = (keys, queries, heads, batch), rank = rank, row = row, o = o, query_offsets = of_queries, key_offsets = of_keys,
            fields = (element = eltype(q) == Float64 ? 1 : 2, batch = batch, heads = heads, kv_heads = kv_heads,
                      queries = max(queries, 0), keys = max(keys, 0), width = d, value_width = size(v, 1)))
end

# That they begin with 0 and ascend is checked by the library.
function offsets_vector(name, offsets, positions)
    vector = Vector{Int64}(collect(offsets))
    length(vector) >= 2 && last(vector) == positions ||
        throw(DimensionMismatch("$name is $vector, must have one number more than there are sequences and end with the " *
                                "$positions positions"))
    return vector
end

function lengths_vector(name, lengths, batch, most)
    vector = lengths === nothing ? fill(Int64(most), batch) : Vector{Int64}(collect(lengths))
    length(vector) == batch ||
        throw(DimensionMismatch("$name has $(length(vector)) numbers, must have one for each of $batch sequences"))
    return vector
end

# What both directions take, and its defaults.
const ARGUMENTS = (causal = false, map = :softmax, normaliser = :default, scale = nothing, bias = nothing, mask = nothing,
                   query_lengths = nothing, key_lengths = nothing, query_offsets = nothing, key_offsets = nothing, window = nothing,
                   threads = 0, isa = nothing, relu_at_zero = 0)

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
function run_attention(fill!, direction, kept, sizes, q, k, v, flags, a)
    arrays, rank = blank(AttentionArrays), sizes.rank
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
    if !isempty(sizes.query_offsets)
        flags |= WITH_OFFSETS
        arrays.query_offsets, arrays.key_offsets = pointer(sizes.query_offsets), pointer(sizes.key_offsets)
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
    GC.@preserve q k v bias mask of_queries of_keys sizes kept begin
        fill!(arrays)
        check(ccall(symbol(direction), Int32, (Ptr{Cvoid}, Ref{AttentionArrays}, Ptr{Cvoid}, Csize_t), made, arrays, C_NULL, 0))
    end
end

const ALSO = (lse = WITH_LSE, weights = WITH_WEIGHTS, scores = WITH_SCORES)

"""
    attention(q, k, v; causal = false, map = :softmax, normaliser = :default, scale = nothing, bias = nothing, mask = nothing,
              query_lengths = nothing, key_lengths = nothing, query_offsets = nothing, key_offsets = nothing, window = nothing,
              threads = 0, isa = nothing, out = nothing, also = ())

`o = v * map(scale * k' * q + bias)` for every head and batch.

`q` (feature, query, head, batch), `k` and `v` (feature, key, kv_head, batch); heads and batch may be left out. All Float32 or all
Float64, with any strides (views, transposes, PermutedDimsArray), read where they are; kv_heads divides heads. `map` is `:softmax`,
`:linear` or `:relu`; `normaliser` `:default` (row sums for softmax, none else), `:none`, `:visible` (the number of visible keys)
or `:row_sum`; `scale` 1/sqrt(features) by default; `causal` false, true (`:top_left`) or `:bottom_right`; `window` (left, right),
`nothing` for no limit; `bias` and `mask` (Bool, true is visible) are broadcast to (key, query, head, batch); `query_lengths` and
`key_lengths` are one number for each batch.

Sequences of any length are packed by `query_offsets` (0 first, ascending; `key_offsets` are the same by default): there is no
batch, sequence `b` has the positions `offsets[b] + 1` to `offsets[b + 1]`, and bias, mask, weights and scores are (longest key,
longest query, head, sequence).

The result is a new array in the memory order of `q`, or `out`. With `also = :weights`, or several of `:lse`, `:weights`,
`:scores`, the result is a named tuple of `o` and these.
"""
function attention(q::AbstractArray, k::AbstractArray, v::AbstractArray; out = nothing, also = (), arguments...)
    asked = also isa Union{Symbol,AbstractString} ? (Symbol(also),) : Tuple(Symbol.(also))
    flags = reduce(|, (choice("also", name, ALSO) for name in asked); init = UInt32(0))
    a = with_defaults(values(arguments))
    sizes = call_sizes(q, k, v, a)
    o = given_output("o", out, q, sizes.o)
    extras = Tuple(Array{eltype(q)}(undef, (name === :lse ? sizes.row : sizes.square[1:sizes.rank])...) for name in asked)
    run_attention(:lamina_attention_forward, (o, extras), sizes, q, k, v, flags, a) do arrays
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
    a = with_defaults(merge((bias = bias,), values(arguments)))
    sizes = call_sizes(q, k, v, a)
    cotangent("d_o", d_o, q, sizes.o)
    d_lse === nothing || cotangent("d_lse", d_lse, q, sizes.row)
    d_weights === nothing || cotangent("d_weights", d_weights, q, sizes.square[1:sizes.rank])
    flags = (d_lse === nothing ? UInt32(0) : WITH_LSE) | (d_weights === nothing ? UInt32(0) : WITH_WEIGHTS)
    d_q, d_k, d_v = (given_output(name, place_, like, size(like))
                     for (name, like, place_) in zip(("d_q", "d_k", "d_v"), (q, k, v), out))
    d_bias = bias === nothing ? nothing : Array{eltype(q)}(undef, sizes.square[1:sizes.rank]...)
    d_scale = Ref{Float64}(0)
    kept = (d_o, d_lse, d_weights, d_q, d_k, d_v, d_bias, d_scale)
    run_attention(:lamina_attention_backward, kept, sizes, q, k, v, flags, a) do arrays
        arrays.d_o = place("d_o", d_o)
        d_lse === nothing || (arrays.d_lse = row_place("d_lse", d_lse))
        d_weights === nothing || (arrays.d_weights = place("d_weights", d_weights))
        arrays.d_q, arrays.d_k, arrays.d_v = place("d_q", d_q), place("d_k", d_k), place("d_v", d_v)
        d_bias === nothing || (arrays.d_bias = place("d_bias", d_bias))
        arrays.d_scale = Base.unsafe_convert(Ptr{Float64}, d_scale)
    end
    return (d_q = d_q, d_k = d_k, d_v = d_v, d_bias = d_bias, d_scale = d_scale[])
end
