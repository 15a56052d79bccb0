#!/bin/sh
# install-julia.sh PREFIX: puts Julia 1.5.3 into the folder PREFIX; run it as PREFIX/julia. Nothing outside PREFIX changes.
# Debian 12 has no julia package, so this unpacks Debian 11's and the libraries of that release which it needs, fetched by
# apt under private settings from the mirror that apt uses here. About half a minute and 350 MB.
set -eu

[ $# -eq 1 ] || { echo "usage: install-julia.sh PREFIX" >&2; exit 2; }
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
failed() { echo "install-julia: $1" >&2; exit 1; }

[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || failed "only for Debian on amd64"
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)
[ -n "$mirror" ] || failed "apt has no package lists: run apt-get update"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || failed "the keyring $keyring is missing"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/parts"
echo "deb [signed-by=$keyring] $mirror bullseye main" >"$work/sources.list"
: >"$work/status"
# Settings such as a proxy stay those of the machine; lists, cache and sources are private.
cat >"$work/apt.conf" <<CONFIG
Dir::State "$work";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/parts";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$work/parts";
APT::Sandbox::User "root";
Acquire::Retries "3";
CONFIG

# libunwind8 has to be Debian 11's 1.3.2: with a newer one this Julia crashes as soon as an exception is thrown.
julia="julia julia-common libjulia1 libllvm9 libunwind8 libopenlibm3 libdsfmt-19937-1 libutf8proc2 libpcre2-8-0 libgit2-1.1"
numerics="libgmp10 libmpfr6 libgfortran5 libquadmath0 libz3-4 libffi7 libedit2 libbsd0 libmd0"
network="libcurl3-gnutls libssh2-1 libhttp-parser2.9 libmbedcrypto3 libmbedtls12 libmbedx509-0 librtmp1 libnettle8 libhogweed6
  libldap-2.4-2 libssl1.1"
APT_CONFIG=$work/apt.conf
export APT_CONFIG
apt-get update -qq </dev/null || failed "Debian 11's package list could not be fetched"
# shellcheck disable=SC2086  # lists of words
(cd "$work/debs" && apt-get download -qq $julia $numerics $network </dev/null >/dev/null) || failed "a package of Debian 11 could not be fetched"
unset APT_CONFIG
for package in "$work"/debs/*.deb; do
  dpkg-deb --extract "$package" "$prefix"
done
rm -rf "$prefix/usr/share/doc" "$prefix/usr/share/man" "$prefix/usr/share/lintian"

cat >"$prefix/julia" <<LAUNCHER
#!/bin/sh
# Julia with its own libraries before the system's.
libraries=$prefix/usr/lib/x86_64-linux-gnu
LD_LIBRARY_PATH=\$libraries:\$libraries/julia:$prefix/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec $prefix/usr/bin/julia "\$@"
LAUNCHER
chmod +x "$prefix/julia"
version=$("$prefix/julia" --startup-file=no -e 'try error("thrown") catch; print(VERSION) end') || { rm "$prefix/julia"; failed "Julia was unpacked and does not run"; }
echo "Julia $version in $prefix"
