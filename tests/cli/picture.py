"""Is the picture an SVG with every curve, a legible legend and axes; and is a run kept where it cannot be drawn?"""
import os
import pathlib
import shutil
import xml.dom.minidom

from command import LAMINA, SMALL, check, lamina, skip


def texts_of(path):
    svg = xml.dom.minidom.parse(path).documentElement
    check(svg.tagName == "svg", f"{path} is no SVG")
    lines = [path.getAttribute("d") for path in svg.getElementsByTagName("path")]
    check(not any("nan" in line.lower() for line in lines), f"{path} holds NaN")
    return [" ".join("".join(n.data for n in part.childNodes if n.nodeType == n.TEXT_NODE) for part in text.getElementsByTagName("tspan")) or
            "".join(n.data for n in text.childNodes if n.nodeType == n.TEXT_NODE) for text in svg.getElementsByTagName("text")]


# Without gnuplot: the rest is written, a clear message, exit code 1.
(pathlib.Path("empty")).mkdir()
done = lamina("run", *SMALL, "--csv", "run.csv", "--svg", "run.svg", code=1, environment={"PATH": os.path.abspath("empty")})
check("gnuplot was not found" in done.stderr and os.path.exists("run.csv"), f"without gnuplot: {done.stderr!r}")
check("finished" in done.stdout and "written: run.csv" in done.stdout and "run.svg" not in done.stdout, "the run without gnuplot")
check(sorted(os.listdir()) == ["empty", "run.csv"], f"left behind: {os.listdir()}")
if not shutil.which("gnuplot"):
    skip("gnuplot was not found; only its absence was tested")

lamina("run", *SMALL, "steps=200", "noise=0.3", "--svg", "full.svg")
texts = "\n".join(texts_of("full.svg"))
for text in ["in_context_recall: full, linear attention, noise 0.3", "step", "excess risk (nats)", "measured", "predicted",
             "slope -0.0447 per step", "floor of the sample", "unseen outputs"]:
    check(text in texts, f"full.svg does not say {text!r}: {texts!r}")
lamina("run", *SMALL, "variant=original", "noise=0", "--svg", "original.svg")
texts = "\n".join(texts_of("original.svg"))
check("unseen outputs" in texts and "predicted" not in texts and "slope" not in texts, f"original.svg says {texts!r}")
# A converged run has excesses of exactly 0, which a log axis cannot show; a run of one row has one point.
lamina("run", *SMALL, "noise=0", "steps=300", "step_size=1", "--svg", "converged.svg")
texts_of("converged.svg")
lamina("run", *SMALL, "steps=0", "--svg", "one.svg")
texts_of("one.svg")
name = "it's \"odd\" $(touch shell) `touch shell`;.svg"
lamina("run", *SMALL, "--svg", name)
check(os.path.exists(name) and not os.path.exists("shell"), "an odd file name")
