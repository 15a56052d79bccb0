# Does Ctrl-C end a run soon and keep what was computed? By a real signal to a process of its own, which says what it caught.
child = """
Base.exit_on_sigint(false)
run = Lamina.Run(; $(repr(ENDLESS))..., progress = REPORT)
Lamina.continue!(run, 10)  # compiled from here on
println("going"); flush(stdout)
try
    Lamina.continue!(run)
catch error
    depth = length(Base.catch_stack())
    told = occursin("stopped at step \$(run.step) of", sprint(showerror, error))
    println(error isa Lamina.Interrupted && error.run === run, " ", told, " ", run.status, " ", depth, " ", run.step, " ",
            length(run.trajectory), " ", Lamina.continue!(run, 5).step)
end
"""

# With nothing to tell, and with the host's function at work when the signal comes.
for report in ("false", "at -> (sleep(0.01); nothing)")
    output = Pipe()
    process = run(pipeline(own_process(replace(child, "REPORT" => report)); stdout = output, stderr = stderr); wait = false)
    close(output.in)
    deadline = Timer(at -> kill(process, Base.SIGKILL), 120)
    @test readline(output) == "going"
    sleep(0.7)
    sent = time()
    kill(process, Base.SIGINT)
    said = split(readline(output))
    took = time() - sent
    wait(process)
    close(deadline)
    @test success(process) && length(said) == 7
    length(said) == 7 || continue
    interrupted, told, status, depth, step, rows, later = said
    @test interrupted == told == "true" && status == "stopped" && depth == "1"
    step, rows, later = parse.(Int, (step, rows, later))
    @test 10 < step < 10^9 && rows == step ÷ 1000 + 1 && later == step + 5
    @test took < 5  # a look every 100 ms; the run has days to go
end

# From another task: stopped is not interrupted.
run_ = Lamina.Run(; ENDLESS..., progress = at -> (yield(); nothing), progress_seconds = 0.01)
waiting = @async (sleep(0.2); Lamina.stop(run_))
Lamina.continue!(run_)
wait(waiting)
@test run_.status === :stopped && run_.step > 0
