"""What the scripts share: running the command line in an empty folder, and checks that say what they saw."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SKIPPED = 77  # Meson's exit status for a test that was skipped
LAMINA = str(pathlib.Path(sys.argv[1]).resolve())
FOLDER = tempfile.TemporaryDirectory()
os.chdir(FOLDER.name)

# A run that takes milliseconds.
SMALL = ["in_context_recall", "prompt_length=32", "samples=64", "evaluation_samples=64", "steps=20", "threads=1"]
# A run that lasts as long as one likes: many steps, few rows.
LONG = ["in_context_recall", "prompt_length=64", "samples=512", "evaluation_samples=64", "steps=20000000", "step_size=1e-9",
        "record_every=200", "probes=lambda", "threads=1"]


def lamina(*arguments, code=0, environment=None, as_written=False, **options):
    """Runs `lamina arguments...`, checks the exit code (None: any), returns the finished process with text in stdout and stderr.

    A setting replaces an earlier one of the same key, which the program itself refuses; not if as_written."""
    if not as_written:
        keys = [a.split("=")[0] if re.match(r"\w+=", a) else None for a in arguments]
        arguments = [a for i, a in enumerate(arguments) if keys[i] is None or keys[i] not in keys[i + 1:]]
    done = subprocess.run([LAMINA, *arguments], capture_output=True, text=True, timeout=250,
                          env={**os.environ, **(environment or {})}, **options)
    check(code is None or done.returncode == code, f"lamina {' '.join(arguments)}: exit code {done.returncode}, expected {code}\n"
                                   f"stdout: {done.stdout[-2000:]}\nstderr: {done.stderr[-2000:]}")
    return done


def check(condition, message):
    if not condition:
        sys.exit(f"FAILED: {message}")


def rows(path):
    """The header and the rows, as text, of a CSV file."""
    lines = pathlib.Path(path).read_text().split("\n")
    check(lines[-1] == "", f"{path} does not end with a line end")
    table = [line.split(",") for line in lines[:-1]]
    check(all(len(row) == len(table[0]) for row in table), f"{path}: rows of different lengths")
    return table[0], table[1:]


def skip(why):
    print("SKIPPED:", why)
    sys.exit(SKIPPED)
