"""Does every figure of the gallery run, say what it is after, and draw its curves beside those of theory? Small sizes."""
import csv
import os
import shutil
import xml.dom.minidom

from command import check, lamina, skip

# Settings that make each run small, and names that its picture must show (without sub- and superscripts).
FIGURES = {
    "recall_slope": (["steps=60", "samples=64", "prompt_length=32"], ["l2, closed form", "sign, run", "slope -0.0447 per step"]),
    "recall_noise": (["steps=40", "samples=64", "prompt_length=32"], ["noise known, closed form", "run", "KL("]),
    "recall_roles": (["steps=40", "samples=64", "prompt_length=32"], ["attention alone predicts the answer", "feed-forward alone", "predicted switch"]),
    "recall_attention": (["steps=20", "free_steps=20", "samples=64", "prompt_length=32"], ["closed form at the", "on the answer", "key: another token"]),
    "recall_unseen": (["variant=full,uv_free", "steps=20", "samples=64", "prompt_length=32", "evaluation_samples=64"], ["all matrices tied (full)", "U and V free", "a uniform guess"]),
    "convergence_balanced": (["features=6", "prompt_length=20", "steps=200"], ["gradient flow, closed form", "N = 20", "infimum, N = 20", "log K"]),
    "convergence_phases": (["features=20", "steps=2000", "record_every=20"], ["switch", "Attn = 1/2", "phase II", "phase IV", "to the dominant feature", "dominant, gradient flow"]),
    "convergence_time_features": (["features=10,20", "losses=0.1,0.01"], ["= 0.1, law", "= 0.01, run", "number of features K"]),
    "convergence_time_loss": (["features=5,10", "loss_to=1e-3"], ["K = 5, law", "K = 10, run", "), K = 5"]),
    "convergence_time_rare": (["features=10", "loss_to=1e-2"], ["dominant, law", "rare, K = 10", "p"]),
    "convergence_floors": (["features=5", "prompt_length=5,10,20", "steps=2000", "linear_steps=500"], ["softmax, K = 5", "linear, K = 5", "end of a run"]),
    "convergence_attention": (["features=5", "prompt_length=10", "steps=200"], ["softmax", "linear", "relu", "infimum, softmax", "infimum, linear"]),
    "convergence_zipf": (["features=4", "losses=0.1,0.01", "steps=2000"], ["= 0.01, run", "rank k"]),
    "convergence_sampled": (["batch=16,64", "seed=1,2", "steps=20"], ["dominant, population", "rare, sampled", "over 2 seeds", "prompts a step B"]),
    "convergence_fixed_set": (["samples=10,40", "steps=50"], ["M = 40", "fixed set", "infimum on the population"]),
    "convergence_mask": (["features=5", "prompt_length=20,30", "steps=100"], ["query masked, infimum", "query attends to itself, end of a run"]),
    "convergence_functions": (["features=4", "steps=2000"], ["labels times 2", "correlation 0.5", "to its twin", "half of the pair", "B"]),
    "mesa_steps": (["dimension=2", "prompt_length=10", "steps=20"], ["gaussian, theory", "sparse, closed form", "ones, run"]),
    "causal_stages": (["graph=chain,icl", "prompt_length=8", "steps=20", "stage_one_steps=10", "evaluation_samples=50", "batch=32"],
                      ["chain, least of all", "others, by conserved sums", "icl, posterior mean", "second stage"]),
    "causal_transformer": (["graph=icl,chain", "vocabulary=3", "prompt_length=5", "steps=40", "record_every=10", "evaluation_samples=50", "batch=32"],
                           ["icl, least of all", "others, by conserved sums", "chain, posterior mean", "a uniform guess", "their block of W"]),
    "regression_flow": (["steps=20", "matrix_steps=50"], ["N = 2, closed form", "N = 100, run", "U on eigenvector 3, limit"]),
    "regression_risk": (["test_samples=200", "steps=100", "test_length=5,20", "factors=0.5,1"], ["trained at N = 20, closed form", "of the query alone, sampled"]),
    "next_token_stages": (["samples=64", "steps=200"], ["collocations, closed form", "second stage", "slope in the limit", "1 / steps of the second stage"]),
}


def names():
    lines = lamina("list").stdout.split("\nFigures")[1].split("\n")[1:]
    return [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]


