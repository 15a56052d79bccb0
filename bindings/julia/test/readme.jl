# Do the pages keep their word? Their Julia lines run as they stand.
julia_blocks(page) = [String(found[1]) for found in eachmatch(r"```julia\n(.*?)```"s, read(page, String))]

# In a module of their own, as pasted; what the last line gives.
run_lines(block) = include_string(Module(:Pasted), block)

pages = [joinpath(PACKAGE, "README.md")]
front = joinpath(GOLDEN, "..", "..", "README.md")
isfile(front) ? push!(pages, front) : println("SKIPPED: the front page is not beside this package")
for page in pages
    blocks = julia_blocks(page)
    @test length(blocks) == 1
    value = run_lines(blocks[1])
    value isa AbstractVector && (value = value[end])
    @test value isa Float64 && 0 < value < 1e-2
end

# Plots are left to the packages for them; the page says how.
@test occursin("Plots", read(pages[1], String)) && !isdefined(Lamina, :plot)
