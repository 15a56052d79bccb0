# Finds and loads liblamina; calls with a status as exceptions; handles that free themselves; options; Ctrl-C in callbacks.

const ABI = 0  # the major version of the binary interface that structs.jl describes
const LIBRARY = Ref{Ptr{Cvoid}}(C_NULL)

# Not RTLD_DEEPBIND, which is Libdl's default: where Julia has a libunwind of its own, as Debian's has, a library so opened raises
# C++ exceptions by that and resumes them by libgcc, and the process aborts.
const FLAGS = Libdl.RTLD_NOW | Libdl.RTLD_LOCAL

symbol(name::Symbol) = Libdl.dlsym(LIBRARY[], name)

library_file() = "liblamina." * (Sys.isapple() ? "$ABI.$(Libdl.dlext)" : "$(Libdl.dlext).$ABI")

function pkg_config_folder()
    try
        return strip(read(pipeline(`pkg-config --variable=libdir lamina`; stderr = devnull), String))
    catch
        return ""
    end
end

function load_library()
    path = get(ENV, "LAMINA_LIBRARY", "")
    # What the user has named is what is meant: no other library in its stead.
    isempty(path) || return open_library(path)
    handle = Libdl.dlopen(library_file(), FLAGS; throw_error = false)
    handle === nothing || return checked_library(library_file(), handle)
    folder = pkg_config_folder()
    isempty(folder) || return open_library(joinpath(folder, library_file()))
    error("Lamina: the library $(library_file()) was not found. Install it, or set ENV[\"LAMINA_LIBRARY\"] to its path")
end

open_library(path) = checked_library(path, Libdl.dlopen(path, FLAGS))

function checked_library(path, handle)
    abi = ccall(Libdl.dlsym(handle, :lamina_abi), Int32, ())
    abi == ABI || error("Lamina: $path has binary interface $abi, this package needs $ABI")
    return handle
end

__init__() = (LIBRARY[] = load_library(); nothing)

"A call that lamina refused: `status` is its number, `name` that number's name, `text` what the library says."
struct Error <: Exception
    status::Int32
    name::String
    text::String
end

Base.showerror(io::IO, e::Error) = print(io, "Lamina.Error: ", isempty(e.text) ? e.name : e.text)

"""
    @call name(argument::Type, ...)::Result

The C function `name`. Without `::Result` its status: a negative one throws `Lamina.Error`, another is the value.
"""
macro call(expression)
    checked = !(expression isa Expr && expression.head === :(::))
    call, result = checked ? (expression, :Int32) : (expression.args[1], expression.args[2])
    arguments = call.args[2:end]
    types = Expr(:tuple, (esc(a.args[2]) for a in arguments)...)
    values = (esc(a.args[1]) for a in arguments)
    plain = Expr(:call, :ccall, :(symbol($(QuoteNode(call.args[1])))), checked ? result : esc(result), types, values...)
    return checked ? :(check($plain)) : plain
end

function check(status::Int32)
    status < 0 && throw(failure(status))
    return status
end

function failure(status::Int32)
    name = unsafe_string(@call lamina_status_name(status::Int32)::Cstring)
    return Error(status, name, unsafe_string(@call lamina_last_error()::Cstring))
end

# Owns one handle of the library. `alive` is what C still points at: a callback's state.
mutable struct Handle
    pointer::Ptr{Cvoid}
    free::Ptr{Cvoid}
    alive::Any
    function Handle(pointer::Ptr{Cvoid}, free::Symbol, alive = nothing)
        handle = new(pointer, symbol(free), alive)
        return finalizer(release, handle)
    end
end

# After `finalize` the pointer is NULL, which the library refuses.
function release(handle::Handle)
    ccall(handle.free, Cvoid, (Ptr{Cvoid},), handle.pointer)
    handle.pointer = C_NULL
end

# A ccall keeps what cconvert gives alive, so that a handle is not freed while it is used.
Base.cconvert(::Type{Ptr{Cvoid}}, handle::Handle) = handle
Base.unsafe_convert(::Type{Ptr{Cvoid}}, handle::Handle) = handle.pointer

