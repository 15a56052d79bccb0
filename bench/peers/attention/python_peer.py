"""lamina from Python behind serve.py: the prepared call of bindings/python; LAMINA_LIBRARY says of which library."""
import lamina

import serve


def make(request):
    q, k, v, d_o = (request.read(name) for name in ("q", "k", "v", "d_o"))
    step = lamina.PreparedAttention(q, k, v, d_o if request.backward else None, causal=request.causal, map=request.map,
                                    threads=request.threads, isa=request.field["isa"])

    def both():
        step.forward()
        step.backward()

    def read():
        return {"o": step.o, "d_q": step.d_q, "d_k": step.d_k, "d_v": step.d_v} if request.backward else {"o": step.o}

    return both if request.backward else step.forward, "lamina " + lamina.version(), read


if __name__ == "__main__":
    serve.serve(make)
