"""PyTorch behind serve.py: softmax attention by its fused operator, linear and ReLU attention by the fastest forms it has.

Every form is a function of q, k, v; forward and backward is autograd on it, unless the name ends in `_manual`.
"""
import os
import sys

import torch
import torch.nn.functional as F

import forms
import serve


def sdpa(q, k, v, causal):
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


SOFTMAX = {"sdpa": sdpa, "matmul": forms.softmax_matmul, "lanes": forms.softmax_lanes}


def make(request):
    """`method` is a form, or a form with `compiled_` before it."""
    torch.set_num_threads(request.threads)
    name = request.method.removeprefix("compiled_").removeprefix("tuned_")
    form = {"softmax": SOFTMAX, "linear": forms.LINEAR, "relu": forms.RELU}[request.map][name]
    q, k, v, d_o = (torch.from_numpy(request.read(name)) for name in ("q", "k", "v", "d_o"))
    causal = request.causal

    def forward():
        return form(q, k, v, causal)

    if request.method.startswith("tuned_"):
        compiled = torch.compile(form, dynamic=False, fullgraph=True, mode="max-autotune")
    elif request.method.startswith("compiled_"):
        compiled = torch.compile(form, dynamic=False, fullgraph=True)
    else:
        compiled = form

    if name.endswith("_manual"):
        def run():
            with torch.inference_mode():
                return dict(zip(("o", "d_q", "d_k", "d_v"), compiled(q, k, v, causal, d_o if request.backward else None)))
    elif request.backward:
        for x in (q, k, v):
            x.requires_grad_(True)

        def run():
            o = compiled(q, k, v, causal)
            d_q, d_k, d_v = torch.autograd.grad(o, (q, k, v), d_o)
            return {"o": o.detach(), "d_q": d_q, "d_k": d_k, "d_v": d_v}
    else:
        def run():
            with torch.inference_mode():
                return {"o": compiled(q, k, v, causal)}
    if compiled is not form:
        run()  # compiles
    return run, f"PyTorch {torch.__version__} {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    serve.serve(make, torch._dynamo.reset)
