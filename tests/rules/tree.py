"""The shape of the tree: nothing unexpected at the top, ASCII sources, files of at most 400 lines that say what they are, a README in each folder of src/."""
from rule import ROOT, accepted, files, finish, noticed

LONGEST = 400
# Checked also for how they begin.
SOURCES = {".cpp", ".hpp", ".c", ".h", ".in"}
TOP = {"LICENSE", "README.md", "bench", "bindings", "capi", "include", "meson.build", "meson_options.txt", "src", "tests"}
OTHERS = {".py", ".jl", ".R", ".build", ".txt", ".map"}


def violations(sources):
    found = []
    for path, text in sources:
        for number, line in enumerate(text.split("\n"), 1):
            if not line.isascii():
                found.append(f"{path}:{number}: not ASCII")
            if line.rstrip() != line or "\t" in line:
                found.append(f"{path}:{number}: trailing space or tab")
        # The public header is one file by law.
        if text.count("\n") > LONGEST and not path.startswith("include/"):
            found.append(f"{path}: {text.count(chr(10))} lines, at most {LONGEST}")
        if path.endswith(tuple(SOURCES)) and not text.startswith(("//", "/*")):
            found.append(f"{path}: does not open by saying what it is")
    return found


def folders_without_readme(folders, readmes):
    return [f"src/{folder} has no README.md" for folder in folders if f"src/{folder}/README.md" not in readmes]


def strangers(names):
    """What is neither of the project, nor hidden, nor a build folder or a run's (.gitignore)."""
    return [f"{name}: does not belong at the top" for name in names if name not in TOP and not name.startswith((".", "build", "lamina-run"))]


def self_check():
    noticed(strangers(["left.safetensors"]), "a file that something left behind")
    noticed(violations([("src/a.cpp", "// caf\u00e9\n")]), "a letter outside ASCII")
    noticed(violations([("src/a.cpp", "// a\n" * 401)]), "a long file")
    noticed(violations([("src/a.cpp", "#include <vector>\n")]), "a file that does not say what it is")
    noticed(violations([("src/a.cpp", "// a \n")]), "a trailing space")
    noticed(folders_without_readme(["base"], set()), "a folder without README")
    accepted(violations([("src/a.cpp", "// What it is.\nint a;\n")]), "a plain file")


self_check()
tree = files(["src", "capi", "include", "tests", "bench"], SOURCES) + files(["src", "capi", "include", "tests"], OTHERS)
layers = sorted(path.name for path in (ROOT / "src").iterdir() if path.is_dir())
readmes = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("README.md")}
top = [path.name for path in ROOT.iterdir()]
finish(strangers(top) + violations(tree) + folders_without_readme(layers, readmes), len(tree))
