"""Real fused multiply-adds and no spills, read from the AVX-512 machine code: in each tile of a matrix product every inner loop
has vfmadd on zmm registers, and no vmul feeds a vadd; in these and in the steps of attention on tiles of scores no inner loop
stores a whole vector register on the stack or loads one from it. Read from the library of this build, and from gemm.hpp under g++ and
clang++ where found; with xsimd's own fma in the veneer (LAMINA_FMA_FROM_XSIMD), or more sums than there are registers, the same
reading must fail, else this test does. Arguments: objdump, the avx512 library, --, the flags of the set."""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from rule import ROOT, accepted, noticed

# Tiles of products, by pieces of their names: gemm's, and attention's own, on tiles of scores, on short sequences and on few queries. Steps of attention: what a tile of scores goes through.
TILES = ("gemm_tile<{},", "KeysByQueries<{},", "QueriesByFeatures<{},", "KeysByFeatures<{},", "short_row_tiles<{},", "few_product<{}>", "RowsByKeys<{},",
         "RowsByFeatures<{},")
STEPS = re.compile(r"\b(attention_(score|softmax|map|softmax_gradient|map_gradient|rescale)|row_sums)<")
FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fno-exceptions", "-fno-rtti", "-ffp-contract=off", "-w", f"-I{ROOT / 'src'}"]
# Everything that the entry instantiates, and nothing else, so that the second and third compilation are quick.
PROBE = """#include "kernels/gemm.hpp"
namespace lamina::kernels {
extern void* const probe[];
void* const probe[] = {reinterpret_cast<void*>(gemm<float>), reinterpret_cast<void*>(gemm<double>)};
}
"""
# A tile of 48 sums in 32 registers.
CROWDED = PROBE.replace("};\n}", ", reinterpret_cast<void*>(gemm_tile<float, 12, 4>)};\n}")
FIRST_SOUND_XSIMD = (8, 2)  # before this, fma on AVX-512 was multiply and add; later versions may pass rightly


def functions(disassembly):
    """name -> [(address, mnemonic, operands)]"""
    found, body = {}, []
    for line in disassembly.split("\n"):
        header = re.match(r"^[0-9a-f]+ <(.*)>:$", line)
        code = re.match(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$", line)
        if header:
            body = found.setdefault(header.group(1), [])
        elif code:
            body.append((int(code.group(1), 16), code.group(2), code.group(3)))
    return found


def jump(mnemonic, operands):
    """Where an instruction may jump to, or None."""
    target = re.match(r"^([0-9a-f]+)\b", operands) if mnemonic.startswith("j") else None
    return int(target.group(1), 16) if target else None


def comes_round(body):
    """Whether control that begins at the first line can come to the last without leaving: a branch laid out further on that jumps back
    to where it was left is no loop."""
    at = {line[0]: i for i, line in enumerate(body)}
    seen, ahead = set(), [0]
    while ahead:
        i = ahead.pop()
        if i in seen or i >= len(body):
            continue
        seen.add(i)
        _, mnemonic, operands = body[i]
        if not mnemonic.startswith(("jmp", "ret")):
            ahead.append(i + 1)
        if (target := at.get(jump(mnemonic, operands))) is not None:
            ahead.append(target)
    return len(body) - 1 in seen


def inner_loops(code):
    """The bodies of backward jumps that close a loop and hold no other such."""
    loops = []
    for address, mnemonic, operands in code:
        target = jump(mnemonic, operands)
        if target is not None and code[0][0] <= target <= address and comes_round([line for line in code if target <= line[0] <= address]):
            loops.append((target, address))
    innermost = [(a, b) for a, b in loops if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops)]
    return [[line for line in code if a <= line[0] <= b] for a, b in innermost]


def registers(operands):
    return [int(number) for number in re.findall(r"%[xyz]mm(\d+)", operands)]


def fault_of_loop(loop):
    """Why this loop is no chain of real multiply-adds, or None."""
    if not any(mnemonic.startswith("vfmadd") and "%zmm" in operands for _, mnemonic, operands in loop):
        return "no vfmadd on zmm"
    products = set()
    for _, mnemonic, operands in loop * 2:  # twice: a product may be added in the next turn
        used = registers(operands)
        if not used:
            continue
        if re.match(r"v(add|sub)[ps][sd]", mnemonic) and products & set(used[:-1]):
            return f"a product feeds {mnemonic} {operands}"
        if re.match(r"vmul[ps][sd]", mnemonic):
            products.add(used[-1])
        else:
            products.discard(used[-1])
    return None


def spill(loop, stack):
    """The first whole vector register that goes to the stack or comes from it, or None."""
    return next((f"spill: {mnemonic} {operands}" for _, mnemonic, operands in loop
                 if "%zmm" in operands and re.search(stack, operands)), None)


def faults(disassembly, required=TILES[:1]):
    found = []
    code = functions(disassembly)
    for form, piece in ((form, form.format(element)) for form in TILES for element in ("float", "double")):
        tiles = {name: lines for name, lines in code.items() if piece in name}
        if not tiles and form in required:
            found.append(f"no function {piece}...>")
        for name, lines in tiles.items():
            loops = [loop for loop in inner_loops(lines)
                     if any(re.match(r"v(f?n?m(add|sub|ul)|add)\w*[ps][sd]", m) for _, m, _ in loop)]
            if not loops:
                found.append(f"{name} has no loop with arithmetic")
            found += [f"{name}: {fault}" for fault in map(fault_of_loop, loops) if fault]
    for name, lines in code.items():
        if not lines or not (STEPS.search(name) or any(form.split("{")[0] in name for form in TILES)):
            continue
        framed = any(mnemonic == "mov" and operands == "%rsp,%rbp" for _, mnemonic, operands in lines)
        stack = r"\(%(rsp|rbp)\b" if framed else r"\(%rsp\b"
        found += [f"{name}: {fault}" for fault in (spill(loop, stack) for loop in inner_loops(lines)) if fault]
    return found


