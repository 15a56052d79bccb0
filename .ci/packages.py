"""The library as its users meet it: installed and found by pkg-config, and the R, Julia and Python packages on top of it."""
import glob
import os
import shutil

from report import run

MINUTE = 60.0
WORK = "build/packages"
# Where the packages look for a library that is not installed, and their tests for the golden trajectories.
PLACES = {"LAMINA_BUILD": os.path.abspath("build"), "LAMINA_LIBRARY": os.path.abspath("build/capi/liblamina.so"),
          "LAMINA_GOLDEN": os.path.abspath("tests/golden")}
CONSUMER = """#include <lamina/lamina.h>
#include <stdio.h>
int main(void) { return puts(lamina_version()) < 0; }
"""


def fresh(name, source=None):
    """An empty folder of its own, or a copy of `source`, so that building a package leaves nothing in the tree."""
    folder = os.path.abspath(f"{WORK}/{name}")
    shutil.rmtree(folder, ignore_errors=True)
    if source:
        shutil.copytree(source, folder)
    else:
        os.makedirs(folder)
    return folder


def install(report):
    """`meson install`, then a C program that knows pkg-config alone."""
    root = fresh("installed")
    if not report.command("install", ["meson", "install", "-C", "build", "--no-rebuild", "--quiet", "--destdir", root], 2 * MINUTE):
        return
    found = glob.glob(f"{root}/**/lamina.pc", recursive=True)
    libraries = glob.glob(f"{root}/**/liblamina.so", recursive=True)
    if len(found) != 1 or len(libraries) != 1:
        raise RuntimeError(f"lamina.pc: {found}, liblamina.so: {libraries}")
    with open(f"{root}/consumer.c", "w", encoding="utf-8") as file:
        file.write(CONSUMER)
    settings = {"PKG_CONFIG_PATH": os.path.dirname(found[0]), "PKG_CONFIG_SYSROOT_DIR": root,
                "LD_LIBRARY_PATH": os.path.dirname(libraries[0])}
    script = "cc -std=c11 -pedantic -Wall -Wextra -Werror consumer.c -o consumer $(pkg-config --cflags --libs lamina) && ./consumer"
    status, output = run(["sh", "-c", script], MINUTE, settings, root)
    report.add("install: a program found lamina by pkg-config", 1 if status is None else status, output)


def tested(report, name, command, timeout, environment, folder=None):
    status, output = run(command, timeout, environment, folder)
    report.add(name, 1 if status is None else status, output if status is not None else output + f"\nno end after {timeout:.0f} s")


def r_package(report):
    if not os.path.exists("bindings/r/DESCRIPTION"):
        report.skip("r", "there is no package in bindings/r")
        return
    if not shutil.which("Rscript"):
        report.skip("r", "R is not installed")
        return
    source, library = fresh("r", "bindings/r"), fresh("r-library")
    environment = {**PLACES, "R_LIBS": library, "LC_ALL": "C.UTF-8"}
    if not report.command("r: install", ["R", "CMD", "INSTALL", f"--library={library}", source], 5 * MINUTE, environment):
        return
    scripts = sorted(glob.glob(f"{source}/tests/*.R"))
    if not scripts:
        raise RuntimeError("bindings/r/tests holds no *.R")
    for script in scripts:
        tested(report, "r: " + os.path.basename(script), ["Rscript", "--vanilla", script], 5 * MINUTE, environment, f"{source}/tests")


def r_check(report):
    """R's own checker, as a package archive would run it."""
    if not os.path.exists("bindings/r/DESCRIPTION") or not shutil.which("R"):
        report.skip("R CMD check", "no package in bindings/r, or no R")
        return
    folder = fresh("r-check")
    source = shutil.copytree("bindings/r", f"{folder}/lamina")
    settings = {**PLACES, "_R_CHECK_FORCE_SUGGESTS_": "false", "LC_ALL": "C.UTF-8"}
    if report.command("R CMD build", ["R", "CMD", "build", source], 5 * MINUTE, settings, folder=folder):
        status, output = run(["sh", "-c", "R CMD check --no-manual lamina_*.tar.gz"], 10 * MINUTE, settings, folder)
        report.add("R CMD check", 0 if status == 0 and "Status: OK" in output else 1, output)


def julia_reason():
    """Why .ci/setup could not install Julia: the last line of its installer."""
    if not os.path.exists("build-julia/log"):
        return ".ci/setup julia installs one"
    with open("build-julia/log", encoding="utf-8", errors="replace") as file:
        return file.read().strip().split("\n")[-1]


def julia_package(report):
    julia = shutil.which("julia") or (os.path.abspath("build-julia/julia") if os.access("build-julia/julia", os.X_OK) else None)
    if not julia:
        report.skip("julia", "Debian 12 has no julia package; " + julia_reason())
        return
    source, depot = fresh("julia", "bindings/julia"), fresh("julia-depot")
    environment = {**PLACES, "JULIA_DEPOT_PATH": depot, "JULIA_LOAD_PATH": "@:@stdlib"}
    tested(report, "julia", [julia, "--startup-file=no", "--color=no", f"--project={source}", f"{source}/test/runtests.jl"], 8 * MINUTE,
           environment, source)


def python_package(report):
    if not os.path.exists("bindings/python/pyproject.toml"):
        report.skip("python", "there is no package in bindings/python")
        return
    source, place = fresh("python", "bindings/python"), fresh("python-venv")
    if not report.command("python: venv", ["/usr/bin/python3", "-m", "venv", "--system-site-packages", place], 2 * MINUTE):
        return
    python = f"{place}/bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", source]
    if not report.command("python: pip install", pip, 3 * MINUTE):
        return
    # From the folder of the tests, where the package's sources cannot be imported by accident.
    environment = {**PLACES, "MPLBACKEND": "Agg"}
    tested(report, "python", [python, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "."], 8 * MINUTE, environment, f"{source}/tests")
