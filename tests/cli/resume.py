"""Is a run that was stopped, saved and resumed equal, bit for bit, to one that was not?"""
import json
import pathlib
import signal
import subprocess

from command import LAMINA, SMALL, check, lamina, rows

# Fresh data and Adam: both the stream of samples and the optimiser's state must go on where they were.
RUN = ["in_context_recall", "variant=w_free", "attention=softmax", "prompt_length=64", "data=fresh", "batch=256",
       "probes=mass,w_classes", "optimiser=adam", "step_size=0.01", "threads=1", "evaluation_samples=16"]


def stopped_after_first_line(*arguments):
    process = subprocess.Popen([LAMINA, "run", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check(process.stderr.readline().startswith("step "), "no line of progress")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    return process.returncode


# As many steps as fit into about two and a half seconds here.
rate = json.loads(lamina("run", *RUN, "steps=100", "--json").stdout)["steps_per_second"]
steps = f"steps={max(50, int(2.5 * rate))}"
code = stopped_after_first_line(*RUN, steps, "--save", "half.safetensors", "--csv", "half.csv")
check(code == 130, f"the first half ended with exit code {code}")
done = lamina("run", "in_context_recall", "--resume", "half.safetensors", "--csv", "resumed.csv", "--save", "whole.safetensors")
check("of them now" in done.stdout, f"the summary does not say that the run was resumed: {done.stdout}")
lamina("run", *RUN, steps, "--csv", "whole.csv")
half, resumed, whole = (pathlib.Path(name).read_text() for name in ["half.csv", "resumed.csv", "whole.csv"])
check(2 < len(half.split("\n")) < len(whole.split("\n")), "the first half is no half")
check(whole.startswith(half), "the first half differs from the uninterrupted run")
check(resumed == whole, "the resumed run differs from the uninterrupted run")

# Settings may be repeated, in any spelling of the same value; others are mistakes, as is another task.
lamina("run", *SMALL, "noise=0.25", "--save", "small.safetensors", "--csv", "small.csv")
lamina("run", "in_context_recall", "noise=0.250", "steps=2e1", "--resume", "small.safetensors", "--csv", "again.csv")
check(rows("again.csv") == rows("small.csv"), "a finished run changed when it was resumed")
done = lamina("run", "in_context_recall", "noise=0.5", "--resume", "small.safetensors", code=2)
check("noise is 0.5" in done.stderr and "0.25" in done.stderr, f"another noise: {done.stderr!r}")
done = lamina("run", "text_recall", "--resume", "small.safetensors", code=2)
check("in_context_recall" in done.stderr, f"another task: {done.stderr!r}")
pathlib.Path("broken.safetensors").write_bytes(pathlib.Path("small.safetensors").read_bytes()[:100])
done = lamina("run", "in_context_recall", "--resume", "broken.safetensors", code=1)
check("broken.safetensors" in done.stderr, f"a broken file: {done.stderr!r}")
