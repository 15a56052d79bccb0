"""Does the population run give the excess of the closed form, at full precision, from the command line?"""
from command import check, lamina, rows

# S1, |Q| = 5, step size 0.1, l2, without noise: ln(1 + 60 exp(-lambda n)) averaged over n = 1..5, lambda = 0.1 t / sqrt 5.
EXPECTED = {100: 1.059752e-1, 200: 1.559896e-3, 300: 1.788507e-5, 400: 2.043079e-7}

lamina("run", "in_context_recall", "noise=0", "data=population", "--csv", "run.csv")
header, table = rows("run.csv")
for step, expected in EXPECTED.items():
    row = dict(zip(header, map(float, table[step])))
    check(row["step"] == step, f"row {step} has step {row['step']}")
    for name in ["excess", "loss", "predicted"]:
        check(abs(row[name] / expected - 1) < 1e-6, f"step {step}: {name} is {row[name]}, expected {expected}")
# Prompts need not be finite for that.
lamina("run", "in_context_recall", "noise=0", "data=population", "prompt_length=inf", "unseen_outputs=0", "--csv", "infinite.csv")
header, table = rows("infinite.csv")
check(abs(float(table[400][header.index("excess")]) / EXPECTED[400] - 1) < 1e-6, "prompt_length=inf")
