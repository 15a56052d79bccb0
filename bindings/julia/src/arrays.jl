# Where arrays of any strides lie, as C takes it, and new arrays for results.

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

# lse has no first dimension; in C it has a last one of 1.
function row_place(name, row)
    at = place(name, row)  # (0, batch, head, query)
    return Strided(at.data, (at.stride[2], at.stride[3], at.stride[4], 0))
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
