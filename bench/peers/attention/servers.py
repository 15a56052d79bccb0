"""The processes that are timed: compiled and started on demand, one for each program, number of threads and instruction set.

Peers run inside the root with a clean environment and at their best: OpenBLAS's OpenMP build, an allocator that keeps its pages,
threads pinned, sleef for PyTorch's compiler; lamina runs outside, on the same cores.
"""
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
INSIDE = f"/tmp/lamina-peers/attention-{os.getpid()}"  # of this run: several may go at once
LIBRARIES = {"ggml": ["-lggml", "-lggml-base"], "onednn": ["-ldnnl"]}
# glibc's page faults cost PyTorch up to 2x on large tensors, and tcmalloc is 2 to 10 % faster still; sleef is what lets
# torch.compile emit vector code.
SETTINGS = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LD_LIBRARY_PATH": "/usr/lib/x86_64-linux-gnu/openblas-openmp",
            "MALLOC_MMAP_THRESHOLD_": "8589934592", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}
TORCH = {"LD_PRELOAD": "libtcmalloc_minimal.so.4:libsleef.so.3", "TORCHINDUCTOR_CACHE_DIR": "/tmp/lamina-peers/inductor"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell", "ONEDNN_MAX_CPU_ISA": "AVX2"}
PATIENCE = 600  # seconds for one answer: 65 536 keys on a busy machine


class Failed(Exception):
    pass


class Server:
    """Stopped but while it answers: threads that wait for work by spinning would take the cores of who comes next."""

    def __init__(self, command, environment, folder, isa):
        self.folder, self.isa = folder, isa
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, cwd="/")
        self.wait = selectors.DefaultSelector()
        self.wait.register(self.process.stdout, selectors.EVENT_READ)

    def ask(self, line):
        self.process.send_signal(signal.SIGCONT)
        try:
            print(line, file=self.process.stdin, flush=True)
        except OSError:
            pass  # it has ended, which the empty answer says
        if not self.wait.select(PATIENCE):
            self.process.kill()
            raise Failed(f"no answer in {PATIENCE} s")
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise Failed(f"ended with status {self.process.wait()}")
        if answer.startswith("failed: "):
            raise Failed(answer[8:].replace("|", "/"))
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def close(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Prepared:
    """One call that a server holds."""

    def __init__(self, server, row, method, threads):
        self.server, self.slot = server, (method or "call") + str(threads)
        b, h, n, d = row.shape
        answer = server.ask(f"prepare {self.slot} batch={b} heads={h} length={n} width={d} causal={int(row.causal)} map={row.map} "
                            f"element={row.element} direction={row.direction} threads={threads} method={method} isa={server.isa} "
                            f"folder={server.folder}")
        seconds = float(answer.split()[1])
        # The first call touches pages; of a long one it says enough.
        self.first = seconds if seconds > 0.1 else min(self.burst(0.005) for _ in range(3))

    def burst(self, seconds):
        return float(self.server.ask(f"burst {self.slot} {seconds}"))

    def output(self):
        self.server.ask(f"output {self.slot} {self.server.folder}")

    def release(self):
        self.server.ask(f"release {self.slot}")


class Servers:
    def __init__(self, root, build):
        self.root, self.build, self.running = root, build, {}
        self.outside = root + INSIDE
        os.makedirs(self.outside, exist_ok=True)
        for name in os.listdir(HERE):
            if name.endswith((".py", ".cpp", ".hpp")):
                shutil.copy(f"{HERE}/{name}", self.outside)
        self.client = f"{self.outside}/lamina_peer"
        subprocess.run(["c++", "-O2", "-std=c++20", f"-I{TOP}/include", f"-I{TOP}/bench/attention", f"{HERE}/lamina_peer.cpp",
                        "-o", self.client, f"-L{build}/capi", "-llamina", f"-Wl,-rpath,{build}/capi"], check=True)
        self.widest = self.sets_here()[0]
        self.compiled = {name: self.compile(name) for name in LIBRARIES}

    def sets_here(self):
        about = subprocess.run([f"{self.build}/bindings/cli/lamina", "--version"], check=True, capture_output=True, text=True).stdout
        return next(line.split(":")[1].split() for line in about.splitlines() if line.startswith("instruction sets here:"))

    def inside(self, settings, *command):
        return ["chroot", self.root, "/usr/bin/env", "-i", *(f"{key}={value}" for key, value in settings.items()), *command]

    def compile(self, name):
        """None, or why it does not compile."""
        command = ["g++", "-O2", "-std=c++20", "-o", f"{INSIDE}/{name}_peer", f"{INSIDE}/{name}_peer.cpp", *LIBRARIES[name]]
        done = subprocess.run(self.inside(SETTINGS, *command), stderr=subprocess.PIPE, text=True, cwd="/")
        return None if done.returncode == 0 else "does not compile: " + next((x for x in done.stderr.splitlines() if "error" in x), "?")

    def get(self, program, threads, isa):
        if self.compiled.get(program):
            raise Failed(self.compiled[program])
        key = program, threads, isa
        server = self.running.get(key)
        if server is None or server.process.poll() is not None:
            self.running[key] = server = self.start(program, threads, isa)
        return server

    def start(self, program, threads, isa):
        cores = sorted(os.sched_getaffinity(0))
        pin = ["taskset", "-c", ",".join(map(str, cores[-1:] if threads == 1 else cores[:threads]))]
        if program == "lamina":
            return Server([*pin, self.client], {"PATH": "/usr/bin:/bin"}, self.outside, isa)
        if program == "python":
            environment = {"PYTHONPATH": f"{TOP}/bindings/python", "LAMINA_LIBRARY": f"{self.build}/capi/liblamina.so"}
            return Server([*pin, sys.executable, f"{HERE}/python_peer.py"], environment, self.outside, isa)
        forced = isa != self.widest
        settings = {**SETTINGS, **(TORCH if program == "torch" else {}), **(AVX2 if forced else {}), "OMP_NUM_THREADS": str(threads)}
        if forced:
            settings["TORCHINDUCTOR_CACHE_DIR"] = "/tmp/lamina-peers/inductor-avx2"
        script = [f"{INSIDE}/{program}_peer"] if program in LIBRARIES else ["python3", f"{INSIDE}/{program}_peer.py"]
        return Server(self.inside(settings, *pin, *script), None, INSIDE, isa)

    def peak(self, row):
        return float(self.get("lamina", 1, row.isa).ask(f"peak {row.isa} {row.element}"))

    def machine(self):
        with open("/proc/cpuinfo", encoding="ascii") as file:
            model = next((x.split(":")[1].strip() for x in file if x.startswith("model name")), "?")
        return {"model": model, "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}

    def describe(self):
        about = self.machine()
        load = os.getloadavg()[1]
        return f"{about['date']}, {about['model']}, {about['cores']} cores; load of the machine over the last five minutes: {load:.1f}."

    def close(self):
        for server in self.running.values():
            server.close()
        shutil.rmtree(self.outside, ignore_errors=True)
