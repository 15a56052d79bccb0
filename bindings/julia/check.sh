#!/bin/sh
# Runs the package's tests, offline, on the library of a Meson build, from a copy that leaves nothing in the tree.
# Usage: check.sh BUILD_DIR
set -eu
[ $# -eq 1 ] || { echo "usage: check.sh BUILD_DIR" >&2; exit 2; }
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
julia=${JULIA:-julia}
command -v "$julia" >/dev/null || { echo "SKIPPED: no julia; install-julia.sh gets one, JULIA=PREFIX/julia names it"; exit 77; }
library=$(find "$build/capi" -name 'liblamina.so.0' -o -name 'liblamina.0.dylib' | head -n 1)
[ -n "$library" ] || { echo "check.sh: $build/capi has no liblamina" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp -r "$here" "$work/Lamina"
cd "$work/Lamina"
LAMINA_LIBRARY="$library" LAMINA_GOLDEN="${LAMINA_GOLDEN:-$here/../../tests/golden}" JULIA_LOAD_PATH="@:@stdlib" JULIA_DEPOT_PATH="$work/depot" \
  "$julia" --startup-file=no --project=. test/runtests.jl
