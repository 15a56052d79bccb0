"""Every function of lamina.h is called by a test of the C interface."""
import re

from rule import ROOT, accepted, files, finish, noticed


def declared(header):
    return re.findall(r"^LAMINA_API\b[^;(]*?\b(\w+)\(", header, re.MULTILINE)


def violations(functions, text):
    return [f"no test calls {name}" for name in functions if not re.search(rf"\b{name}\(", text)]


functions = declared((ROOT / "include" / "lamina" / "lamina.h").read_text())
noticed(violations(["lamina_a"], "lamina_ab(1)"), "a function without test")
accepted(violations(["lamina_a"], "x = lamina_a(1)"), "a function with test")
tests = "\n".join(text for _, text in files(["tests/capi", "tests/attention"], {".c", ".cpp", ".hpp"}))
finish(violations(functions, tests), len(functions))
