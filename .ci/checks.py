"""The stages of .ci/test (quick) and .ci/run (full), in order.

usage: checks.py quick|full|extra [SECONDS]     SECONDS: what installing packages took
"""
import glob
import json
import os
import re
import shutil
import sys

import packages
from report import Report, run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MINUTE = 60.0
STRICT = "-Dwerror=true"  # in .ci/run a warning is an error
FUZZ = os.environ.get("LAMINA_FUZZ", "10000")
LAMINA = "build/bindings/cli/lamina"
TABLE_MARK, TABLE_SCRIPT = "<!-- table: .ci/table -->", ".ci/table"
# Which programs run with a set forced: all that train little, where one number is computed at a time; those that run on an emulated Nehalem
# are tests of their own (golden_*_nehalem, rule_nehalem).
VECTOR = r"(?!figures_learning|attention_fuzz).*"
PORTABLE = r"base|kernels|optimiser|model|train|task|capi.*|figures_population|attention_(oracle|misuse|memory)"
SANITISED = r"base|kernels|optimiser|model|train|task|capi.*|figures_population|attention_(oracle|misuse)"
# Every report of a sanitizer ends the program.
SANITIZED = {"ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:abort_on_error=0",
             "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"}


def build(report, folder, options=(), environment=None, targets=()):
    setup = ["meson", "setup", folder, "-Dtests=true", *options]
    if os.path.exists(f"{folder}/build.ninja"):
        setup.insert(2, "--reconfigure")
    if not report.command(f"{folder}: configure", setup, 5 * MINUTE, environment):
        return False
    return report.command(f"{folder}: compile", ["ninja", "-C", folder, *targets], 20 * MINUTE, environment)


def engine_tests(folder):
    """Names of the quick tests that are programs of this build and not scripts: what an emulator or a sanitizer can run."""
    status, output = run(["meson", "introspect", "--tests", folder], MINUTE)
    if status != 0:
        raise RuntimeError(output)
    inside = os.path.realpath(folder) + os.sep
    return [test["name"] for test in json.loads(output)
            if os.path.realpath(test["cmd"][0]).startswith(inside) and not any(s.endswith("slow") for s in test["suite"])]


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


def quick(report, options=()):
    report.stage("build", build, report, "build", ["--buildtype=release", *options])
    report.stage("main run", main_run, report)
    report.stage("tests", lambda: report.meson_tests("tests", "build", ["--no-suite", "slow"], 15 * MINUTE))
    report.stage("install", packages.install, report)
    for name in ("r", "julia", "python"):
        report.stage(f"{name} package", getattr(packages, f"{name}_package"), report)


def slow_figures(report):
    report.meson_tests("slow", "build", ["--suite", "slow", "--timeout-multiplier", "3"], 30 * MINUTE)


def clang(report):
    if build(report, "build-clang", ["--buildtype=release", STRICT], {"CC": "clang", "CXX": "clang++"}):
        report.meson_tests("clang", "build-clang", ["--no-suite", "slow"], 15 * MINUTE)


def instruction_sets(report):
    """All quick programs with each set forced; a set this CPU cannot run is skipped, not passed over."""
    with open("src/kernels/meson.build", encoding="utf-8") as file:
        known = re.findall(r"'name': '(\w+)'", file.read())
    status, output = run([LAMINA, "--version"], MINUTE)
    here = re.search(r"^instruction sets here:(.*)$", output, re.MULTILINE)
    if status != 0 or not here:
        raise RuntimeError(f"lamina --version does not list the instruction sets:\n{output}")
    for name in known:
        if name in here.group(1).split():
            tests = [t for t in engine_tests("build") if re.fullmatch(PORTABLE if name == "reference" else VECTOR, t)]
            report.meson_tests(name, "build", tests, 15 * MINUTE, {"LAMINA_ISA": name})
        else:
            report.skip(name, "this build or this CPU does not have it")


def sanitized(report, kind, folder, names):
    options = ["--buildtype=debugoptimized", STRICT, f"-Db_sanitize={kind}", "-Db_lundef=false"]
    if build(report, folder, options):
        tests = [n for n in engine_tests(folder) if re.fullmatch(names, n)]
        if not tests:
            raise RuntimeError(f"no test matches {names}")
        report.meson_tests(kind, folder, ["--timeout-multiplier", "10", *tests], 20 * MINUTE, SANITIZED)


def readme_table(report):
    """The table of reproductions, made again by the script that made it; it fails where README.md differs beyond the tolerances."""
    if not os.path.exists("README.md"):
        raise RuntimeError("there is no README.md")
    with open("README.md", encoding="utf-8") as file:
        promised = TABLE_MARK in file.read()
    if os.access(TABLE_SCRIPT, os.X_OK):
        status, output = run([TABLE_SCRIPT, "--check"], 30 * MINUTE)
        report.add("README table", 1 if status is None else status, output)
    elif promised:
        raise RuntimeError(f"README.md holds the mark {TABLE_MARK}, and there is no {TABLE_SCRIPT}")
    else:
        report.skip("README table", f"README.md does not hold the mark {TABLE_MARK}")


def long_fuzzing(report):
    """The programs that read LAMINA_FUZZ_CASES, with as many cases as LAMINA_FUZZ says."""
    sources = [path for path in glob.glob("tests/**/*.c*", recursive=True) if "LAMINA_FUZZ_CASES" in open(path, encoding="utf-8").read()]
    if not sources:
        report.skip("fuzz", "no test reads LAMINA_FUZZ_CASES")
        return
    folders = {os.path.basename(os.path.dirname(path)) for path in sources}
    names = [name for name in engine_tests("build") if any(name.startswith(folder) for folder in folders)]
    report.meson_tests("fuzz", "build", ["--timeout-multiplier", "10", *names], 15 * MINUTE, {"LAMINA_FUZZ_CASES": FUZZ})


def full(report):
    quick(report)
    report.stage("README table", readme_table, report)
    report.stage("clang", clang, report)


def extra(report):
    """Longer checks beside .ci/run, for a quiet machine: python3 .ci/checks.py extra."""
    quick(report, [STRICT])
    report.stage("long figures", slow_figures, report)
    report.stage("R CMD check", packages.r_check, report)
    report.stage("instruction sets", instruction_sets, report)
    report.stage("fuzz", long_fuzzing, report)
    report.stage("ASan and UBSan", sanitized, report, "address,undefined", "build-asan", SANITISED)


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in ("quick", "full", "extra"):
        sys.exit(__doc__)
    os.chdir(ROOT)
    report = Report(30 * MINUTE if sys.argv[1] == "quick" else 85 * MINUTE)
    report.note_time("packages", float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
    {"quick": quick, "full": full, "extra": extra}[sys.argv[1]](report)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
