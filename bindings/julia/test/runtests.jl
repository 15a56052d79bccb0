# The tests of the package, one question a file. JULIA_LOAD_PATH="@:@stdlib" julia --project=. test/runtests.jl
using Test

include("support.jl")

@testset "lamina" begin
    for name in ("catalogue", "run", "trajectory", "save", "task", "own_task", "model", "theory", "attention", "strides", "gradient",
                 "errors", "display", "finalizers", "sweep", "interrupt", "threads", "golden", "readme")
        @testset "$name" begin
            # A module of its own, so that no file sees the names of another.
            place = Module(Symbol(name, "_test"))
            Core.eval(place, :(using Test, Lamina, Main.Support))
            Base.include(place, joinpath(@__DIR__, name * ".jl"))
        end
    end
end
