#!/bin/sh
# Installs the package by pip, offline, into a fresh virtual environment, and runs its tests on the library of a Meson build.
# Usage: check.sh BUILD_DIR
set -eu
[ $# -eq 1 ] || { echo "usage: check.sh BUILD_DIR" >&2; exit 2; }
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-/usr/bin/python3}
"$python" -c 'import numpy, pytest, setuptools, venv' 2>/dev/null || { echo "SKIPPED: $python lacks numpy, pytest, setuptools or venv"; exit 77; }
library=$(find "$build/capi" -name 'liblamina.so.0' -o -name 'liblamina.0.dylib' | head -n 1)
[ -n "$library" ] || { echo "check.sh: $build/capi has no liblamina" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv --system-site-packages "$work/venv"
# A copy: setuptools writes beside the sources.
cp -r "$here" "$work/source"
"$work/venv/bin/python" -m pip install --quiet --no-index --no-deps --no-build-isolation "$work/source"
cd "$work/source/tests"
LAMINA_LIBRARY="$library" LAMINA_GOLDEN="${LAMINA_GOLDEN:-$here/../../tests/golden}" MPLBACKEND=Agg \
  "$work/venv/bin/python" -m pytest -q -rs -p no:cacheprovider .
