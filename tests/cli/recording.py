"""Are log-spaced rows, crossings and stop rules told: in the table, in the JSON document, by the exit code?"""
import json

from command import check, lamina, rows

RUN = ["in_context_convergence", "features=10", "prompt_length=inf", "steps=1000", "threads=1"]
CROSSED = [*RUN, "probes=none", "record_per_decade=1", "crossings=loss=0.1,attention_0=0.5,loss=1e-9"]

done = lamina("run", *CROSSED, "--csv", "run.csv")
for line in ["loss = 0.1: step 166 (", "attention_0 = 0.5: step 145 (", "loss = 1e-09: not reached"]:
    check(line in done.stdout, f"{line!r} is not in {done.stdout}")
check([row[0] for row in rows("run.csv")[1]] == ["0", "1", "10", "100", "145", "166", "1000"], "rows at other steps")
found = json.loads(lamina("run", *CROSSED, "--json").stdout)["crossings"]
check([c["step"] for c in found] == [166, 145, None] and found[0]["before"] > 0.1 >= found[0]["after"], f"crossings: {found}")
check([c["time"] for c in found] == [166, 145, None], f"times of steps: {found}")
FLOW = [*RUN, "probes=none", "optimiser=flow", "step_size=40", "crossings=attention_0=0.5", "stop_at_crossings=yes"]
moment = json.loads(lamina("run", *FLOW, "--json").stdout)["crossings"][0]
closed = float(lamina("theory", "flow_time", "--task", *RUN[:3], "--arguments", "0.5").stdout.split()[-1])
check(abs(moment["time"] * 40 / closed - 1) < 1e-7 and moment["step"] - 1 < moment["time"] < moment["step"], f"flow: {moment}, {closed}")
check(f"reached at {moment['time']:.12g})" in lamina("run", *FLOW).stdout, "the moment of a flow is not printed")
check(json.loads(lamina("run", *RUN, "--json").stdout)["crossings"] == [], "crossings of a run that asks for none")

done = lamina("run", *RUN, "excess_target=0.1", "--save", "run.safetensors")
check("target reached" in done.stdout and "166 steps" in done.stdout, f"excess_target: {done.stdout}")
done = lamina("run", RUN[0], "--resume", "run.safetensors", "--json")
check(json.loads(done.stdout)["status"] == "finished" and json.loads(done.stdout)["steps"] == 1000, "a run that goes on past its target")
done = lamina("run", *RUN, "steps=1e9", "record_every=1e9", "time_limit=0.1", "--json", code=124)
check(json.loads(done.stdout)["status"] == "time_limit", "time_limit")
done = lamina("run", *RUN, "crossings=los=1", code=2)
check("must be a column of this run: loss, excess" in done.stderr, f"an unknown column: {done.stderr}")
