"""lamina.h compiles alone, twice included, without a warning: as C11 and as C++, with each compiler that is here; and it asks for
nothing but stddef.h and stdint.h."""
import re
import shutil
import subprocess
import sys

from rule import ROOT, finish, noticed

HEADER = (ROOT / "include" / "lamina" / "lamina.h").read_text()
STRICT = ["-fsyntax-only", "-pedantic", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wundef", "-Werror"]
C = ["-x", "c", "-std=c11", "-Wstrict-prototypes", "-Wc++-compat"]
COMPILERS = [("gcc", C), ("clang", C + ["-Weverything", "-Wno-padded"]), ("g++", ["-x", "c++", "-std=c++11", "-Wold-style-cast"]),
             ("clang++", ["-x", "c++", "-std=c++11"]), ("g++", ["-x", "c++", "-std=c++20"])]


def violations(header, compiler, flags):
    # The guard must work, and a translation unit must hold a declaration of its own.
    text = header + header + "\nint lamina_header_is_complete(void);\n"
    result = subprocess.run([compiler, *flags, *STRICT, "-"], input=text, capture_output=True, text=True)
    return [f"{compiler} {' '.join(flags)}:\n{result.stderr}"] if result.returncode else []


def include_violations(header):
    return [f"lamina.h includes {name}" for name in re.findall(r'#\s*include\s*[<"]([^>"]+)', header)
            if name not in ("stddef.h", "stdint.h")]


checked, found = 0, include_violations(HEADER)
noticed(include_violations("#include <stdbool.h>\n"), "another include")
for compiler, flags in COMPILERS:
    if not shutil.which(compiler):
        print(f"SKIPPED: {compiler} is not installed")
        continue
    wrongs = ["lamina_status lamina_f(lamina_unheard_of x);", "lamina_status lamina_f(int x)", "static int lamina_x = 2.5;"]
    for wrong in wrongs + (["lamina_status lamina_f();", "lamina_status lamina_f(bool x);"] if "c" in flags else []):
        noticed(violations(HEADER + wrong, compiler, flags), f"{compiler}: {wrong}")
    found += violations(HEADER, compiler, flags)
    checked += 1
if not checked:
    sys.exit("no compiler was found")
finish(found, checked)
