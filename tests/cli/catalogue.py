"""Do list, describe, theory, --help and --version cover the whole catalogue and say what they should?"""
import json
import pathlib
import re
import string

from command import check, lamina

TASKS = ["in_context_recall", "in_context_convergence", "linear_regression", "mesa_optimisation", "text_recall", "next_token",
         "causal_structure"]
KEYS = """vocabulary triggers outputs prompt_length noise occurrences dimension sampler unseen_outputs feed_forward initial_scale
    attention variant initialisation data samples batch optimiser normalisation step_size steps seed precision threads isa
    record_every""".split()

listed = lamina("list").stdout
names = re.findall(r"^  (\w+) ", listed, re.MULTILINE)
for name in TASKS + ["predicted", "lambda", "mass", "unseen", "bayes_risk", "asymptotic_slope", "sample_floor"]:
    check(name in names, f"lamina list does not list {name}")
check(len(names) == len(set(names)), "lamina list lists a name twice")
for name in names:
    described = lamina("describe", name).stdout
    check(described.startswith(name + ": "), f"describe {name} does not begin with the name")
    check(not [line for line in described.split("\n") if line != line.rstrip()], f"describe {name}: trailing blanks")

described = lamina("describe", "in_context_recall").stdout
for key in KEYS:
    found = re.search(rf"^  {key} = (\S+|\(\w+\)) +\(.+", described, re.MULTILINE)
    check(found, f"describe in_context_recall has no line '{key} = default (bounds)'")
for line in ["vocabulary = 60", "prompt_length = 256", "noise = 0.5", "steps = 400", "optimiser = ngd", "sampler = s1"]:
    check(f"  {line} " in described, f"describe in_context_recall does not say {line}")
for text in ["s1 | s2 | s3", "2505.15009", "econstructed", "Options of the task", "Options of the model", "Options of the trainer",
             "mass_answer", "unseen_excess", "lambda_0 .. lambda_4", "value_scale", "w_previous", "updates made", "soft loss"]:
    check(text in described, f"describe in_context_recall does not contain {text!r}")
check("file = " in lamina("describe", "text_recall").stdout, "describe text_recall has no option file")

# What describe says of the columns of a task is what its own trajectories say.
pathlib.Path("text.txt").write_text((string.ascii_letters + string.digits) * 50)
for task in TASKS:
    described = re.sub(r"\s+", " ", lamina("describe", task).stdout.split("Columns of every trajectory")[1])
    options = re.findall(r"^  (\w+) = ", lamina("describe", task).stdout, re.MULTILINE)
    small = [s for s in ("samples=8", "evaluation_samples=8") if s.split("=")[0] in options] + ["file=text.txt"] * (task == "text_recall")
    for extra in (["probes=default"], ["probes=all"]):
        columns = json.loads(lamina("run", task, *small, "steps=0", *extra, "--json").stdout)["columns"]
        for name, definition in columns.items():
            family = re.sub(r"\d+$", "0 ..", name)
            check(f" {name} {definition} " in described or f" {family} " in described,
                  f"describe {task} does not say of {name}: {definition!r}, but\n{described}")
for wrong in ("cross-entropy", "Bayes risk", "soft loss", "sqrt|Q|"):
    for task in ("in_context_convergence", "linear_regression", "mesa_optimisation"):
        check(wrong not in lamina("describe", task).stdout, f"describe {task} says {wrong}")

check(abs(float(lamina("theory", "bayes_risk", "noise=0.2").stdout.split(" = ")[1]) - 0.500402424) < 1e-9, "bayes_risk of 0.2")
forms = names[names.index("bayes_risk"):names.index("recall_slope")]
for form in forms:
    example = lamina("describe", form).stdout.split("Example: lamina ")[1].split()
    printed = lamina(*example).stdout
    check(re.fullmatch(r"([\w ]+ = \S+\n)+", printed), f"lamina {' '.join(example)} printed {printed!r}")

check("lamina_" not in lamina("--version").stdout and "reference" in lamina("--version").stdout, "--version")
for command in [[], ["list"], ["describe"], ["theory"], ["run"], ["figure"]]:
    text = lamina(*command, "--help").stdout
    check("lamina" in text, f"{command} --help is empty")
    check(command == ["list"] or "Example" in text, f"{command} --help has no example")
