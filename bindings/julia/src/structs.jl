# The structs and constants of lamina.h, in its order. `blank(T)` is a struct as its lamina_*_init leaves it.

const STATUSES = (:stopped, :diverged, :gradient_vanished, :target_reached, :time_limit)  # the positive ones, from 1
const KINDS = (:number, :integer, :word, :text, :array, :name)
const MAPS = (softmax = 1, linear = 2, relu = 3)
const NORMALISERS = (default = 0, none = 1, visible = 2, row_sum = 3)
const CAUSAL = (none = 0, top_left = 1, bottom_right = 2)
const SPLITS = (train = 0, test = 1, unseen = 2)
const PARTS = (all = 0, attention = 1, feed_forward = 2)
const SCALE_IS_ZERO, WITH_BIAS, WITH_MASK, WITH_LENGTHS = UInt32(1) << 0, UInt32(1) << 1, UInt32(1) << 2, UInt32(1) << 3
const WITH_LSE, WITH_WEIGHTS, WITH_SCORES = UInt32(1) << 4, UInt32(1) << 5, UInt32(1) << 6
const WINDOW_LEFT, WINDOW_RIGHT, WITH_OFFSETS = UInt32(1) << 7, UInt32(1) << 8, UInt32(1) << 9

mutable struct CatalogueEntry
    struct_size::UInt32
    kind::Int32
    key::Ptr{UInt8}
    owner::Ptr{UInt8}
    fallback::Ptr{UInt8}
    minimum::Float64
    maximum::Float64
    words::Ptr{UInt8}
    summary::Ptr{UInt8}
    description::Ptr{UInt8}
    CatalogueEntry() = new()
end

mutable struct AttentionSpec
    struct_size::UInt32
    element::Int32
    map::Int32
    normaliser::Int32
    causal::Int32
    threads::Int32
    flags::UInt32
    reserved::UInt32
    batch::Int64
    heads::Int64
    kv_heads::Int64
    queries::Int64
    keys::Int64
    width::Int64
    value_width::Int64
    window_left::Int64
    window_right::Int64
    scale::Float64
    relu_at_zero::Float64
    isa::Ptr{UInt8}
    allocator::NTuple{3,Ptr{Cvoid}}
    AttentionSpec() = new()
end

struct Strided  # lamina_input and lamina_output
    data::Ptr{Cvoid}
    stride::NTuple{4,Int64}
end

mutable struct AttentionArrays
    struct_size::UInt32
    reserved::UInt32
    q::Strided
    k::Strided
    v::Strided
    bias::Strided
    mask::Strided
    query_lengths::Ptr{Int64}
    key_lengths::Ptr{Int64}
    o::Strided
    lse::Strided
    weights::Strided
    scores::Strided
    d_o::Strided
    d_lse::Strided
    d_weights::Strided
    d_q::Strided
    d_k::Strided
    d_v::Strided
    d_bias::Strided
    d_scale::Ptr{Float64}
    query_offsets::Ptr{Int64}
    key_offsets::Ptr{Int64}
    AttentionArrays() = new()
end

mutable struct TaskShape
    struct_size::UInt32
    reserved::Int32
    length::Int64
    width::Int64
    target_width::Int64
    vocabulary::Int64
    outputs::Int64
    TaskShape() = new()
end

mutable struct TaskArrays
    struct_size::UInt32
    reserved::UInt32
    prompts::Ptr{Float64}
    targets::Ptr{Float64}
    count::Int64
    length::Int64
    vocabulary::Int64
    noise::Float64
    TaskArrays() = new()
end

mutable struct TaskCallback
    struct_size::UInt32
    reserved::UInt32
    sample::Ptr{Cvoid}
    user::Ptr{Cvoid}
    length::Int64
    vocabulary::Int64
    noise::Float64
    TaskCallback() = new()
end

mutable struct TensorRecord
    struct_size::UInt32
    trained::Int32
    name::Ptr{UInt8}
    rank::Int64
    shape::NTuple{4,Int64}
    offset::Int64
    count::Int64
    TensorRecord() = new()
end

struct ProgressRecord
    struct_size::UInt32
    reserved::Int32
    step::Int64
    steps::Int64
    loss::Float64
    excess::Float64
    seconds::Float64
    steps_per_second::Float64
end

struct SweepProgressRecord
    struct_size::UInt32
    reserved::Int32
    ended::Int64
    members::Int64
    failed::Int64
    seconds::Float64
    steps::Float64
    all_steps::Float64
end

mutable struct CrossingRecord
    struct_size::UInt32
    reserved::UInt32
    signal::Ptr{UInt8}
    value::Float64
    step::Int64
    before::Float64
    after::Float64
    time::Float64
    CrossingRecord() = new()
end

const INITIALISERS = IdDict{Type,Symbol}(
    CatalogueEntry => :lamina_catalogue_entry_init, AttentionSpec => :lamina_attention_spec_init,
    AttentionArrays => :lamina_attention_arrays_init, TaskShape => :lamina_task_shape_init,
    TaskArrays => :lamina_task_arrays_init, TaskCallback => :lamina_task_callback_init, TensorRecord => :lamina_tensor_init,
    CrossingRecord => :lamina_crossing_init)

function blank(::Type{T}) where {T}
    struct_ = T()
    check(ccall(symbol(INITIALISERS[T]), Int32, (Ref{T}, UInt32), struct_, sizeof(T)))
    return struct_
end
