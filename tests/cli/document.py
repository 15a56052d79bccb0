"""Does --json print one valid JSON document, and nothing else, with all that a script needs to know of the run?"""
import json
import os

from command import SMALL, check, lamina, rows


def no_constant(name):
    raise ValueError(f"{name} is no JSON")


def document(*arguments, code=0):
    done = lamina("run", *arguments, "--json", code=code)
    return json.loads(done.stdout, parse_constant=no_constant), done


found, done = document(*SMALL, "noise=0.25", "--csv", "run.csv")
for key in ["task", "status", "steps", "seconds", "steps_per_second", "final", "options", "parameters", "isa", "threads", "version"]:
    check(key in found, f"the document has no {key}")
check(found["task"] == "in_context_recall" and found["status"] == "finished" and found["steps"] == 20, "task, status, steps")
check(0 < found["seconds"] < 100 and abs(found["steps_per_second"] * found["seconds"] - 20) < 1e-6, "seconds, steps_per_second")
check(found["threads"] == 1 and found["files"] == ["run.csv"], "threads, files")
header, table = rows("run.csv")
check(list(found["final"]) == header, "final has other columns than the CSV")
check([float(x) for x in table[-1]] == list(found["final"].values()), "final is not the last row")
options = found["options"]
check(options["noise"] == 0.25 and options["samples"] == 64, "options that were given")
check(options["vocabulary"] == 60 and options["optimiser"] == "ngd" and options["trigger_weights"] == [], "defaults")
tensors = {tensor["name"]: tensor for tensor in found["parameters"]}
check(tensors["lambda"]["trained"] and len(tensors["lambda"]["values"]) == 5, "lambda in the document")
check(found["final"]["lambda_0"] == tensors["lambda"]["values"][0], "lambda differs from the last row")

# Defaults that depend on other options are told as they held.
found, _ = document(*SMALL, "variant=original", "noise=0", "--quiet")
check(found["options"]["initialisation"] == "gaussian", "initialisation of variant=original")
found, _ = document(*SMALL, "variant=w_free", "--quiet")
check(found["options"]["feed_forward"] == "query", "feed_forward of variant=w_free")
# Infinity and NaN become words and null.
found, _ = document("in_context_recall", "data=population", "prompt_length=inf", "steps=3", "unseen_outputs=0")
check(found["options"]["prompt_length"] == "inf", "prompt_length=inf")
# A diverging run: still a document, a failure told on stderr, exit code 1.
found, done = document(*SMALL, "variant=original", "noise=0", "optimiser=gd", "step_size=1e6", code=1)
check(found["status"] == "diverged" and "diverged" in done.stderr, "a diverged run")
check(any(value is None or isinstance(value, str) for value in found["final"].values()), "no NaN or infinity in the last row?")
# The set that ran is the one that was forced.
found = json.loads(lamina("run", *SMALL, "--json", environment={"LAMINA_ISA": "reference"}).stdout)
check(found["isa"] == "reference", "LAMINA_ISA=reference")
check(lamina("run", *SMALL, "--quiet").stdout == "" and lamina("run", *SMALL, "--quiet").stderr == "", "--quiet is not quiet")
check(os.listdir() == ["run.csv"], f"left behind: {os.listdir()}")
