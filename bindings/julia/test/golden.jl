# Are the golden trajectories, which every language reproduces, reproduced bit for bit? Their format is in tests/golden/README.md.
files = isdir(GOLDEN) ? filter(endswith(".csv"), readdir(GOLDEN; join = true)) : String[]
haskey(ENV, "LAMINA_GOLDEN") && @test length(files) >= 3
isempty(files) && println("SKIPPED: no golden trajectories in $GOLDEN; LAMINA_GOLDEN may name their folder")

for file in files
    head, rows = Dict{Symbol,String}(), Vector{String}[]
    for line in eachline(file)
        startswith(line, "# ") ? (parts = split(line[3:end], "="; limit = 2); head[Symbol(parts[1])] = parts[2]) :
                                 push!(rows, split(line, ","))
    end
    task = pop!(head, :task)
    number(text) = something(tryparse(Float64, text), text)
    # As texts, and as numbers where they are numbers.
    for (options, threads) in ((head, 1), (Dict(key => number(text) for (key, text) in head), 3))
        table = Lamina.train(task; options..., threads = threads, progress = false).trajectory
        @test collect(string.(propertynames(table))) == rows[1] && length(table) == length(rows) - 1
        for (index, name) in enumerate(propertynames(table))
            @test same_bits(table[name], [parse(Float64, row[index]) for row in rows[2:end]])
        end
    end
end
