"""What the shared library shows and needs: arguments are the library, then b_sanitize of the build. The exported symbols are those of
capi/symbols.txt and of the header; version node, soname, needed libraries, size; and manners once more, in the symbols that
it takes from others."""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from rule import ROOT, SKIPPED, accepted, finish, noticed

NODE = "LAMINA_0"
SONAME = "liblamina.so.0"
NEEDED = re.compile(r"(libtbb\.so\.12|libstdc\+\+\.so\.6|libm\.so\.6|libgcc_s\.so\.1|libc\.so\.6|ld-linux.*\.so\.[0-9])$")
LARGEST = 4 << 20
# Calls that a guest does not make. Names as the linker knows them, without version and without the suffix of checked variants.
UNWANTED = re.compile(
    r"(v?[fd]?printf|puts|fputs|putchar|putc|fputc|perror|stdout|stderr|exit|_exit|_Exit|quick_exit|abort|raise|kill|signal"
    r"|sigaction|sigprocmask|pthread_sigmask|setlocale|newlocale|uselocale|setenv|unsetenv|putenv|clearenv|fesetround|fesetenv"
    r"|feupdateenv|feenableexcept|pthread_create|longjmp|siglongjmp|rand|srand|dlopen"
    r"|_ZSt4cout|_ZSt4cerr|_ZSt4clog|_ZNSt8ios_base4InitC1Ev|_ZNSt6locale6globalERKS_|_ZNSt6thread15_M_start_threadE.*"
    r"|_ZSt9terminatev|__assert_fail|GOMP_.*)$")
# What headers of others force, and why it is harmless.
FORCED = {
    "_ZSt9terminatev": "compilers call it where a noexcept function would be left by an exception; none of ours throws",
    "__assert_fail": "assertions inside header-only libraries, on conditions that cannot fail",
    "abort": "reached only from such assertions",
    "_ZNSt8ios_base4InitC1Ev": "Random123 includes <iostream>; libstdc++ has set its streams up before, so nothing happens",
}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def exported(library):
    rows = [line.split() for line in run("nm", "-D", "--defined-only", library).splitlines()]
    return {row[2]: row[1] for row in rows if row[1] != "A"}  # A: the version node itself


def undefined(library):
    return {line.split()[-1].split("@")[0] for line in run("nm", "-D", "--undefined-only", library).splitlines()}


def declared(header):
    return set(re.findall(r"^LAMINA_API\b[^;(]*?\b(\w+)\(", header, re.MULTILINE))


def symbol_violations(symbols, listed, header_names):
    found = []
    names = {symbol.split("@")[0] for symbol in symbols}
    for symbol, kind in symbols.items():
        if not symbol.startswith("lamina_"):
            found.append(f"exported without prefix: {symbol}")
        elif not symbol.endswith(f"@@{NODE}"):
            found.append(f"exported outside {NODE}: {symbol}")
        if kind != "T":
            found.append(f"exported and not a function: {symbol} ({kind})")
    found += [f"exported, not in capi/symbols.txt: {name}" for name in sorted(names - set(listed))]
    found += [f"in capi/symbols.txt, not exported: {name}" for name in sorted(set(listed) - names)]
    found += [f"declared in lamina.h, not in capi/symbols.txt: {name}" for name in sorted(header_names - set(listed))]
    found += [f"in capi/symbols.txt, not declared in lamina.h: {name}" for name in sorted(set(listed) - header_names)]
    if listed != sorted(set(listed)):
        found.append("capi/symbols.txt is not sorted, or names a symbol twice")
    return found


def manner_violations(taken):
    found = []
    for name in sorted(taken):
        plain = re.sub(r"^__(\w+)_chk$", r"\1", name)
        if UNWANTED.match(plain) and plain not in FORCED:
            found.append(f"the library calls {name}")
    return found


def dynamic_violations(dynamic):
    found = []
    sonames = re.findall(r"\(SONAME\).*\[(.*)\]", dynamic)
    if sonames != [SONAME]:
        found.append(f"soname is {sonames}, must be {SONAME}")
    for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
        if not NEEDED.match(name):
            found.append(f"needs {name}")
    for flag in ("TEXTREL", "RPATH", "RUNPATH"):
        if f"({flag})" in dynamic:
            found.append(f"has {flag}")
    return found


def size_violations(library):
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "stripped.so"
        shutil.copyfile(library, copy)
        run("strip", copy)
        size = copy.stat().st_size
    print(f"stripped: {size} bytes")
    return [f"{size} bytes stripped, at most {LARGEST}"] if size > LARGEST else []


def self_check():
    good = {"lamina_a@@LAMINA_0": "T"}
    accepted(symbol_violations(good, ["lamina_a"], {"lamina_a"}), "a right library")
    noticed(symbol_violations({**good, "_ZStfoo@@LAMINA_0": "W"}, ["lamina_a"], {"lamina_a"}), "a leaked C++ symbol")
    noticed(symbol_violations({"lamina_a": "T"}, ["lamina_a"], {"lamina_a"}), "a symbol without version")
    noticed(symbol_violations({"lamina_a@@LAMINA_0": "D"}, ["lamina_a"], {"lamina_a"}), "exported data")
    noticed(symbol_violations(good, ["lamina_a", "lamina_b"], {"lamina_a", "lamina_b"}), "a symbol that vanished")
    noticed(symbol_violations(good, [], set()), "a symbol that is not listed")
    noticed(symbol_violations(good, ["lamina_a"], {"lamina_a", "lamina_b"}), "a declaration without function")
    for name in ("printf", "__printf_chk", "exit", "sigaction", "setlocale", "setenv", "fesetround", "_ZSt4cerr", "pthread_create"):
        noticed(manner_violations({name}), name)
    accepted(manner_violations({"malloc", "memcpy", "fopen", "getenv", "_Znwm"}), "ordinary calls")
    noticed(dynamic_violations("(SONAME) Library soname: [liblamina.so.1]"), "another soname")
    noticed(dynamic_violations(f"(SONAME) x [{SONAME}]\n(NEEDED) x [libgomp.so.1]"), "another library")
    accepted(dynamic_violations(f"(SONAME) x [{SONAME}]\n(NEEDED) x [libc.so.6]"), "libc")
    if declared("LAMINA_API const char* lamina_a(void);\nLAMINA_API lamina_status lamina_b(int x,\n int y);") != {"lamina_a", "lamina_b"}:
        sys.exit("self-check: declarations are not found")


self_check()
library, sanitizer = sys.argv[1:3]
if sanitizer != "none":
    print(f"SKIPPED: a build with b_sanitize={sanitizer} needs and exports what the sanitizer wants")
    sys.exit(SKIPPED)
symbols = exported(library)
listed = (ROOT / "capi" / "symbols.txt").read_text().split()
names = declared((ROOT / "include" / "lamina" / "lamina.h").read_text())
finish(symbol_violations(symbols, listed, names) + manner_violations(undefined(library))
       + dynamic_violations(run("readelf", "-dW", library)) + size_violations(library), len(symbols))
