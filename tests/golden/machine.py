"""Runs a golden test as on another machine: `nehalem` under qemu, a CPU without AVX; `plain_libm` with the C library's own
choice of FMA and AVX2 variants switched off. Arguments: which, the program golden, its file, b_sanitize of the build."""
import os
import platform
import shutil
import subprocess
import sys

SKIPPED = 77  # Meson's exit status for a test that was skipped


def skip(why):
    print("SKIPPED:", why)
    sys.exit(SKIPPED)


machine, program, golden, sanitize = sys.argv[1:]
environment = {key: value for key, value in os.environ.items() if key != "LAMINA_ISA"}
if platform.machine() != "x86_64":
    skip("this CPU is no x86_64")
if machine == "nehalem":
    qemu = shutil.which("qemu-x86_64")
    if not qemu:
        skip("qemu-x86_64 was not found")
    if sanitize != "none":
        skip("sanitizers do not run under qemu")
    # The one set that such a CPU can run is the reference: --isa makes the program assert it.
    command = [qemu, "-cpu", "Nehalem", program, "--isa", "reference", golden]
else:
    environment["GLIBC_TUNABLES"] = "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX2_Usable,-FMA_Usable"
    command = [program, golden]
sys.exit(subprocess.run(command, env=environment).returncode)
