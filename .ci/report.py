"""Counts, times and reasons of a run of checks, gathered stage by stage and printed at its end."""
import json
import os
import re
import resource
import signal
import subprocess
import time

# The lines by which test programs say how many of their cases passed, failed, were skipped.
GOOGLETEST = {"passed": r"^\[  PASSED  \] (\d+) test", "failed": r"^\[  FAILED  \] (\d+) test", "skipped": r"^\[  SKIPPED \] (\d+) test"}
SUMMARY = {kind: rf"\b(\d+) {kind}\b" for kind in ("passed", "failed", "skipped")}


def case_counts(output):
    """(passed, failed, skipped) of the cases in a test program's output; None if it does not say."""
    if re.search(GOOGLETEST["passed"], output, re.MULTILINE):
        return tuple(sum(int(n) for n in re.findall(pattern, output, re.MULTILINE)) for pattern in GOOGLETEST.values())
    lines = output.splitlines()
    for number, line in enumerate(lines[:-1]):
        if line.startswith("Test Summary:"):  # Julia: a row of names, a row of numbers
            columns = dict(zip(re.findall(r"\w+", line.split("|")[1]), map(int, re.findall(r"\d+", lines[number + 1].split("|")[-1]))))
            return columns.get("Pass", 0), columns.get("Fail", 0) + columns.get("Error", 0), columns.get("Broken", 0)
    for line in reversed(lines):
        if re.search(SUMMARY["passed"], line) or re.search(SUMMARY["failed"], line):
            return tuple(sum(int(n) for n in re.findall(pattern, line)) for pattern in SUMMARY.values())
    return None


def skip_reasons(output):
    """What the program says after the word SKIPPED; googletest's message is the line before its mark."""
    lines, reasons = output.splitlines(), []
    for number, line in enumerate(lines):
        said = re.search(r"SKIPPED(?: \[\d+\])?: *(\S.*)|^SKIPPED \[\d+\] (\S.*)", line)
        if said:
            reasons.append(said.group(1) or said.group(2))
        elif re.match(r"\[  SKIPPED \] \w+[./]\S+ \(", line):
            before = lines[number - 1].strip() if number else ""
            if "SKIPPED:" not in before:
                reasons.append(f"{line.split()[3]}: {before}")
    return reasons


def processor_seconds():
    """What the processes that have ended used: on a shared machine, the figure that means something."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Report:
    def __init__(self, deadline_seconds):
        self.passed, self.failures, self.skips, self.times = 0, [], [], []
        self.deadline = time.monotonic() + deadline_seconds

    def note_time(self, name, seconds, processor=0.0):
        self.times.append((name, seconds, processor))
        print(f"[{name}: {seconds:.0f} s, processor {processor:.0f} s]", flush=True)

    def stage(self, name, function, *arguments):
        """Runs one stage and times it. What a stage cannot do is a failure, never silence."""
        print(f"== {name}", flush=True)
        begin, used = time.monotonic(), processor_seconds()
        if begin > self.deadline:
            self.fail(name, "not begun: the time is up")
            return
        try:
            function(*arguments)
        except Exception as error:  # a broken stage must not end the others
            self.fail(name, f"{type(error).__name__}: {error}")
        self.note_time(name, time.monotonic() - begin, processor_seconds() - used)

    def fail(self, name, reason):
        self.failures.append((name, reason))
        print(f"FAILED {name}: {reason}", flush=True)

    def skip(self, name, reason):
        self.skips.append((name, reason))
        print(f"SKIPPED {name}: {reason}", flush=True)

    def add(self, name, status, output, seconds=0.0):
        """One test program: status is its exit status, 77 for skipped, as Meson has it."""
        passed, failed, skipped = case_counts(output) or (0, 0, 0)
        reasons = skip_reasons(output)
        if status == 77:
            self.skip(name, "; ".join(reasons) or "no reason given")
            return
        if status != 0 or failed:
            self.passed += passed
            self.failures += [(name, f"exit status {status}")] * max(failed, 1)
            print(f"FAILED {name} ({seconds:.1f} s), exit status {status}\n{output[-6000:]}", flush=True)
        else:
            self.passed += max(passed, 0 if skipped else 1)
        for index in range(max(skipped, len(reasons))):
            self.skip(name, reasons[index] if index < len(reasons) else "no reason given")

    def command(self, name, command, timeout, environment=None, quiet=True, folder=None):
        """Runs a command whose success is all that matters; its output is shown if it fails. True on success."""
        status, output = run(command, min(timeout, max(1.0, self.deadline - time.monotonic())), environment, folder)
        if status == 0:
            if not quiet:
                print(output, end="", flush=True)
            return True
        self.fail(name, f"{' '.join(command)}: " + ("no end after its time" if status is None else f"exit status {status}"))
        print(output[-6000:], flush=True)
        return False

    def meson_tests(self, label, folder, arguments, timeout, environment=None, prefix=()):
        """`meson test` in a build folder; each test program is counted by its cases."""
        log = os.path.join(folder, "meson-logs", "testlog.json")
        if os.path.exists(log):
            os.remove(log)
        command = [*prefix, "meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", *arguments]
        status, output = run(command, min(timeout, max(1.0, self.deadline - time.monotonic())), environment)
        if status is None:
            self.fail(label, "no end after its time")
        if not os.path.exists(log):
            self.fail(label, "meson test left no log")
            print(output[-6000:], flush=True)
            return
        with open(log, encoding="utf-8", errors="replace") as file:
            records = [json.loads(line) for line in file if line.strip()]
        before = len(self.failures)
        for record in records:
            code = {"OK": 0, "SKIP": 77}.get(record["result"])
            if code is None:
                code = record.get("returncode") or 1
            text = (record.get("stdout") or "") + (record.get("stderr") or "")
            self.add(f"{label}: {record['name'].split(' / ')[-1]}", code, text, record.get("duration", 0.0))
        slowest = sorted(records, key=lambda record: -record.get("duration", 0.0))[:3]
        print(f"{label}: {len(records)} test programs; slowest: "
              + ", ".join(f"{record['name'].split(' / ')[-1]} {record.get('duration', 0.0):.1f} s" for record in slowest), flush=True)
        if not records:
            self.fail(label, "no test ran")
        if status not in (0, None) and len(self.failures) == before:
            self.fail(label, f"meson test ended with status {status}")
            print(output[-6000:], flush=True)

    def finish(self):
        """The last lines: times, what was skipped and why, what failed, the counts. The exit status."""
        self.times.append(("in all", sum(seconds for _, seconds, _ in self.times), sum(used for _, _, used in self.times)))
        print("\n" + "\n".join(f"{seconds:7.0f} s, processor {used:6.0f} s  {name}" for name, seconds, used in self.times))
        for name, reason in self.skips:
            print(f"SKIPPED {name}: {reason}")
        for name, reason in self.failures:
            print(f"FAILED {name}: {reason}")
        print(f"{self.passed} passed, {len(self.failures)} failed, {len(self.skips)} skipped", flush=True)
        return 0 if not self.failures and self.passed else 1


def run(command, timeout, environment=None, folder=None):
    """(exit status, output); the status is None if the time ran out, and then its whole process group is gone."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env={**os.environ, **(environment or {})}, cwd=folder, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output.decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, output.decode(errors="replace")
