"""The objects of different instruction sets share no name. An inline function compiled with AVX flags would be a weak symbol, and
the linker may pick it for everyone: then an older CPU dies. Arguments: nm, then the kernel libraries."""
import re
import subprocess
import sys

from rule import accepted, finish, noticed

SYMBOL = re.compile(r"^[0-9a-fA-F]+ (\w) (\S+)$", re.MULTILINE)


def defined(listing):
    """(kind, name) of what an object defines for others: global, weak, unique or common; nm prints local kinds in lower case."""
    return [(kind, name) for kind, name in SYMBOL.findall(listing) if kind.isupper() or kind in "uvw"]


def violations(listings):
    found, owner = [], {}
    for library, listing in listings.items():
        for kind, name in defined(listing):
            if kind in "VvWwu":
                found.append(f"{library}: weak symbol {name}")
            if name in owner:
                found.append(f"{name} is defined in {owner[name]} and in {library}")
            owner[name] = library
    return found


noticed(violations({"a": "0000 W f\n"}), "a weak symbol")
noticed(violations({"a": "0000 T f\n", "b": "0010 T f\n"}), "a shared symbol")
accepted(violations({"a": "0000 D x::f64\n0000 t f\n                 U fma\n", "b": "0000 D y::f64\n0000 t f\n"}), "local functions")

nm, libraries = sys.argv[1], sys.argv[2:]
listings = {path: subprocess.run([nm, path], check=True, capture_output=True, text=True).stdout for path in libraries}
for path, listing in listings.items():
    if not defined(listing):
        sys.exit(f"{path} defines nothing")
finish(violations(listings), sum(len(defined(listing)) for listing in listings.values()))
