"""The stages of .ci/test (quick) and of .ci/run (full), in order.

usage: checks.py quick|full [SECONDS]     SECONDS: what installing packages took
       checks.py stage NAME...            some of them, by the names in STAGES; the release build must be there
"""
import json
import os
import re
import signal
import sys

import packages
from report import Report, run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MINUTE = 60.0
STRICT = "-Dwerror=true"  # in .ci/run a warning is an error
FUZZ = int(os.environ.get("LAMINA_FUZZ", "200000"))  # cases of attention, in all
LAMINA = "build/bindings/cli/lamina"
TABLE_MARK, TABLE_SCRIPT = "<!-- table: .ci/table -->", ".ci/table"

# Which programs run where, as patterns of whole names. With a set forced: all but those that train long or are random (they have stages of
# their own); the reference computes one number at a time, so of the longer ones it runs those that look at every element.
FORCED = {"": r"(?!figures_(learning|full_size)|.*_fuzz$).*",
          "reference": r"base|kernels|optimiser|model|train|task|capi.*|figures_population|attention_(oracle|grid|misuse|memory)"}
# Sanitised: with the arithmetic of the reference set, the one that is instrumented (src/kernels/meson.build).
MEMORY = r"base|kernels|optimiser|model|train|task|capi.*|figures_population|attention_(oracle|misuse|memory|fuzz)"
# Where threads share something: loops, training, host threads on one handle; and attention's blocks and segments, a few problems of each,
# with the arithmetic of the reference set. Left out: what says how many threads there were, and what compares with the oracle (minutes,
# and of one thread).
THREADED = r"base|train|capi"
THREADED_ATTENTION = r"attention_(threads|segments|keys)"
FEW_THREADED = {"LAMINA_ISA": "reference", "LAMINA_BITS_PROBLEMS": "3", "GTEST_FILTER": "-*AsManyTakePart*:*Oracle*"}
# Every report of a sanitizer ends the program. What no machine can allocate is refused as without a sanitizer.
SANITIZED = {"ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:allocator_may_return_null=1",
             "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
             "TSAN_OPTIONS": f"halt_on_error=1:second_deadlock_stack=1:suppressions={ROOT}/.ci/tsan.txt", "LAMINA_FUZZ_CASES": "100",
             # One loop over 90 000 entries, minutes long here; ComplexStep.Lists runs the same code over fewer.
             "GTEST_FILTER": "-Gradient.ManyDistinctTokensTakeTheList"}


def configured(report, folder, options=(), environment=None):
    setup = ["meson", "setup", folder, "-Dtests=true", *options]
    if os.path.exists(f"{folder}/build.ninja"):
        setup.insert(2, "--reconfigure")
    return report.command(f"{folder}: configure", setup, 5 * MINUTE, environment)


def build(report, folder, options=(), environment=None, targets=()):
    return (configured(report, folder, options, environment) and
            report.command(f"{folder}: compile", ["ninja", "-C", folder, *targets], 25 * MINUTE, environment))


def programs(folder, names=".*", slow=False):
    """Test name -> its program, relative to the folder, of the tests that are programs of this build and not scripts: what an emulator or
    a sanitizer can run."""
    status, output = run(["meson", "introspect", "--tests", folder], MINUTE)
    if status != 0:
        raise RuntimeError(output)
    inside = os.path.realpath(folder) + os.sep
    found = {test["name"]: os.path.realpath(test["cmd"][0])[len(inside):] for test in json.loads(output)
             if os.path.realpath(test["cmd"][0]).startswith(inside) and (slow or not any(s.endswith("slow") for s in test["suite"]))
             and re.fullmatch(names, test["name"])}
    if not found:
        raise RuntimeError(f"no test of {folder} matches {names}")
    return found


def sets_here():
    """Instruction sets that this CPU runs, and those that the build has but it does not."""
    with open("src/kernels/meson.build", encoding="utf-8") as file:
        known = re.findall(r"'name': '(\w+)'", file.read())
    status, output = run([LAMINA, "--version"], MINUTE)
    here = re.search(r"^instruction sets here:(.*)$", output, re.MULTILINE)
    if status != 0 or not here:
        raise RuntimeError(f"lamina --version does not list the instruction sets:\n{output}")
    runs = here.group(1).split()
    return runs, [name for name in known if name not in runs]


def release(report, options=()):
    build(report, "build", ["--buildtype=release", *options])


def main_run(report):
    """The first command of the README, with its table and its picture."""
    os.makedirs("lamina-run", exist_ok=True)
    command = [LAMINA, "run", "in_context_recall", "--csv", "lamina-run/recall.csv", "--svg", "lamina-run/recall.svg"]
    if report.command("main run", command, 2 * MINUTE, quiet=False):
        with open("lamina-run/recall.svg", encoding="utf-8") as picture, open("lamina-run/recall.csv", encoding="utf-8") as table:
            if "<svg" not in picture.read() or not table.readline().startswith("step,loss,excess"):
                report.fail("main run", "the picture or the table is not what it should be")
            else:
                report.passed += 1


def quick_tests(report):
    report.meson_tests("tests", "build", ["--no-suite", "slow"], 15 * MINUTE)


