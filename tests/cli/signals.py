"""Does a run or a sweep outlive its signals: TERM and HUP as Ctrl-C with all that was computed; kill -9 with what was saved last?"""
import json
import os
import pathlib
import signal
import subprocess
import time

from command import LAMINA, LONG, check, lamina, rows

SWEEP = ["in_context_convergence", "data=fresh", "batch=64", "prompt_length=50", "record_every=50", "probes=none", "seed=0..5",
         "step_size=1,2"]
RUN = ["in_context_convergence", "data=fresh", "batch=64", "prompt_length=50", "record_every=50", "optimiser=adam", "step_size=0.01", "threads=1"]


def start(*arguments, **options):
    return subprocess.Popen([LAMINA, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_for(condition, process, what):
    end = time.monotonic() + 120
    while not condition():
        check(process.poll() is None, f"{what}: ended with exit code {process.returncode}")
        check(time.monotonic() < end, f"{what}: nothing in two minutes")
        time.sleep(0.01)


def text(path):
    return pathlib.Path(path).read_text()


def clear():
    for name in os.listdir():
        os.unlink(name)


# Whoever began this may have signals ignored (nohup, a job in the background), and children inherit that.
STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
for number in STOPS:
    signal.signal(number, signal.SIG_DFL)

# As many steps as take about three seconds here.
rate = json.loads(lamina("run", *RUN, "steps=400", "--json").stdout)["steps_per_second"]
run_steps, sweep_steps = f"steps={int(3 * rate)}", f"steps={int(rate / 2)}"
lamina("run", *RUN, run_steps, "--csv", "run_whole.csv", "--quiet")
lamina("sweep", *SWEEP, sweep_steps, "--csv", "sweep_whole.csv", "--quiet")
whole = {name: text(f"{name}_whole.csv") for name in ("run", "sweep")}
clear()

# TERM and HUP end as Ctrl-C does: what was computed is written, the exit code is 128 + signal, and the rest can be resumed.
for number in STOPS:
    process = start("run", *RUN, run_steps, "--save", "run.st", "--csv", "part.csv")
    check(process.stderr.readline().startswith("step "), "no line of progress")
    process.send_signal(number)
    process.communicate(timeout=120)
    check(process.returncode == 128 + number, f"run, {number.name}: exit code {process.returncode}")
    check(whole["run"].startswith(text("part.csv")) and len(text("part.csv")) < len(whole["run"]), f"run, {number.name}: rows of the stopped run")
    lamina("run", RUN[0], "--resume", "run.st", "--csv", "resumed.csv", "--quiet")
    check(text("resumed.csv") == whole["run"], f"run, {number.name}: the resumed run differs from the uninterrupted one")
    clear()
    process = start("sweep", *SWEEP, sweep_steps, "--save", "sweep.st", "--csv", "part.csv")
    process.stderr.readline()
    process.send_signal(number)
    process.communicate(timeout=120)
    check(process.returncode == 128 + number, f"sweep, {number.name}: exit code {process.returncode}")
    check({"part.csv", "sweep.st"} <= set(os.listdir()), f"sweep, {number.name}: files {os.listdir()}")
    check(len(text("part.csv")) < len(whole["sweep"]), f"sweep, {number.name}: it was not stopped early")
    lamina("sweep", "--resume", "sweep.st", "--csv", "resumed.csv", "--quiet")
    check(text("resumed.csv") == whole["sweep"], f"sweep, {number.name}: the resumed sweep differs from the uninterrupted one")
    clear()

# A signal that the parent made the program ignore, as nohup does with HUP, is ignored.
process = start("run", *LONG, "--save", "run.st", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
check(process.stderr.readline().startswith("step "), "no line of progress")
process.send_signal(signal.SIGHUP)
time.sleep(0.3)
check(process.poll() is None, f"nohup: exit code {process.returncode}")
process.send_signal(signal.SIGTERM)
process.communicate(timeout=120)
check(process.returncode == 128 + signal.SIGTERM, f"nohup, then TERM: exit code {process.returncode}")
clear()

# kill -9: the file of the last save is there, whole, again and again; what goes on from it has the bits of the uninterrupted one.
for command, first, again in [("run", [*RUN, run_steps], [RUN[0]]), ("sweep", [*SWEEP, sweep_steps], [])]:
    kills = 0
    arguments = [command, *first]
    while True:
        before = os.stat("save.st").st_ino if os.path.exists("save.st") else None
        process = start(*arguments, "--save", "save.st", "--save-every", "0.2", "--csv", "end.csv", "--quiet")

        def saved_or_ended():
            return process.poll() is not None or (os.path.exists("save.st") and os.stat("save.st").st_ino != before)

        while not saved_or_ended():
            time.sleep(0.01)
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=120)
        if process.returncode == 0:
            break
        check(process.returncode == -signal.SIGKILL, f"{command}: exit code {process.returncode}")
        kills += 1
        check(kills < 100, f"{command}: {kills} kills, and no progress")
        arguments = [command, *again, "--resume", "save.st"]
    check(kills >= 2, f"{command}: killed {kills} times only")
    check(text("end.csv") == whole[command], f"{command}: after {kills} kills the table differs from the uninterrupted one")
    lamina(command, *again, "--resume", "save.st", "--csv", "again.csv", "--quiet")
    check(text("again.csv") == whole[command], f"{command}: the file of the end is not the end")
    print(f"{command}: {kills} kills")
    clear()

# A save in the course of a run that fails is told once, and the run goes on.
os.mkdir("folder")
process = start("run", *LONG, "--save", "folder/run.st", "--save-every", "0.1", "--csv", "end.csv", "--quiet")
wait_for(lambda: os.path.exists("folder/run.st"), process, "the first save")
os.rename("folder", "moved")
told = process.stderr.readline()
check("folder/run.st" in told and "the run goes on" in told, f"a folder that went: {told!r}")
time.sleep(0.5)
process.send_signal(signal.SIGTERM)
_, errors = process.communicate(timeout=120)
check(process.returncode == 1 and "folder/run.st" in errors and "goes on" not in errors, f"a folder that went: exit code {process.returncode}, {errors!r}")
check(len(rows("end.csv")[1]) > 1, "a folder that went: the table")

for value in ("0", "-1", "soon", "nan"):
    done = lamina("run", *RUN, "--save", "x", "--save-every", value, code=2)
    check("--save-every is \"" + value + "\"" in done.stderr and "positive" in done.stderr, f"--save-every {value}: {done.stderr!r}")
for command in ("run", "sweep"):
    done = lamina(command, *RUN, "--save-every", "1", code=2)
    check("--save-every" in done.stderr and "--save" in done.stderr, f"--save-every without --save: {done.stderr!r}")