def points(path):
    """curve -> kind, x, y of each row"""
    with open(path, newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    check(table[0] == ["panel", "curve", "kind", "x", "y", "low", "high"], f"{path} has columns {table[0]}")
    found = {}
    for panel, curve, kind, x, y, low, high in table[1:]:
        check(kind in ("measured", "predicted", "limit"), f"{path}: kind {kind}")
        check(low == high == "" or float(low) <= float(y) <= float(high), f"{path}: a bar from {low} to {high} at {y}")
        found.setdefault((panel, curve), (kind, []))[1].append((float(x), float(y)))
    return found


check(sorted(names()) == sorted(FIGURES), f"the gallery is {names()}")
for name in FIGURES:
    text = lamina("describe", name).stdout
    check("arXiv 2" in text and "Derived:" in text, f"{name} does not say its source: {text}")
    lamina("figure", name, *FIGURES[name][0], "--csv", f"{name}.csv", "--quiet")
    found = points(f"{name}.csv")
    check(any(kind == "measured" for kind, _ in found.values()), f"{name} measures nothing")
    check(any(kind != "measured" for kind, _ in found.values()), f"{name} draws no closed form")

# A prediction lies where the runs are: the steps of F5, and the law within 2 % of them.
times = {curve: dict(rows) for (_, curve), (_, rows) in points("convergence_time_features.csv").items()}
run = next(rows for curve, rows in times.items() if curve.endswith("= 0.01, run"))
law = next(rows for curve, rows in times.items() if curve.endswith("= 0.01, law"))
check(run == {10: 493, 20: 1288}, f"steps to 0.01: {run}")
check(all(abs(law[K] / run[K] - 1) < 0.02 for K in run), f"law {law} beside {run}")

# Classes of functions train on their laws, twins share the attention.
attention = {curve: [y for _, y in rows] for (panel, curve), (_, rows) in points("convergence_functions.csv").items() if panel == "3"}
own, twin, half = attention["to itself"], attention["to its twin"], attention["half of the pair\u2019s, gradient flow"]
check(len(own) > 50 and all(abs(a / b - 1) < 1e-12 for a, b in zip(own, twin)), f"twins: {own} beside {twin}")
check(all(abs(a / b - 1) < 0.02 for a, b in zip(own[-len(half):], half)), f"twins: {own} beside {half}")
for panel in ("1", "2"):
    drawn = [[y for _, y in rows] for (p, _), (_, rows) in points("convergence_functions.csv").items() if p == panel]
    check(len(drawn) > 3, f"panel {panel} has {len(drawn)} curves")

# So do sampled risks, within what 200 prompts leave.
risks = {curve: dict(rows) for (panel, curve), (_, rows) in points("regression_risk.csv").items() if panel == "1"}
law, sampled = risks["trained at N = 100, closed form"], risks["trained at N = 100, sampled"]
check(all(0.6 < sampled[M] / law[M] < 1.6 for M in sampled), f"risks {sampled} beside {law}")

done = lamina("figure", "recall_slop", code=2)
check("did you mean recall_slope?" in done.stderr, f"a misspelt figure: {done.stderr}")
done = lamina("figure", "recall_slope", "stepz=3", code=2)
check("stepz" in done.stderr, f"an unknown setting: {done.stderr}")
if not shutil.which("gnuplot"):
    skip("gnuplot was not found; only tables were tested")
for name, (settings, wanted) in FIGURES.items():
    done = lamina("figure", name, *settings)
    check(done.stdout == f"written: {name}.svg\n", f"{name}: {done.stdout}")
    svg = xml.dom.minidom.parse(f"{name}.svg").documentElement
    lines = svg.getElementsByTagName("path")
    check(len(lines) > 10 and not any("nan" in line.getAttribute("d").lower() for line in lines), f"{name}.svg holds no curves, or NaN")
    text = "".join(node.data for part in svg.getElementsByTagName("tspan") + svg.getElementsByTagName("text")
                   for node in part.childNodes if node.nodeType == node.TEXT_NODE)
    for want in wanted:
        check(want in text, f"{name}.svg does not say {want!r}: {text!r}")
check(len([f for f in os.listdir() if f.endswith(".svg")]) == len(FIGURES), f"left behind: {os.listdir()}")
