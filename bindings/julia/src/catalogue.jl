# What there is: tasks, probes, closed forms and options, read from the library's catalogue.

"A row of the catalogue: an option, or the name of a task, probe or closed form."
struct Entry
    name::String
    kind::Symbol
    owner::String
    default::String
    minimum::Float64
    maximum::Float64
    words::Vector{String}
    summary::String
    description::String
end

# A line broken at spaces, so that it fits `width`.
function fill_text(text, indent; width = 100)
    lines, line = String[], ""
    for word in split(text)
        if !isempty(line) && indent + length(line) + 1 + length(word) > width
            push!(lines, line)
            line = ""
        end
        line = isempty(line) ? String(word) : line * " " * word
    end
    push!(lines, line)
    return join((" "^indent * l for l in lines), "\n")
end

short(number) = isinteger(number) && abs(number) < 1e15 ? string(Int64(number)) : string(number)

function allowed(entry::Entry)
    isempty(entry.words) || return join(entry.words, "|")
    entry.kind in (:number, :integer) && return "$(entry.kind) in [$(short(entry.minimum)), $(short(entry.maximum))]"
    return string(entry.kind)
end

function heading(entry::Entry)
    entry.kind === :name && return occursin("->", entry.description) ? "$(entry.name): $(entry.description)" : entry.name
    return entry.name * (isempty(entry.default) ? "" : " = " * entry.default) * "  (" * allowed(entry) * ")"
end

Base.show(io::IO, entry::Entry) = print(io, heading(entry))
Base.show(io::IO, ::MIME"text/plain", entry::Entry) = print(io, heading(entry), "\n", fill_text(entry.summary, 4))

# The value of an option from its text: a number, numbers, or the text itself.
function parse_value(entry::Entry, text)
    entry.kind === :array && return [parse(Float64, item) for item in split(text, ","; keepempty = false)]
    (entry.kind in (:number, :integer) && !isempty(text)) || return text
    number = parse(Float64, text)
    return entry.kind === :integer && isinteger(number) ? Int64(number) : number
end

"Entries by name, in the library's order."
struct Listing <: AbstractDict{String,Entry}
    entries::Vector{Entry}
end

Base.length(listing::Listing) = length(listing.entries)
function Base.iterate(listing::Listing, at = 1)
    at > length(listing.entries) && return nothing
    return listing.entries[at].name => listing.entries[at], at + 1
end
function Base.get(listing::Listing, name, default)
    at = findfirst(entry -> entry.name == string(name), listing.entries)
    return at === nothing ? default : listing.entries[at]
end
Base.haskey(listing::Listing, name) = get(listing, name, nothing) !== nothing

function Base.show(io::IO, mime::MIME"text/plain", listing::Listing)
    join(io, (sprint(show, mime, entry) for entry in listing.entries), "\n")
end

"A task and every option of a run of it; `description[\"noise\"]` is an option's entry."
struct Description <: AbstractDict{String,Entry}
    task::Entry
    options::Listing
end

Base.length(description::Description) = length(description.options)
Base.iterate(description::Description, at...) = iterate(description.options, at...)
Base.get(description::Description, name, default) = get(description.options, name, default)
Base.haskey(description::Description, name) = haskey(description.options, name)

function Base.show(io::IO, mime::MIME"text/plain", description::Description)
    task = description.task
    print(io, task.name, "\n", fill_text(task.summary, 4))
    isempty(task.description) || print(io, "\n", fill_text(task.description, 4))
    for owner in unique(entry.owner for entry in values(description))
        print(io, "\n\nOptions of the $owner:")
        for entry in values(description)
            entry.owner == owner && print(io, "\n  ", heading(entry), "\n", fill_text(entry.summary, 6))
        end
    end
end

function entries(scope)
    found = Entry[]
    for index in 0:(@call lamina_catalogue_count(scope::Cstring)::Int64)-1
        row = blank(CatalogueEntry)
        @call lamina_catalogue_describe(scope::Cstring, index::Int64, row::Ref{CatalogueEntry})
        push!(found, Entry(unsafe_string(row.key), KINDS[row.kind], unsafe_string(row.owner), unsafe_string(row.fallback),
                           row.minimum, row.maximum, split(unsafe_string(row.words), "|"; keepempty = false),
                           unsafe_string(row.summary), unsafe_string(row.description)))
    end
    return Listing(found)
end

const SCOPES = ("tasks", "probes", "theory")

"""
    list(what = "tasks")

What there is of `what`: "tasks", "probes" or "theory" (closed forms).
"""
function list(what = "tasks")
    string(what) in SCOPES || throw(ArgumentError("what is $(repr(what)), must be one of $(join(SCOPES, ", "))"))
    return entries(string(what))
end

"""
    describe(name)

A task with all its options, a probe, a closed form, or an option, by name.
"""
function describe(name)
    tasks = list("tasks")
    haskey(tasks, name) && return Description(tasks[name], entries(string(name)))
    for listing in (list("probes"), list("theory"), (entries(task) for task in keys(tasks))...)
        haskey(listing, name) && return listing[name]
    end
    known = join(("$scope: " * join(keys(list(scope)), ", ") for scope in SCOPES), "; ")
    throw(ArgumentError("name is $(repr(name)), must be an option or one of $known"))
end
