# Do callbacks run on the calling thread, and do threads give the same bits?
child = """
const LAW = Lamina.Task(; $(repr(SMALL))...)
function trained()
    here, elsewhere = Threads.threadid(), 0
    looked() = (elsewhere += Threads.threadid() != here; yield(); nothing)
    sampler(split, seed, first, count) = (looked(); Lamina.sample(LAW, count; split = split, seed = seed, first = first))
    report(at) = looked()
    law = Lamina.Task(sampler; length = 24, vocabulary = 20, noise = 0.5)
    run = Lamina.train(law; data = :fresh, batch = 16, steps = 30, probes = :none, variant = :original, initialisation = :gaussian,
                       threads = 2, progress = report, progress_seconds = 0)
    return here, elsewhere, run.trajectory.loss
end
found = Vector{Any}(undef, 6)
Threads.@threads for i in 1:6
    found[i] = trained()
end
q = reshape(collect(1:4*65*3) ./ 780, 4, 65, 3)
one = Lamina.attention(q, q, q)
many = Vector{Any}(undef, 24)
Threads.@threads for i in 1:24
    many[i] = Lamina.attention(q, q, q)
end
shared = Lamina.Run(; $(repr(merge(RUN, (progress = false,))))...)
Threads.@threads for i in 1:4
    Lamina.continue!(shared, 5)
end
println(join((length(unique(first.(found))), sum(f[2] for f in found), all(f[3] == found[1][3] for f in found),
              all(==(one), many), shared.step), " "))
"""
said = split(read(own_process(child; threads = 3), String))
@test length(said) == 5
distinct, elsewhere, same_loss, same_attention, shared_steps = said
if distinct == "1"
    println("SKIPPED: one thread took all runs, so nothing was shown about several")
end
@test elsewhere == "0" && same_loss == same_attention == "true" && shared_steps == "20"
