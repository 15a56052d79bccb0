"""Does Ctrl-C end a run after the step under way, keep what was computed and exit with 130; and does the second one kill?"""
import json
import os
import signal
import subprocess
import time

from command import LAMINA, LONG, check, rows

process = subprocess.Popen([LAMINA, "run", *LONG, "--csv", "run.csv", "--svg", "run.svg", "--save", "run.safetensors", "--json"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
# The first line of progress: the run is under way.
check(process.stderr.readline().startswith("step "), "no line of progress")
process.send_signal(signal.SIGINT)
stdout, stderr = process.communicate(timeout=120)
check(process.returncode == 130, f"exit code {process.returncode}, stderr {stderr!r}")
document = json.loads(stdout)
header, table = rows("run.csv")
check(document["status"] == "stopped" and 0 < document["steps"] < 20000000, "status and steps of the document")
check(len(table) == document["steps"] // 200 + 1, f"{len(table)} rows after {document['steps']} steps")
check(float(table[0][0]) == 0 and float(table[-1][0]) <= document["steps"], "rows of the stopped run")
check(os.path.getsize("run.safetensors") > 0, "the stopped run was not saved")
check(set(os.listdir()) <= {"run.csv", "run.svg", "run.safetensors"}, f"left behind: {os.listdir()}")

# A run whose steps take long: the first signal waits for the step under way, the second kills. Where the first comes just before
# the end of a step the run ends by itself: then once more.
SLOW = ["in_context_recall", "variant=original", "noise=0", "samples=40000", "evaluation_samples=1", "probes=none", "threads=1"]


def killed_by_second_signal():
    slow = subprocess.Popen([LAMINA, "run", *SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check(slow.stderr.readline().startswith("step "), "no line of progress")
    time.sleep(0.15)  # progress is told at the end of a step: now the next one is under way
    slow.send_signal(signal.SIGINT)
    time.sleep(0.05)
    slow.send_signal(signal.SIGINT)
    slow.communicate(timeout=120)
    check(slow.returncode in (-signal.SIGINT, 130), f"after two signals: exit code {slow.returncode}")
    return slow.returncode == -signal.SIGINT


check(any(killed_by_second_signal() for _ in range(5)), "the second signal never killed")
