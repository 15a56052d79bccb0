#!/bin/sh
# Installs liblamina of a Meson build to a temporary prefix and the package to a temporary library, and runs its tests.
# Usage: check.sh BUILD_DIR [--rcmd]   (--rcmd: also R CMD build and R CMD check)
set -eu
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
command -v R > /dev/null || { echo "SKIPPED: no R"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR=$work/stage meson install -C "$build" --no-rebuild --quiet
library=$(find "$work/stage" -name liblamina.so | head -n 1)
[ -n "$library" ] || { echo "check.sh: $build installs no liblamina.so"; exit 1; }
prefix=$(dirname "$(dirname "$(dirname "$(find "$work/stage" -name lamina.h)")")")
export LAMINA_PREFIX="$prefix" LAMINA_GOLDEN="$here/../../tests/golden" R_LIBS="$work/library" LD_LIBRARY_PATH="$(dirname "$library")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
unset LAMINA_BUILD 2> /dev/null || true

# A copy: R compiles where the sources are.
mkdir "$work/library"
cp -r "$here" "$work/lamina"
rm -f "$work"/lamina/src/*.o "$work"/lamina/src/*.so "$work/lamina/src/Makevars"
(cd "$work" && R CMD INSTALL --library="$work/library" lamina) > "$work/install.log" 2>&1 || { cat "$work/install.log"; exit 1; }

failed=0
for test in "$here"/tests/*.R; do
  name=$(basename "$test")
  if (cd "$work" && Rscript --vanilla "$test") > "$work/$name.log" 2>&1; then
    echo "ok      $name"
    grep -E '^(golden|interrupted|SKIPPED)' "$work/$name.log" | sed 's/^/        /' || true
  else
    echo "FAILED  $name"
    tail -n 20 "$work/$name.log"
    failed=1
  fi
done

if [ "${2:-}" = --rcmd ]; then
  (cd "$work" && R CMD build lamina && _R_CHECK_FORCE_SUGGESTS_=false R CMD check --no-manual lamina_*.tar.gz) || failed=1
fi
exit $failed
