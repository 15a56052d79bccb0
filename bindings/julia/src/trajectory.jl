# The recorded table of a run: a vector of rows, each a named tuple, with its columns as properties.

"""
The rows that a run recorded, a copy: `run.trajectory`. A column is a property, `run.trajectory.excess`, or `run.trajectory[:excess]`;
a row a named tuple, `run.trajectory[end].excess`, `for row in run.trajectory`. As a vector of named tuples it is a table to
Tables.jl, `DataFrame(run.trajectory)`; `NamedTuple(run.trajectory)` are the columns. `propertynames(run.trajectory)` names them,
`run.definitions` says what they are.
"""
struct Trajectory{Row<:NamedTuple,Columns<:NamedTuple} <: AbstractVector{Row}
    columns::Columns
end

Trajectory(names::NTuple{N,Symbol}, arrays) where {N} =
    Trajectory{NamedTuple{names,NTuple{N,Float64}},NamedTuple{names,NTuple{N,Vector{Float64}}}}(NamedTuple{names}(Tuple(arrays)))

Base.NamedTuple(table::Trajectory) = getfield(table, :columns)
Base.propertynames(table::Trajectory) = keys(NamedTuple(table))
Base.size(table::Trajectory) = (length(first(NamedTuple(table))),)

function Base.getproperty(table::Trajectory, name::Symbol)
    columns = NamedTuple(table)
    haskey(columns, name) && return columns[name]
    throw(ArgumentError("$name is not a column, must be one of $(join(keys(columns), ", "))"))
end

Base.getindex(table::Trajectory, name::Union{Symbol,AbstractString}) = getproperty(table, Symbol(name))
function Base.getindex(table::Trajectory{Row}, index::Int) where {Row}
    checkbounds(table, index)
    return Row(Tuple(column[index] for column in NamedTuple(table)))
end
Base.getindex(table::Trajectory, rows::Union{Colon,AbstractVector}) =
    Trajectory(propertynames(table), [column[rows] for column in NamedTuple(table)])

# A number of the table in at most 10 characters.
cell(number) = isinteger(number) && abs(number) < 1e9 ? string(Int(number)) : string(round(number; sigdigits = 4))

Base.show(io::IO, table::Trajectory) =
    print(io, "Lamina.Trajectory of ", length(table), " rows: ", join(propertynames(table), ", "))

# The first and last rows, and as many columns as fit the terminal; the names of the others below.
function Base.show(io::IO, ::MIME"text/plain", table::Trajectory; ends = 4)
    rows, (_, width) = length(table), displaysize(io)
    print(io, rows, " x ", length(propertynames(table)), " Lamina.Trajectory")
    shown = rows <= 2 * ends + 1 ? collect(1:rows) : [1:ends; 0; rows-ends+1:rows]  # 0: the rows left out
    lines, hidden = fill("", length(shown) + 1), Symbol[]
    for (name, column) in pairs(NamedTuple(table))
        cells = [string(name); [row == 0 ? "..." : cell(column[row]) for row in shown]]
        wide = maximum(length, cells) + 2
        if isempty(hidden) && length(lines[1]) + wide <= width
            lines .*= lpad.(cells, wide)
        else
            push!(hidden, name)
        end
    end
    foreach(line -> print(io, "\n", line), lines)
    isempty(hidden) || print(io, "\n", fill_text("and " * join(hidden, ", "), 2; width = width))
end

# The table of a run as it stands, and the definitions of its columns.
read_trajectory(trainer) = read_trajectory() do out
    ccall(symbol(:lamina_trainer_trajectory), Int32, (Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), trainer, out)
end

# The table that `call(out)` makes.
function read_trajectory(call::Function)
    table = create(call, :lamina_trajectory_free)
    rows, columns = Ref{Int64}(0), Ref{Int64}(0)
    @call lamina_trajectory_rows(table::Ptr{Cvoid}, rows::Ptr{Int64})
    @call lamina_trajectory_columns(table::Ptr{Cvoid}, columns::Ptr{Int64})
    names, definitions, arrays = Symbol[], String[], Vector{Float64}[]
    name, definition = Ref{Ptr{UInt8}}(C_NULL), Ref{Ptr{UInt8}}(C_NULL)
    for index in 0:columns[]-1
        @call lamina_trajectory_column_name(table::Ptr{Cvoid}, index::Int64, name::Ptr{Ptr{UInt8}}, definition::Ptr{Ptr{UInt8}})
        # Borrowed from the table, which must live until they are copied.
        GC.@preserve table begin
            push!(names, Symbol(unsafe_string(name[])))
            push!(definitions, unsafe_string(definition[]))
        end
        array = Vector{Float64}(undef, rows[])
        @call lamina_trajectory_read(table::Ptr{Cvoid}, index::Int64, array::Ptr{Float64}, rows[]::Int64)
        push!(arrays, array)
    end
    return Trajectory(Tuple(names), arrays), NamedTuple{Tuple(names)}(Tuple(definitions))
end
