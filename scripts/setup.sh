#!/bin/sh
# Makes a fresh Debian 12 machine (root, Node.js >= 18, npm) ready to build and run Longshore. Each step is skipped
# when its result is there already. Names what it is about to install before it does.
#   scripts/setup.sh          what `npm start` needs
#   scripts/setup.sh test     and what the tests need
set -eu
cd "$(dirname "$0")/.."
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

[ "$(uname -s)" = Linux ] || { say "Longshore runs on Linux only"; exit 1; }
[ "$(id -u)" = 0 ] || { say "run this as root: containers need it"; exit 1; }

# --- npm packages (Node.js 24 is one of them) ---------------------------------------------------------------------
if [ ! -x node_modules/.bin/node ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  say "npm packages: installing the locked versions (Node.js 24 itself is one of them)"
  # Not `npm ci`: it refuses a lock that lacks optional packages of other platforms, and a registry that does not serve
  # those cannot make another. This takes the same locked versions and leaves the lock file alone.
  npm install --no-save --no-audit --no-fund --loglevel=error >&2
fi

# --- Debian packages ----------------------------------------------------------------------------------------------
has_library() { ldconfig -p | grep -q "$1"; }
need=
want() { need="$need $1"; }
command -v crun >/dev/null || want crun # the OCI runtime
command -v runc >/dev/null || want runc # where crun cannot run: cgroup v1 in hybrid mode
has_library libnftables.so.1 || want libnftables1
has_library libseccomp.so.2 || want libseccomp2
command -v gcc >/dev/null || want gcc # compiles the shim
command -v musl-gcc >/dev/null || want musl-tools # makes it small
[ -f /usr/include/linux/types.h ] || want libc6-dev
command -v busybox >/dev/null && busybox --help 2>/dev/null | grep -q multi-call || want busybox-static # demo and tests
if [ "${1-}" = test ]; then
  command -v nft >/dev/null || want nftables
  command -v ip >/dev/null || want iproute2
  command -v script >/dev/null || want bsdutils
  command -v curl >/dev/null || want curl
  command -v openssl >/dev/null || want openssl # certificates of the TLS tests
  command -v docker-registry >/dev/null || want docker-registry
  command -v skopeo >/dev/null || want skopeo
  command -v mmdebstrap >/dev/null || want mmdebstrap
  command -v ps >/dev/null || want procps
  # Fuzzers and sanitizers for the shim: the runtime library is of clang's own version, which Debian's name for it says.
  if ! command -v clang >/dev/null || [ ! -e "$(clang -print-resource-dir)/lib/linux/libclang_rt.fuzzer-$(uname -m).a" ]; then
    version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
    want "clang libclang-rt-${version:-14}-dev"
  fi
fi
if [ -n "$need" ]; then
  say "Debian packages to install:$need"
  command -v apt-get >/dev/null || { say "no apt-get here: install these by your own means"; exit 1; }
  apt-get update -qq >&2
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $need >/tmp/longshore-apt.$$ 2>&1 || { cat /tmp/longshore-apt.$$ >&2; exit 1; }
  rm -f /tmp/longshore-apt.$$
fi

# --- the docker CLI, where there is none: Debian's package has the daemon in it too, so only the client is taken out --
if ! command -v docker >/dev/null && [ ! -x build/tools/docker ]; then
  say "docker CLI: taking it out of Debian's docker.io package, to build/tools/docker (nothing else of it is installed)"
  mkdir -p build/tools
  tmp=$(mktemp -d)
  chmod 755 "$tmp"
  (cd "$tmp" && { apt-get download -qq docker.io || { apt-get update -qq && apt-get download -qq docker.io; }; } && dpkg-deb -x docker.io_*.deb .) >&2
  cp "$tmp/usr/bin/docker" build/tools/docker
  rm -rf "$tmp"
fi

sh scripts/build.sh
