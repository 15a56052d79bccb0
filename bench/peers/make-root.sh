#!/bin/sh
# make-root.sh ROOT: a folder that holds Debian unstable with current peers for the CPU, to be measured beside lamina: PyTorch,
# oneDNN, ONNX Runtime, ggml. As root; about 4 GB. The mirror is the one apt uses here. libsleef-dev and g++ are there for
# torch.compile: without sleef.h it emits scalar code and says nothing.
set -eu

root=${1:?usage: make-root.sh ROOT}
packages="python3-torch python3-numpy python3-dev libtorch-dev libsleef-dev libsleef3 g++ util-linux
  libopenblas0-openmp libopenblas0-pthread libopenblas0-serial libdnnl-dev libggml-dev python3-onnxruntime python3-onnx
  libtcmalloc-minimal4t64"

if ! command -v debootstrap >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq debootstrap >/dev/null
fi
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
if [ -z "$mirror" ]; then
  echo "make-root: apt lists no mirror; run apt-get update first" >&2
  exit 1
fi

inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }

[ -f "$root/etc/debian_version" ] ||
  debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg sid "$root" "$mirror"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
for file in /etc/apt/apt.conf.d/*proxy*; do
  if [ -f "$file" ]; then cp "$file" "$root/etc/apt/apt.conf.d/"; fi
done
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
mountpoint -q "$root/dev" || mount --bind /dev "$root/dev"
inside apt-get -o Acquire::Check-Valid-Until=false update -qq
# shellcheck disable=SC2086  # the list is to be split
inside apt-get install -y -qq --no-install-recommends $packages >/dev/null
rm -rf --one-file-system "$root/tmp/lamina-peers"  # what was compiled before all of this was there stays as slow as it was
inside env LD_PRELOAD=libsleef.so.3 python3 -c '
import torch
from torch._inductor import cpu_vec_isa
print("PyTorch", torch.__version__, "compiles for", cpu_vec_isa.pick_vec_isa())'
