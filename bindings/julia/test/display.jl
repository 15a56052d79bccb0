# Do things say what they are, briefly, in the REPL?
plain(x; width = 100) = sprint(show, MIME("text/plain"), x; context = IOContext(IOBuffer(), :limit => true, :displaysize => (24, width)))
lines(text) = split(text, "\n")
run = small(noise = 0.2)

@test sprint(show, run) == "Lamina.Run of in_context_recall: step 20 of 20, finished"
text = plain(run)
@test length(lines(text)) == 3 && occursin("loss ", text) && occursin("excess ", text) && occursin("noise = 0.2", text)
@test !occursin("variant", text)  # a default
@test sprint(show, Lamina.Run(; RUN...)) == "Lamina.Run of in_context_recall: step 0 of 20, unfinished"

# A small table: the first rows, the last, what fits, the names of the rest.
text = plain(run.trajectory)
@test lines(text)[1] == "21 x $(length(propertynames(run.trajectory))) Lamina.Trajectory"
@test split(lines(text)[2])[1:3] == ["step", "loss", "excess"] && split(lines(text)[3])[1] == "0" && split(lines(text)[7])[1] == "..."
@test split(lines(text)[11])[1] == "20" && maximum(length, lines(text)) <= 100 && length(lines(text)) <= 16
@test all(occursin(string(name), text) for name in propertynames(run.trajectory))
@test maximum(length, lines(plain(run.trajectory; width = 60))) <= 60
@test length(lines(plain(run.trajectory[1:3]))) < length(lines(text)) && occursin("3 x", plain(run.trajectory[1:3]))
@test occursin("0 x", plain(Lamina.Run(; RUN...).trajectory))
@test startswith(sprint(show, run.trajectory), "Lamina.Trajectory of 21 rows: step, loss, excess")

@test sprint(show, run.task) == "Lamina.Task in_context_recall: prompts of 24 tokens out of 20 and tau"
@test occursin("infinitely many", sprint(show, Lamina.Task(prompt_length = Inf)))
@test sprint(show, Lamina.Task("in_context_convergence"; prompt_length = 4)) == "Lamina.Task in_context_convergence: prompts of 9 numbers"
text = plain(Lamina.Model(; SMALL..., variant = :original))
@test startswith(text, "Lamina.Model of in_context_recall, running ") && occursin("W 42 x 42 trained", text)
@test occursin("step 5/20  loss 1.5  excess 0.25  10 steps/s  2 s left", string(Lamina.Progress(5, 20, 1.5, 0.25, 0.6, 10.0)))
@test occursin("noise = 0.5", plain(Lamina.describe("noise")))

# Everything that is public has a docstring, and what the page names is there.
page = read(joinpath(PACKAGE, "README.md"), String)
public = Set(Symbol(found[1]) for found in eachmatch(r"Lamina\.(\w+!?)", page))
@test length(public) > 20 && (:train in public) && (:attention_gradient in public)
for name in public
    @test isdefined(Lamina, name) && haskey(Base.Docs.meta(Lamina), Base.Docs.Binding(Lamina, name))
end
