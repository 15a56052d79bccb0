"""ONNX Runtime behind serve.py, forward only. `method`: MultiHeadAttention (the fused operator; its layout is [B, N, H D], to which
the inputs are brought before the clock runs), Attention (opset 23), MatMul (MatMul, Softmax, MatMul, fused by the runtime).

The model is written by onnx_peer.py --model, a process of its own: Debian's onnx and onnxruntime register the same operators.
"""
import subprocess
import sys
import tempfile


def write_model(path, method, element, causal, batch, heads, length, width):
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper
    kind = onnx.TensorProto.DOUBLE if element == "f64" else onnx.TensorProto.FLOAT
    dtype = np.float64 if element == "f64" else np.float32
    shape, held = [batch, heads, length, width], []
    if method == "MultiHeadAttention":
        shape = [batch, length, heads * width]
        nodes = [helper.make_node(method, ["q", "k", "v"], ["o"], domain="com.microsoft", num_heads=heads, unidirectional=causal)]
    elif method == "Attention":
        nodes = [helper.make_node(method, ["q", "k", "v"], ["o"], is_causal=causal)]
    else:
        held = [numpy_helper.from_array(np.array(width ** -0.5, dtype), "scale")]
        nodes = [helper.make_node("Mul", ["q", "scale"], ["scaled"]), helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
                 helper.make_node("MatMul", ["scaled", "kt"], ["s"])]
        if causal:
            held.append(numpy_helper.from_array(np.triu(np.full((length, length), -np.inf, dtype), 1), "mask"))
            nodes.append(helper.make_node("Add", ["s", "mask"], ["masked"]))
        nodes += [helper.make_node("Softmax", ["masked" if causal else "s"], ["p"], axis=-1), helper.make_node("MatMul", ["p", "v"], ["o"])]
    describe = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "attention", [describe(name, kind, shape) for name in "qkv"], [describe("o", kind, shape)], held)
    versions = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=versions), path)


def make(request):
    import numpy as np
    import onnxruntime
    if request.map != "softmax" or request.backward:
        raise ValueError("only softmax, forward")
    with tempfile.NamedTemporaryFile(suffix=".onnx") as model:
        subprocess.run([sys.executable, __file__, "--model", model.name, request.method, request.element, str(int(request.causal)),
                        *map(str, request.shape)], check=True, stderr=subprocess.DEVNULL)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = request.threads, 1
        options.add_session_config_entry("session.set_denormal_as_zero", "0")
        if request.element == "f64":  # the fused product exists in float32 alone
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.add_session_config_entry("optimization.disable_specified_optimizers", "MatmulTransposeFusion")
        session = onnxruntime.InferenceSession(model.name, options, providers=["CPUExecutionProvider"])
    feeds = {name: request.read(name) for name in "qkv"}
    b, h, n, d = request.shape
    packed = request.method == "MultiHeadAttention"
    if packed:
        feeds = {name: np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(b, n, h * d) for name, x in feeds.items()}
    o = np.empty_like(feeds["q"])
    binding = session.io_binding()
    for name, x in feeds.items():
        binding.bind_cpu_input(name, x)
    binding.bind_output("o", "cpu", 0, o.dtype, o.shape, o.ctypes.data)

    def run():
        session.run_with_iobinding(binding)
        return {"o": o.reshape(b, n, h, d).transpose(0, 2, 1, 3) if packed else o}

    return run, "ONNX Runtime " + onnxruntime.__version__


if __name__ == "__main__":
    if sys.argv[1:2] == ["--model"]:
        path, method, element, *numbers = sys.argv[2:]
        write_model(path, method, element, *map(int, numbers))
    else:
        import serve
        serve.serve(make)
