"""Does --csv write the table whole, with its first columns, row 0 before the first update and all 17 digits?"""
import math
import os

from command import SMALL, check, lamina, rows

lamina("run", *SMALL, "record_every=3", "--csv", "run.csv")
header, table = rows("run.csv")
check(header[:3] == ["step", "loss", "excess"], f"first columns are {header[:3]}")
check(len(header) == len(set(header)) and len(header) > 8, f"columns are {header}")
steps = [float(row[0]) for row in table]
check(steps == [0, 3, 6, 9, 12, 15, 18, 20], f"recorded steps are {steps}")
# Before the first update lambda is 0: all logits are, but that of tau.
for name in [f"lambda_{i}" for i in range(5)]:
    check(float(table[0][header.index(name)]) == 0, f"{name} is not 0 in row 0")
    check(float(table[1][header.index(name)]) > 0, f"{name} has not moved in row 1")
check(abs(float(table[0][header.index("predicted")]) - math.log(1 + 59 * 0.5)) < 1e-12, "predicted excess at step 0")
# 17 significant digits give back the same double, written the same way again.
digits = [value.lstrip("-").replace(".", "").split("e")[0].lstrip("0") for row in table for value in row]
check(max(map(len, digits)) == 17, f"the longest number has {max(map(len, digits))} digits")
for row in table:
    for value in row:
        check("%.17g" % float(value) == value, f"{value} is not what %.17g writes")
# Whatever the locale of the user.
lamina("run", *SMALL, "record_every=3", "--csv", "german.csv", environment={"LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"})
check(open("german.csv").read() == open("run.csv").read(), "the locale changes the file")
# An earlier file is replaced, and nothing else is left behind.
lamina("run", *SMALL, "--csv", "run.csv")
check(len(rows("run.csv")[1]) == 21, "the file was not replaced")
check(sorted(os.listdir()) == ["german.csv", "run.csv"], f"left behind: {os.listdir()}")
