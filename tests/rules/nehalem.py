"""The kernel tests on a CPU without AVX and FMA, by qemu: the reference must be the only set offered, every test of it must pass,
and nothing may meet an illegal instruction. Argument: the program of the kernel tests."""
import os
import re
import shutil
import subprocess
import sys

from rule import SKIPPED

QEMU = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
if not QEMU:
    print("SKIPPED: qemu-x86_64 is not installed")
    sys.exit(SKIPPED)

environment = {key: value for key, value in os.environ.items() if key not in ("LAMINA_ISA", "GTEST_FILTER")}
environment["LAMINA_EXPECTED_ISA"] = "reference"


def run(*arguments):
    done = subprocess.run([QEMU, "-cpu", "Nehalem", sys.argv[1], *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"exit status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-1000:]}")
    return done.stdout


# An emulated CPU computes fma in software, so the largest products are left to the real one.
sets = set(re.findall(r"^  \w+/(\w+)", run("--gtest_list_tests"), re.MULTILINE))
if sets != {"reference"}:
    sys.exit(f"sets offered on Nehalem: {sorted(sets)}, expected the reference alone")
ran = run("--gtest_filter=-*TrainingSizes*")
print(re.search(r"\[  PASSED  \].*", ran).group(0))
