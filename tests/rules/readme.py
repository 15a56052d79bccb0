"""The README keeps its word: the C program in it compiles without a warning and trains, its commands and folders exist.

usage: readme.py LIBRARY COMPILER
"""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def program(text):
    blocks = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 1, f"README.md has {len(blocks)} C programs, must have 1"
    assert blocks[0].count("\n") <= 26, "the C program of README.md has grown beyond 25 lines"
    return blocks[0]


def excesses(source, library, compiler):
    with tempfile.TemporaryDirectory() as folder:
        file, binary = os.path.join(folder, "program.c"), os.path.join(folder, "program")
        with open(file, "w", encoding="ascii") as out:
            out.write(source)
        subprocess.run([compiler, "-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", file, "-o", binary, f"-I{ROOT}/include", library,
                        f"-Wl,-rpath,{os.path.dirname(os.path.realpath(library))}"], check=True)
        out = subprocess.run([binary], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [float(number) for number in re.findall(r"([0-9.e+-]+) (?:at the start|after 400 steps)", out)]


def missing(text):
    paths = re.findall(r"(?<![\w/])(?:bindings|src|tests|\.ci)/[\w./]+", text)
    folders = re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE)
    return [path for path in paths + folders if not os.path.exists(os.path.join(ROOT, path.rstrip(".")))]


def main():
    library, compiler = sys.argv[1:3]
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        text = file.read()
    assert missing("see bindings/nowhere/at_all") == ["bindings/nowhere/at_all"], "the check of paths sees nothing"
    assert not missing(text), f"README.md names what is not there: {missing(text)}"
    first, last = excesses(program(text), library, compiler)
    assert first > 3 and 0 < last < 1e-2, f"the program of README.md printed {first} and {last}"


if __name__ == "__main__":
    main()
