"""Is progress one redrawn line on a terminal, and a few plain lines in a pipe, with no control characters?"""
import os
import pty
import re
import select
import time

from command import LAMINA, LONG, SMALL, check, lamina

STEP = re.compile(r"step \d+/\d+  loss \S+  excess \S+  \S+ steps/s(  \S.* left)?")

done = lamina("run", *SMALL)
for stream in [done.stdout, done.stderr]:
    check(re.fullmatch(r"[\n\x20-\x7e]*", stream), f"control characters in a pipe: {stream!r}")
lines = done.stderr.splitlines()
check(1 <= len(lines) <= 20 and all(STEP.fullmatch(line) for line in lines), f"plain lines: {lines}")
table = done.stdout.splitlines()
check(table[0].split() == ["step", "loss", "excess", "predicted"], f"the table begins with {table[0]!r}")
shown = [row.split() for row in table[1:] if row.strip() and row.split()[0].isdigit() and len(row.split()) == 4]
check(8 <= len(shown) <= 12 and shown[0][0] == "0" and shown[-1][0] == "20", f"rows of the table: {table}")
check(len({len(row) for row in table[:len(shown) + 1]}) == 1, "the table is not aligned")
check(re.search(r"^20 steps in \S+ s \(\S+ steps/s\), \w+, 1 thread: finished$", done.stdout, re.MULTILINE), "no summary")
# A variant without prediction has no such column.
check(lamina("run", *SMALL, "variant=w_free").stdout.split("\n")[0].split() == ["step", "loss", "excess"], "predicted of w_free")


def on_terminal(arguments, seconds):
    """What `lamina run` writes to a terminal, where Ctrl-C is typed after some seconds; and its exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(LAMINA, [LAMINA, "run", *arguments])
    written, end, typed = b"", time.monotonic() + seconds, False
    while True:
        if time.monotonic() > end and not typed:
            os.write(terminal, b"\x03")
            typed = True
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # Linux: the other side is closed
                part = b""
            if not part:
                break
            written += part
    return written.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


try:
    for end in pty.openpty():
        os.close(end)
except OSError as error:
    print(f"SKIPPED: no terminal can be made here: {error}")
    sys.exit(77)
seconds = 3.0
written, code = on_terminal(LONG, seconds)
check(code == 130, f"Ctrl-C typed: exit code {code}, {written[-500:]!r}")
drawn = re.findall(r"\r(step [^\r\x1b\n]*)\x1b\[K", written)
check(4 <= len(drawn) <= 10 * (seconds + 1), f"{len(drawn)} lines drawn in {seconds} s")
check(STEP.match(drawn[-1]) and " left" in drawn[-1], f"the line is {drawn[-1]!r}")
check(": stopped" in written and written.index(": stopped") > written.rindex("\x1b[K"), "no summary after the line")
written, code = on_terminal([*SMALL, "--quiet"], 30)
check(code == 0 and written == "", f"--quiet on a terminal: {code}, {written!r}")
