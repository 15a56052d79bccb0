"""The protocol of serve.hpp for peers in Python: see there."""
import sys
import time

import numpy as np


class Request:
    def __init__(self, words):
        self.field = dict(word.split("=", 1) for word in words)
        self.batch, self.heads, self.length, self.width = (int(self.field[key]) for key in ("batch", "heads", "length", "width"))
        self.shape = self.batch, self.heads, self.length, self.width
        self.map, self.element, self.method = self.field["map"], self.field["element"], self.field["method"]
        self.causal, self.threads = self.field["causal"] == "1", int(self.field["threads"])
        self.backward = self.field["direction"] == "both"
        self.dtype = np.float64 if self.element == "f64" else np.float32

    def read(self, name):
        path = f"{self.field['folder']}/{name}"
        return np.fromfile(path, self.dtype, count=int(np.prod(self.shape))).reshape(self.shape)


def burst(run, least, clock):
    done, step, start = 0, 1, clock()
    while True:
        for _ in range(step):
            run()
        done += step
        elapsed = clock() - start
        if elapsed >= least:
            return elapsed / done
        step = max(1, min(done, int((least - elapsed) * done / elapsed) + 1))


def serve(make, idle=lambda: None):
    """make(request) gives (run, note): run() computes once and returns the outputs by name, as numpy arrays or torch tensors; or
    (run, note, read), where read() returns the outputs of the last run. idle() is called when nothing is prepared any more."""
    calls, outputs = {}, None
    for line in sys.stdin:
        verb, slot, *words = line.split()
        try:
            if verb == "prepare":
                request = Request(words)
                run, note, *read = make(request)
                clock = time.process_time if request.threads == 1 else time.perf_counter
                start = clock()
                outputs = run()
                answer = f"ok {clock() - start!r} {note}"
                outputs = read[0]() if read else outputs
                calls[slot] = run, clock
            elif verb == "release":
                calls.pop(slot, None)
                run = outputs = None
                if not calls:
                    idle()
                answer = "ok"
            elif verb == "burst":
                run, clock = calls[slot]
                answer = repr(burst(run, float(words[0]), clock))
            elif verb == "output":
                for name, value in outputs.items():  # of the call prepared last
                    np.ascontiguousarray(value).tofile(f"{words[0]}/{name}")
                outputs, answer = None, "ok"
            else:
                raise ValueError("unknown verb " + verb)
        except Exception as error:  # whatever a peer throws is a row of the table, not the end of it
            answer = "failed: " + (type(error).__name__ + ": " + " ".join(str(error).split()))[:300]
        print(answer, flush=True)