def self_check():
    def tile(*body):
        text = ""
        for name in ("float", "double"):
            text += f"0000000000000010 <void gemm_tile<{name}, 6, 4>(Product)>:\n  10:\tvmovupd (%rcx),%zmm3\n"
            text += "".join(f"  {0x11 + i:x}:\t{line}\n" for i, line in enumerate(body)) + "  20:\tjne    11 <x>\n  21:\tret\n"
        return faults(text)

    accepted(tile("vfmadd231pd %zmm3,%zmm4,%zmm6"), "a loop of vfmadd")
    noticed(tile("vmulpd %zmm3,%zmm4,%zmm5", "vaddpd %zmm5,%zmm6,%zmm6"), "multiply and add")
    noticed(tile("vfmadd231pd %zmm3,%zmm4,%zmm6", "vmulpd %zmm3,%zmm4,%zmm5", "vaddpd %zmm5,%zmm7,%zmm7"), "one product that is added")
    noticed(tile("vaddpd %zmm5,%zmm7,%zmm7", "vfmadd231pd %zmm3,%zmm4,%zmm6", "vmulpd %zmm3,%zmm4,%zmm5"), "a product added in the next turn")
    noticed(tile("vfmadd231pd %ymm3,%ymm4,%ymm6"), "a loop on half registers")
    noticed(tile("vfmadd231pd %zmm3,%zmm4,%zmm6", "vmovapd %zmm6,0x40(%rsp)"), "a sum stored on the stack")
    noticed(tile("vfmadd231pd 0x40(%rsp),%zmm4,%zmm6"), "a factor read from the stack")
    accepted(tile("vfmadd231pd 0x40(%rbp),%zmm4,%zmm6"), "a factor read through a pointer")
    aside = ("vfmadd231pd %zmm3,%zmm4,%zmm6", "jne    11 <x>", "je     16 <x>", "vmovupd %zmm6,(%rax)", "ret", "vmulpd %zmm3,%zmm6,%zmm6", "jmp    14 <x>")
    accepted(tile(*aside), "a branch that lies further on and jumps back")
    noticed(tile(*aside[:4], "jmp    16 <x>", *aside[5:]), "a loop through it")
    noticed(faults("0000000000000010 <main>:\n  10:\tret\n"), "an object without tiles")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def probe(compiler, flags, folder, name, text=PROBE):
    source, target = pathlib.Path(folder, "probe.cpp"), str(pathlib.Path(folder, name))
    source.write_text(text)
    output(compiler, *FLAGS, *flags, "-c", str(source), "-o", target)
    return target


def xsimd_version(compiler, flags):
    macros = output(compiler, *FLAGS, *flags, "-dM", "-E", "-include", "xsimd/xsimd.hpp", "-x", "c++", "/dev/null")
    return tuple(int(re.search(rf"XSIMD_VERSION_{part} (\d+)", macros).group(1)) for part in ("MAJOR", "MINOR"))


def main():
    self_check()
    objdump, library = sys.argv[1:3]
    flags = sys.argv[sys.argv.index("--") + 1:]
    disassemble = [objdump, "-d", "-C", "--no-show-raw-insn"]
    failures = [f"{library}: {fault}" for fault in faults(output(*disassemble, library), required=TILES)]
    print(f"{library}: read")
    with tempfile.TemporaryDirectory() as folder:
        for compiler in filter(shutil.which, ("g++", "clang++")):
            known = [flag for flag in flags if "clang" not in compiler or not flag.startswith("-Wno-")]
            real = faults(output(*disassemble, probe(compiler, known, folder, "real.o")))
            failures += [f"{compiler}: {fault}" for fault in real]
            spoilt = faults(output(*disassemble, probe(compiler, known + ["-DLAMINA_FMA_FROM_XSIMD"], folder, "spoilt.o", CROWDED)))
            crowded = [fault for fault in spoilt if "spill" in fault]
            spoilt = [fault for fault in spoilt if "spill" not in fault]
            if not crowded:
                failures.append(f"{compiler}: 48 sums in 32 registers went unnoticed")
            version = xsimd_version(compiler, known)
            print(f"{compiler}: {len(real)} faults; with 48 sums a tile: {len(crowded)}; with the fma of xsimd {version[0]}.{version[1]}: {len(spoilt)} faults")
            if not spoilt and version < FIRST_SOUND_XSIMD:
                failures.append(f"{compiler}: xsimd's fma went unnoticed")
            elif not spoilt:
                print(f"SKIPPED: {compiler}: this xsimd emits the instruction itself, so the veneer cannot be spoilt with it")
        for compiler in ("g++", "clang++"):
            if not shutil.which(compiler):
                print(f"SKIPPED: {compiler} is not installed")
    print("\n".join(failures) or "every inner loop is made of vfmadd on zmm registers and keeps its vectors in registers")
    sys.exit(1 if failures else 0)


main()
