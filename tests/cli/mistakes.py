"""Is every mistake answered by its exit code and one clear line on stderr, and nothing on stdout or on the disk?"""
import os

from command import SMALL, check, lamina


def mistake(code, *arguments, says):
    done = lamina(*arguments, code=code)
    check(done.stdout == "", f"lamina {arguments} printed on stdout: {done.stdout!r}")
    check(done.stderr.startswith("lamina: ") and done.stderr.count("\n") == 1, f"not one line: {done.stderr!r}")
    for text in says:
        check(text in done.stderr, f"lamina {arguments} does not say {text!r}: {done.stderr!r}")
    check(os.listdir() == [], f"left behind: {os.listdir()}")


mistake(2, says=["--help"])
mistake(2, "runn", says=["runn"])
mistake(2, "run", says=["NAME"])
mistake(2, "run", "in_context_recal", says=["in_context_recal\"", "text_recall", "did you mean in_context_recall?"])
mistake(2, "run", *SMALL, "nois=0.2", says=["\"nois\" is not an option", "did you mean noise?"])
mistake(2, "run", *SMALL, "zzzzzzzzzzzz=1", says=["zzzzzzzzzzzz", "must be one of", "noise"])
mistake(2, "run", *SMALL, "noise", says=["\"noise\"", "key=value"])
mistake(2, "run", *SMALL, "noise=2", says=["noise is \"2\"", "in [0, "])
mistake(2, "run", *SMALL, "noise=much", says=["noise is \"much\"", "a number"])
mistake(2, "run", *SMALL, "samples=1.5", says=["samples", "1.5", "integer"])
mistake(2, "run", *SMALL, "variant=ful", says=["variant", "\"ful\"", "w_free"])
mistake(2, "run", *SMALL, "file=x", says=["file", "not an option of task in_context_recall"])
mistake(2, "run", *SMALL, "prompt_length=inf", "data=fixed", says=["prompt_length is inf", "data=population"])
mistake(2, "run", *SMALL, "variant=w_free", "data=population", says=["data=fresh"])
mistake(2, "run", *SMALL, "isa=sse9", says=["sse9", "reference"])
mistake(2, "run", *SMALL, "--cvs", "a.csv", says=["--cvs"])
mistake(2, "run", *SMALL, "--csv", says=["--csv"])
mistake(1, "run", *SMALL, "--csv", "no/such/folder/a.csv", says=["no/such/folder/a.csv", "No such file"])
mistake(1, "run", *SMALL, "--svg", "/proc/a.svg", says=["/proc/a.svg"])
mistake(1, "run", *SMALL, "--save", "/", says=["\"/\"", "folder"])
mistake(1, "run", "in_context_recall", "--resume", "no.safetensors", says=["no.safetensors"])
mistake(2, "run", "text_recall", says=["file"])
mistake(1, "run", "text_recall", "file=no.txt", says=["no.txt"])
mistake(2, "describe", "bayes_rsk", says=["did you mean bayes_risk?"])
mistake(2, "theory", "bayes_rsk", says=["did you mean bayes_risk?"])
mistake(2, "theory", "binary_entropy", "--arguments", "0.5,1", says=["alpha -> h", "2 arguments"])
mistake(2, "theory", "binary_entropy", "--arguments", "x", says=["\"x\""])
mistake(2, "theory", "binary_entropy", "noise=0.5", "--arguments", "0.5", says=["reads no task"])
mistake(2, "theory", "binary_entropy", "--arguments", "1.5", says=["alpha is 1.5", "[0, 1]"])
# An unknown forced instruction set fails the first create, and is never replaced silently.
done = lamina("run", *SMALL, code=2, environment={"LAMINA_ISA": "sse9"})
check("LAMINA_ISA" in done.stderr and done.stdout == "", f"LAMINA_ISA=sse9: {done.stderr!r}")