# The handle that `call(out)` makes. Exceptions that callbacks put into `failures` come first; a cancelled create is an error.
function create(call, free::Symbol; failures = Any[], alive = nothing)
    out = Ref{Ptr{Cvoid}}(C_NULL)
    status = hosting(() -> call(out), failures)
    status == 0 || throw(failure(status))
    return Handle(out[], free, alive)
end

# ---- callbacks ---------------------------------------------------------------------------------------------------------
# No exception may pass through C. During a call with callbacks SIGINT is held back; inside the host's functions it is let
# through, and what they throw is caught. The task stays on its thread, also when it yields: C goes on where it was called.

# `translate` makes what is thrown of what was caught.
function hosting(call, failures; translate = identity)
    task = current_task()
    sticky = task.sticky
    task.sticky = true
    status = Ref{Int32}(0)
    try
        disable_sigint(() -> (status[] = call(); nothing))
    catch error
        error isa InterruptException || rethrow()
        push!(failures, error)
        # The call itself ended well if it got so far.
    finally
        task.sticky = sticky
    end
    # Not inside `catch`, where the REPL would show two exceptions for one.
    if !isempty(failures)
        first_failure = popfirst!(failures)
        empty!(failures)
        throw(translate(first_failure))
    end
    return check(status[])
end

# function(), or nothing with its exception in `failures`. Where it was thrown can be seen by ENV["JULIA_DEBUG"] = "Lamina".
function call_host(call, failures)
    try
        return Base.reenable_sigint(call)
    catch error
        error isa InterruptException || @debug "thrown by a function that lamina called" exception = (error, catch_backtrace())
        push!(failures, error)
        return nothing
    end
end

# ---- options -----------------------------------------------------------------------------------------------------------

function make_options(values)
    options = create(out -> ccall(symbol(:lamina_options_create), Int32, (Ptr{Ptr{Cvoid}},), out), :lamina_options_free)
    for (key, value) in pairs(values)
        set_option(options, String(key), value)
    end
    return options
end

set_option(options, key, ::Nothing) = nothing  # the default
set_option(options, key, value::Bool) = set_option(options, key, value ? "yes" : "no")
# An integer that no Float64 is goes as text, so that the error names it.
set_option(options, key, value::Integer) =
    Float64(value) == value ? set_option(options, key, Float64(value)) : set_option(options, key, string(value))
set_option(options, key, value::Real) =
    @call lamina_options_set_number(options::Ptr{Cvoid}, key::Cstring, Float64(value)::Float64)
set_option(options, key, value::Union{AbstractString,Symbol}) =
    @call lamina_options_set_text(options::Ptr{Cvoid}, key::Cstring, String(value)::Cstring)
function set_option(options, key, value::Union{AbstractArray,Tuple})
    isempty(value) || !all(v -> v isa Union{AbstractString,Symbol}, value) || return set_option(options, key, join(value, ","))
    all(v -> v isa Real, value) || return set_option(options, key, missing)
    numbers = Float64[v for v in value]
    @call lamina_options_set_array(options::Ptr{Cvoid}, key::Cstring, numbers::Ptr{Float64}, length(numbers)::Int64)
end
set_option(options, key, value) =
    throw(ArgumentError("option $key is $(repr(value)), must be a number, a word or numbers"))

# The constant of a word, or an ArgumentError that names the known words.
function choice(name, value, words::NamedTuple)
    key = Symbol(value)
    haskey(words, key) || throw(ArgumentError("$name is $(repr(value)), must be one of $(join(map(repr, keys(words)), ", "))"))
    return words[key]
end

"    version()\n\nThe version of the library that is loaded."
version() = unsafe_string(@call lamina_version()::Cstring)

"    build_info()\n\nCompiler, flags and libraries of the library that is loaded."
build_info() = unsafe_string(@call lamina_build_info()::Cstring)

"    instruction_sets()\n\nThe instruction sets that this CPU can run, fastest first; each may be given as option `isa`."
function instruction_sets()
    count = @call lamina_isa_count()::Int32
    return String[unsafe_string(@call lamina_isa_name(index::Int32)::Cstring) for index in 0:count-1]
end
