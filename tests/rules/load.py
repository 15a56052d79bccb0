"""Loading and unloading the library (its path is the argument) starts no thread, prints nothing, and leaves the floating-point
state, the environment, the locale, the signal handlers and the open files of the process alone."""
import ctypes
import locale
import os
import signal
import subprocess
import sys
import threading
import time

from rule import finish, noticed


def state():
    mask = [line for line in open("/proc/self/status") if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]  # SigQ counts all of the user's
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "flush to zero": sys.float_info.min / 4 == 0,
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": mask + [repr(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGSEGV, signal.SIGFPE)],
        "files": os.listdir("/proc/self/fd"),
    }


def changes(before, after):
    return [f"loading changed {key}: {before[key]} to {after[key]}" for key in before if before[key] != after[key]]


def child(library):
    # The C library takes a signal of its own with a process' first thread, so one has come and gone before anything is compared.
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with_thread = state()
    stop.set()
    thread.join()
    ends = time.monotonic() + 10
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < ends:  # join returns a little before the kernel's thread is gone
        time.sleep(0.001)
    before = state()
    noticed(changes(with_thread, before), "a thread")
    handle = ctypes.CDLL(library)
    loaded = state()
    handle.lamina_version.restype = ctypes.c_char_p
    handle.lamina_isa_name.restype = ctypes.c_char_p
    handle.lamina_version()
    for index in range(handle.lamina_isa_count()):
        handle.lamina_isa_name(index)
    return changes(before, loaded) + changes(before, state())


if len(sys.argv) == 3:
    finish(child(sys.argv[1]), 1)
result = subprocess.run([sys.executable, __file__, sys.argv[1], "child"], capture_output=True, text=True)
found = [] if result.returncode == 0 else [result.stdout + result.stderr]
if result.stderr or result.stdout.count("\n") != 1:
    found.append(f"something was printed: {result.stdout!r} {result.stderr!r}")
finish(found, 1)
