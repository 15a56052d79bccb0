"""The counting of .ci/run: what test programs print is turned into passed, failed and skipped, and nothing goes unseen."""
import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / ".ci"))
import report  # noqa: E402

GOOGLETEST = """[ RUN      ] bits.eight_threads
SKIPPED: only 2 CPUs
[  SKIPPED ] bits.eight_threads (0 ms)
[  PASSED  ] 7 tests.
[  SKIPPED ] 1 test, listed below:
[  SKIPPED ] bits.eight_threads
"""
FAILING = "[  PASSED  ] 3 tests.\n[  FAILED  ] 2 tests, listed below:\n[  FAILED  ] a.b\n[  FAILED  ] a.c\n"
PYTEST = "SKIPPED [1] test_plot.py:12: no matplotlib\n23 passed, 1 skipped in 4.02s\n"
JULIA = "Test Summary: | Pass  Fail  Broken  Total\nlamina        |   40     1       2     43\n"


expected = 0


def expect(found, wanted):
    global expected
    expected += 1
    if found != wanted:
        sys.exit(f"expected {wanted}, found {found}")


def added(status, output):
    """(passed, failed, skipped) of a report after one program, and what finish() makes its last line and its status."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        one = report.Report(60)
        one.add("program", status, output)
        code = one.finish()
    expect(printed.getvalue().splitlines()[-1], f"{one.passed} passed, {len(one.failures)} failed, {len(one.skips)} skipped")
    expect(code != 0, bool(one.failures) or one.passed == 0)
    return one.passed, len(one.failures), len(one.skips)


def stage_that_breaks():
    def breaks():
        raise OSError("no such tool")

    with contextlib.redirect_stdout(io.StringIO()):
        one = report.Report(60)
        one.stage("breaks", breaks)
        late = report.Report(-1)
        late.stage("late", lambda: None)
    return len(one.failures), len(late.failures)


def meson_log_without_records():
    """A run of no tests is a failure, not a success."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.makedirs(f"{folder}/meson-logs")
        original = report.run
        try:
            def fake(records, status):
                def run(*_):
                    with open(f"{folder}/meson-logs/testlog.json", "w", encoding="utf-8") as file:
                        file.writelines(json.dumps(record) + "\n" for record in records)
                    return status, ""
                return run

            counts = []
            for records, status in ([], 0), ([{"name": "a", "result": "TIMEOUT", "returncode": -15, "stdout": ""}], 1), \
                    ([{"name": "a", "result": "SKIP", "returncode": 77, "stdout": "SKIPPED: no R\n"}], 0), ([{"name": "a", "result": "OK"}], 3):
                report.run = fake(records, status)
                one = report.Report(60)
                one.meson_tests("tests", folder, [], 60)
                counts.append((one.passed, len(one.failures), len(one.skips)))
        finally:
            report.run = original
    return counts


expect(added(0, GOOGLETEST), (7, 0, 1))
expect(added(1, FAILING), (3, 2, 0))
expect(added(0, PYTEST), (23, 0, 1))
expect(added(0, JULIA), (40, 1, 2))
expect(added(0, "nothing is said\n"), (1, 0, 0))
expect(added(139, "dead\n"), (0, 1, 0))
expect(added(139, "12 passed\n"), (12, 1, 0))
expect(added(77, "SKIPPED: no qemu\n"), (0, 0, 1))
expect(report.skip_reasons(GOOGLETEST), ["only 2 CPUs"])
expect(report.skip_reasons(PYTEST), ["test_plot.py:12: no matplotlib"])
expect(stage_that_breaks(), (1, 1))
expect(meson_log_without_records(), [(0, 1, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)])
print(f"{expected} passed, 0 failed")
