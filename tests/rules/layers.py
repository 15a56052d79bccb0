"""The layer rule: a folder of src/ includes only folders below it and itself; each library has the one folder that uses it."""
import re

from rule import accepted, files, finish, noticed

BELOW = {
    "kernels": set(),
    "base": {"kernels"},
    "attention": {"kernels", "base"},
    "task": {"kernels", "base"},
    "optimiser": {"kernels", "base"},
    "theory": {"kernels", "base", "attention", "task", "optimiser"},
    "model": {"kernels", "base", "attention", "task", "optimiser"},
    "probe": {"kernels", "base", "attention", "task", "optimiser", "theory", "model"},
    "train": {"kernels", "base", "attention", "task", "optimiser", "theory", "model", "probe"},
    "ensemble": {"kernels", "base", "attention", "task", "optimiser", "theory", "model", "probe", "train"},
}
ONLY_USER = {"xsimd": ("src/kernels/",), "tbb": ("src/base/",), "oneapi": ("src/base/",), "Random123": ("src/base/",),
             "boost": ("src/optimiser/", "src/ensemble/", "src/train/crossings.cpp"), "boost/numeric": ("src/optimiser/",),
             "boost/math": ("src/ensemble/", "src/train/crossings.cpp")}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def violations(sources):
    found = []
    for path, text in sources:
        parts = path.split("/")
        for bracket, header in INCLUDE.findall(text):
            target = header.split("/")[0]
            where = f"{path} includes {header}"
            for library, users in ONLY_USER.items():
                if header.startswith(library + "/") and not path.startswith((*users, "tests/", "bench/")):
                    found.append(f"{where}: only {' and '.join(users)} may")
            if ".." in header.split("/"):
                found.append(f"{where}: paths start at src/")
            if parts[0] == "src":
                folder = parts[1] if len(parts) > 2 else ""
                if target == "capi":
                    found.append(f"{where}: src/ knows no C ABI")
                elif folder not in BELOW:
                    found.append(f"{path}: {folder or 'src itself'} is not a layer")
                elif target in BELOW and target != folder and target not in BELOW[folder]:
                    found.append(f"{where}: {target} is not below {folder}")
                elif bracket == '"' and target not in BELOW and header != "lamina/lamina.h":
                    found.append(f"{where}: an include in quotes starts with a folder of src/")
            if parts[0] in ("bindings", "include") and bracket == '"' and (target in BELOW or target == "capi"):
                found.append(f"{where}: a binding sees lamina.h alone")
    return found


def self_check():
    def one(path, header):
        return violations([(path, f"// x\n#include {header}\n")])

    noticed(one("src/kernels/a.cpp", '"base/error.hpp"'), "kernels using base")
    noticed(one("src/base/a.cpp", '"task/task.hpp"'), "base using task")
    noticed(one("src/task/a.cpp", '"optimiser/optimiser.hpp"'), "task using its sibling")
    noticed(one("src/theory/a.cpp", '"model/model.hpp"'), "theory using model")
    noticed(one("src/train/a.cpp", '"ensemble/ensemble.hpp"'), "train using ensemble")
    noticed(one("src/train/a.cpp", '"capi/guard.hpp"'), "src using capi")
    noticed(one("src/train/a.cpp", "<oneapi/tbb/parallel_for.h>"), "oneTBB outside base")
    noticed(one("src/model/a.cpp", "<xsimd/xsimd.hpp>"), "xsimd outside kernels")
    noticed(one("src/train/a.cpp", "<boost/any.hpp>"), "Boost outside optimiser, ensemble and crossings")
    noticed(one("src/optimiser/a.cpp", "<boost/math/distributions.hpp>"), "Boost.Math outside ensemble and crossings")
    noticed(one("src/model/a.cpp", '"../task/task.hpp"'), "a path that climbs")
    noticed(one("src/tool/a.cpp", "<vector>"), "a folder that is no layer")
    noticed(one("bindings/cli/a.cpp", '"train/trainer.hpp"'), "a binding using the engine")
    accepted(one("src/train/a.cpp", '"probe/probe.hpp"'), "train using probe")
    accepted(one("src/base/a.cpp", "<oneapi/tbb/parallel_for.h>"), "base using oneTBB")
    accepted(one("capi/a.cpp", '"train/trainer.hpp"'), "capi using train")


self_check()
tree = files(["src", "capi", "include", "bindings"], {".cpp", ".hpp", ".c", ".h", ".in"})
finish(violations(tree), len(tree))
