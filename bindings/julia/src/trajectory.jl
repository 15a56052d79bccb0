# The recorded table of a run: a named tuple of vectors, which is a table to Tables.jl.

function read_trajectory(trainer)
    table = create(:lamina_trajectory_free) do out
        ccall(symbol(:lamina_trainer_trajectory), Int32, (Ptr{Cvoid}, Ptr{Ptr{Cvoid}}), trainer, out)
    end
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
    keys = Tuple(names)
    return NamedTuple{keys}(Tuple(arrays)), NamedTuple{keys}(Tuple(definitions))
end
