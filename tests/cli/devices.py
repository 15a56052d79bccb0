"""Is a full disk, a device or a named pipe answered as it should be, with nothing half written and no device replaced?"""
import os
import resource
import shutil
import signal
import stat
import subprocess
import threading

from command import LAMINA, SMALL, check, lamina

# A disk that is full: one line that names the file, exit code 1, and the other results are kept.
for option in ("--csv", "--svg"):
    done = lamina("run", *SMALL, option, "/dev/full", code=1)
    check("/dev/full" in done.stderr and "No space left" in done.stderr, f"{option} /dev/full: {done.stderr!r}")
    check("finished" in done.stdout, f"{option} /dev/full lost the table: {done.stdout!r}")
for arguments in (["run", *SMALL, "--json"], ["run", *SMALL], ["list"], ["describe", "in_context_recall"], ["theory", "bayes_risk"],
                  ["--version"]):
    with open("/dev/full", "w") as full:
        done = subprocess.run([LAMINA, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=250)
    check(done.returncode == 1 and "standard output" in done.stderr and "No space left" in done.stderr,
          f"{arguments} > /dev/full: exit code {done.returncode}, {done.stderr!r}")


# A limit on the size of files stands in for a disk that fills up in the middle; what was there before is kept whole.
def small_files():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))


for option, name in (("--csv", "run.csv"), ("--save", "run.safetensors")):
    lamina("run", *SMALL, "steps=2", "record_every=2", "probes=none", "--csv", "tiny.csv")
    os.replace("tiny.csv", name)
    before = open(name, "rb").read()
    done = lamina("run", *SMALL, option, name, code=1, preexec_fn=small_files)
    check(name in done.stderr and "too large" in done.stderr, f"{option} on a full disk: {done.stderr!r}")
    check(open(name, "rb").read() == before, f"{option} on a full disk changed the earlier file")
    os.remove(name)
check(os.listdir() == [], f"left behind: {os.listdir()}")

# Devices stay devices, links stay links.
for device in ("/dev/null", "/dev/full"):
    check(stat.S_ISCHR(os.stat(device).st_mode), f"{device} is a device no more")
lamina("run", *SMALL, "--csv", "/dev/null", "--svg", "/dev/null")
check(stat.S_ISCHR(os.stat("/dev/null").st_mode), "/dev/null is a device no more")
lamina("run", *SMALL, "--csv", "plain.csv")
done = lamina("run", *SMALL, "--quiet", "--csv", "/dev/stdout")
check(done.stdout == open("plain.csv").read(), "--csv /dev/stdout is not the table")

# "-" is the standard output: the file and nothing else is on it, whatever else is written, and progress stays on stderr.
done = lamina("run", *SMALL, "--csv", "-", "--save", "also.safetensors")
check(done.stdout == open("plain.csv").read() and os.path.exists("also.safetensors"), f"run --csv -: {done.stdout!r}")
check("step 20/20" in done.stderr, f"run --csv - hid its progress: {done.stderr!r}")
if shutil.which("gnuplot"):
    picture = lamina("run", *SMALL, "--svg", "-").stdout
    check(picture.startswith("<?xml") and picture.rstrip().endswith("</svg>"), f"run --svg -: {picture[:300]!r}")
SWEEP = ["sweep", *SMALL, "seed=1,2,3", "step_size=0.05,0.1", "crossings=excess=2", "--along", "step_size"]
for option in ("--csv", "--summary", "--times", "--exponents"):
    lamina(*SWEEP, option, "table.csv")
    done = lamina(*SWEEP, option, "-")
    check(done.stdout == open("table.csv").read() and done.stdout, f"sweep {option} -: {done.stdout!r}")
    check("run 6/6" in done.stderr, f"sweep {option} - hid its progress: {done.stderr!r}")
SLOPE = ["figure", "recall_slope", "steps=10", "samples=16", "prompt_length=16"]
lamina(*SLOPE, "--csv", "slope.csv")
check(lamina(*SLOPE, "--csv", "-").stdout == open("slope.csv").read(), "figure --csv - is not the table")
with open("/dev/full", "w") as full:
    done = subprocess.run([LAMINA, "run", *SMALL, "--csv", "-"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=250)
check(done.returncode == 1 and "standard output" in done.stderr and "No space left" in done.stderr, f"--csv - > /dev/full: {done.stderr!r}")
check(not os.path.exists("-"), "a file named - was written")

open("target.csv", "w").close()
os.symlink("target.csv", "link.csv")
lamina("run", *SMALL, "--csv", "link.csv")
check(os.path.islink("link.csv") and open("target.csv").read() == open("plain.csv").read(), "a link was not followed")

# Without standard streams the files are right all the same, and what cannot be printed is an error.
for closed in ("<&- >&- 2>&-", ">&-"):
    done = subprocess.run(["sh", "-c", f'exec "$0" "$@" {closed}', LAMINA, "run", *SMALL, "--csv", "closed.csv"], timeout=250)
    check(done.returncode == 1 and open("closed.csv").read() == open("plain.csv").read(), f"{closed}: exit code {done.returncode}")

# A pipe gets the whole table if it is read, and is an error, not a wait, if nobody reads it.
os.mkfifo("pipe")
done = lamina("run", *SMALL, "--csv", "pipe", code=1)
check("pipe" in done.stderr, f"a pipe that nobody reads: {done.stderr!r}")
for command in (["run", "in_context_recall", "--resume", "pipe"], ["run", "text_recall", "file=pipe"]):
    check("regular file" in lamina(*command, code=1).stderr, f"{command} does not refuse a pipe")
read = []
reader = threading.Thread(target=lambda: read.append(open("pipe").read()))
reader.start()
lamina("run", *SMALL, "--csv", "pipe")
reader.join(60)
check(read == [open("plain.csv").read()], "the pipe did not get the table")

# What a run says of its threads is what it can have had.
here = len(os.sched_getaffinity(0))
for asked in (1, here, 1000):
    text = lamina("run", *SMALL, f"threads={asked}").stdout
    used = min(asked, here)
    check(f" {used} thread" in text, f"threads={asked} on {here} processors: {text!r}")