def clang(report):
    if build(report, "build-clang", ["--buildtype=release", STRICT], {"CC": "clang", "CXX": "clang++"}):
        report.meson_tests("clang", "build-clang", ["--no-suite", "slow"], 15 * MINUTE)


def slow_tests(report):
    """The figures at full size, all threads and non-finite values of attention, a text file of 100 MB."""
    report.meson_tests("slow", "build", ["--suite", "slow", "--timeout-multiplier", "3"], 30 * MINUTE)


def readme_table(report):
    """The table of reproductions, made again by the script that made it; it fails where README.md differs."""
    with open("README.md", encoding="utf-8") as file:
        if TABLE_MARK not in file.read():
            raise RuntimeError(f"README.md does not hold the mark {TABLE_MARK}")
    status, output = run([TABLE_SCRIPT, "--check"], 30 * MINUTE)
    report.add("README table", 1 if status is None else status, output)


def instruction_sets(report):
    """The quick programs with each set forced but the first, which is the default and has run; a set this CPU cannot run is skipped, not
    passed over."""
    (default, *runs), others = sets_here()
    print(f"{default} is the default here: forced by name in the tests capi_isa_*")
    for name in runs:
        tests = programs("build", FORCED.get(name, FORCED[""]))
        report.meson_tests(name, "build", list(tests), 15 * MINUTE, {"LAMINA_ISA": name})
    for name in others:
        report.skip(f"instruction set {name}", "this build or this CPU does not have it")


def nehalem(report):
    """Golden trajectories and kernels on an emulated CPU of 2008, without AVX and FMA."""
    status, output = run(["meson", "introspect", "--tests", "build"], MINUTE)
    if status != 0:
        raise RuntimeError(output)
    names = [test["name"] for test in json.loads(output) if test["name"].endswith("_nehalem")]
    report.meson_tests("nehalem", "build", names, 15 * MINUTE)


def sanitized(report, kind, folder, names, slow, environment):
    """Builds and runs the programs of these names with a sanitizer."""
    # Lines are all that reports need, and little optimisation compiles in half the time; but oneTBB's headers must be inline where threads
    # are watched, so that .ci/tsan.txt knows their frames.
    level = 2 if kind == "thread" else 1
    options = [f"-Doptimization={level}", "-Ddebug=false", "-Dc_args=-g1", "-Dcpp_args=-g1", STRICT, f"-Db_sanitize={kind}", "-Db_lundef=false"]
    if not configured(report, folder, options):
        return
    tests = programs(folder, names, slow)
    if not build(report, folder, options, targets=sorted(set(tests.values()))):
        return
    # The thread sanitizer of g++ 12 cannot live with much randomness of addresses; some containers do not let it be turned off.
    plain = ["setarch", os.uname().machine, "-R"]
    prefix = plain if kind == "thread" and run([*plain, "true"], MINUTE)[0] == 0 else []
    report.meson_tests(kind, folder, ["--timeout-multiplier", "10", *tests], 25 * MINUTE, {**SANITIZED, **environment}, prefix)


def long_fuzzing(report):
    """LAMINA_FUZZ random cases of attention, each on several instruction sets, in one process a CPU; random calls of the whole interface."""
    many = {"LAMINA_FUZZ_CASES": str(FUZZ), "LAMINA_FUZZ_PROCESSES": str(os.cpu_count() or 1)}
    report.meson_tests("fuzz", "build", ["--timeout-multiplier", "10", "attention_fuzz"], 30 * MINUTE, many)
    report.meson_tests("fuzz", "build", ["--timeout-multiplier", "10", "capi_fuzz"], 10 * MINUTE, {"LAMINA_FUZZ_CASES": str(FUZZ // 100)})


QUICK = [("build", release), ("main run", main_run), ("tests", quick_tests), ("install", packages.install),
         ("r package", packages.r_package), ("julia package", packages.julia_package), ("python package", packages.python_package)]
STAGES = [("build", release, [STRICT]), *QUICK[1:], ("slow tests", slow_tests), ("README table", readme_table), ("clang", clang),
          ("instruction sets", instruction_sets), ("nehalem", nehalem), ("R CMD check", packages.r_check), ("fuzz", long_fuzzing),
          ("TSan", sanitized, "thread", "build-tsan", THREADED, True, {}),
          ("ASan and UBSan", sanitized, "address,undefined", "build-asan", MEMORY, False, {"LAMINA_ISA": "reference"})]
# By name only, until its time on a CPU of two cores is known.
BY_NAME = [("TSan of attention", sanitized, "thread", "build-tsan", THREADED_ATTENTION, True, FEW_THREADED)]


def main():
    kind, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if kind not in ("quick", "full", "stage"):
        sys.exit(__doc__)
    os.chdir(ROOT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # begun in the background it would be ignored, and tests that send it wait for ever
    report = Report((30 if kind == "quick" else 85) * MINUTE)
    if kind != "stage":
        report.note_time("packages", float(arguments[0]) if arguments else 0.0)
    chosen = QUICK if kind == "quick" else STAGES if kind == "full" else [stage for stage in STAGES + BY_NAME if stage[0] in arguments]
    for name, function, *more in chosen:
        report.stage(name, function, report, *more)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
