"""Is a sweep the table of its runs, bit for bit, also stopped and resumed? Are quantiles, times and exponents what the table says?"""
import math
import pathlib
import re
import signal
import subprocess
import time

from command import LAMINA, check, lamina, rows

BASE = ["in_context_convergence", "data=fresh", "batch=16", "prompt_length=20", "steps=30", "record_every=3"]


def table(path):
    header, cells = rows(path)
    return [dict(zip(header, row)) for row in cells]


def median(values):
    values = sorted(values)
    return values[len(values) // 2]


lamina("sweep", *BASE, "attention=softmax,relu", "seed=3,5..6", "step_size=0.5,2", "--csv", "all.csv", "--summary", "summary.csv",
       "--quantiles", "0.5", "--column", "loss", "--levels", "0.4,0.3", "--times", "times.csv", "--quiet")
everything = table("all.csv")
check(len(everything) == 12 * 11, f"{len(everything)} rows")
for attention, seed, step_size in [("softmax", "3", "2"), ("relu", "6", "0.5")]:
    lamina("run", *BASE, f"attention={attention}", f"seed={seed}", f"step_size={step_size}", "--csv", "one.csv", "--quiet")
    mine = [row for row in everything if (row["attention"], row["seed"], row["step_size"]) == (attention, seed, step_size)]
    for one, row in zip(table("one.csv"), mine, strict=True):
        check(all(row[key] == one[key] for key in one), f"{attention} {seed} {step_size}: {row} is not {one}")

summary = table("summary.csv")
check(len(summary) == 4 * 11, f"{len(summary)} rows of the summary")
for row in summary:
    values = [float(r["loss"]) for r in everything if all(r[key] == row[key] for key in ("attention", "step_size", "step"))]
    check(row["members"] == "3" and float(row["q0.5"]) == median(values), f"median: {row}")
for row in table("times.csv"):
    column = [r for r in everything if r["member"] == row["member"]]
    level, falls = float(row["level"]), float(column[0]["loss"]) > float(row["level"])
    reached = [float(r["step"]) for r in column if (float(r["loss"]) <= level if falls else float(r["loss"]) >= level)]
    check(math.isnan(float(row["time"])) if not reached else float(row["time"]) == reached[0], f"time: {row}")

# F6 of in-context convergence: 1.94.
out = lamina("sweep", "in_context_convergence", "prompt_length=inf", "record_every=1000000", "probes=none", "features=160,320",
             "crossings=loss=0.1", "loss_target=0.1", "steps=200000", "--column", "loss", "--along", "features", "--exponents", "slope.csv").stdout
check("d log time / d log features" in out, f"no exponent printed: {out}")
check(abs(float(table("slope.csv")[0]["exponent"]) - 1.94) < 0.006, f"the exponent is {table('slope.csv')}")
check("2 reached a target" in out, f"how the runs ended: {out}")

# Stopped, saved, resumed: the bits of an uninterrupted sweep.
LONG = ["in_context_convergence", "data=fresh", "batch=64", "prompt_length=50", "steps=400", "record_every=50", "probes=none", "seed=0..39",
        "step_size=1,2"]
lamina("sweep", *LONG, "--csv", "whole.csv", "--quiet")
process = subprocess.Popen([LAMINA, "sweep", *LONG, "--save", "half.safetensors"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
time.sleep(0.2)
process.send_signal(signal.SIGINT)
process.communicate(timeout=120)
check(process.returncode in (130, 0), f"a stopped sweep ended with exit code {process.returncode}")
lamina("sweep", "--resume", "half.safetensors", "--csv", "resumed.csv", "--quiet")
check(pathlib.Path("whole.csv").read_text() == pathlib.Path("resumed.csv").read_text(), "the resumed sweep differs from the uninterrupted one")

# Out of time: all are in the tables, the exit code says so, and to resume goes on with them for as long again.
lamina("sweep", *LONG, "time_limit=0.002", "--save", "late.safetensors", "--csv", "late.csv", "--quiet", code=124)
check({row["status"] for row in table("late.csv")} == {"5"}, "status of runs out of time")
resumes = 0
while lamina("sweep", "--resume", "late.safetensors", "--save", "late.safetensors", "--csv", "late.csv", "--quiet", code=None).returncode == 124:
    resumes += 1
    check(resumes < 1000, "a sweep that never gets to its end")
check(pathlib.Path("whole.csv").read_text() == pathlib.Path("late.csv").read_text(), "the sweep out of time differs from the uninterrupted one")
check(resumes > 0, "it was never out of time again")

# Columns that only some runs have, and what is no axis here, are no mistakes.
lamina("sweep", *BASE, "features=4", "watched=0;3", "--column", "loss_3", "--over", "seed,batch", "--csv", "some.csv", "--quiet")

# Failures keep the rest; mistakes are named.
done = lamina("sweep", *BASE, "dimension=0,2", "seed=0..2", "--csv", "failed.csv", code=1)
check("3 failed" in done.stdout and "dimension is 2" in done.stderr, f"failures: {done.stdout} {done.stderr}")
check(len(table("failed.csv")) == 3 * 11 + 3, "rows of a sweep with failures")
for arguments, text in [(["stepsize=1,2"], "step_size"), (["seed=3..1"], "3..1"), (["threads=1,2"], "threads"), (["noise=1"], "noise")]:
    done = lamina("sweep", *BASE, *arguments, code=2)
    check(text in done.stderr, f"{arguments}: {done.stderr!r}")
lamina("sweep", "--resume", "half.safetensors", "steps=3", code=2)
check(re.search("0..19", lamina("sweep", "--help").stdout), "the help shows no range")
