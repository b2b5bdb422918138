#!/bin/sh
# Runs moby's own integration tests against a daemon of ours: those of Debian's docker.io source package (20.10), compiled
# with Debian's Go. They were written for dockerd; docs/testing.md says which of them cannot pass here and why.
#   test/moby/run.sh                     the groups of the CLI suite, one after the other, and the API packages
#   test/moby/run.sh cli REGEXP          tests of integration-cli: TestRun, TestBuildAdd...
#   test/moby/run.sh api PACKAGE [RE]    a package of integration/: container, image, network, volume, build, system
# In the environment: MOBY_WORK (default build/moby): sources, binaries, the daemon's roots and what the tests print.
# Needs some 3 GB and ten minutes the first time, the source package and its build dependencies (installed here).
set -eu
cd "$(dirname "$0")/../.."
tree=$PWD
work=${MOBY_WORK:-$tree/build/moby}
host=unix://$work/d/s.sock
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
mkdir -p "$work"

# --- moby's tests, compiled --------------------------------------------------------------------------------------------
export GOPATH="$work/go:/usr/share/gocode" GO111MODULE=off GOFLAGS=-p=2 GOCACHE="$work/gocache"
moby=$work/go/src/github.com/docker/docker
if [ ! -x "$work/cli.test" ]; then
  say "Debian's source of docker.io, and what it is built with"
  sources=/etc/apt/sources.list.d/longshore-moby.list
  echo 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main' >"$sources"
  trap 'rm -f "$sources"' EXIT
  apt-get update -qq >&2
  (cd "$work" && apt-get source -qq --download-only docker.io >&2 && rm -rf source && dpkg-source -x --no-check docker.io_*.dsc source >&2)
  DEBIAN_FRONTEND=noninteractive apt-get build-dep -y -qq docker.io >&2
  rm -f "$sources"
  trap - EXIT
  mkdir -p "$work/go/src/github.com/docker"
  for part in docker:engine cli:cli libnetwork:libnetwork swarmkit:swarmkit; do
    rm -rf "$work/go/src/github.com/docker/${part%:*}"
    cp -a "$work/source/${part#*:}" "$work/go/src/github.com/docker/${part%:*}"
  done
  # Debian leaves Windows' libraries out; the tests name a few of its versions.
  stub=$work/go/src/github.com/Microsoft/hcsshim/osversion
  mkdir -p "$stub"
  printf '%s\n' 'package osversion' 'const (RS1 = 14393; RS2 = 15063; RS3 = 16299; RS4 = 17134; RS5 = 17763; V19H1 = 18362)' \
    'type OSVersion struct { Version uint32; MajorVersion, MinorVersion uint8; Build uint16 }' \
    'func Get() OSVersion { return OSVersion{} }' 'func Build() uint16 { return 0 }' >"$stub/osversion.go"
  say "compiling moby's tests"
  (cd "$moby" && go test -c -o "$work/cli.test" ./integration-cli && for package in build container image network system volume; do
    go test -c -o "$work/$package.test" "./integration/$package"
  done)
fi

# --- a daemon, and the images that the tests expect -----------------------------------------------------------------------
sh scripts/setup.sh test
mkdir -p "$work/d" "$work/dest" "$work/home"
"$tree/bin/longshore" daemon --host "$host" --data-root "$work/d/data" --exec-root "$work/d/exec" --pidfile "$work/d/pid" \
  --bridge lsmoby0 --bip 10.213.0.1/16 --default-address-pool base=10.214.0.0/16,size=24 >"$work/d/log" 2>&1 &
daemon=$!
export DOCKER_HOST="$host" PATH="$PATH:$tree/build/tools"
finish() {
  ids=$(docker ps -aq)
  # shellcheck disable=SC2086
  if [ -n "$ids" ]; then docker rm -fv $ids >/dev/null; fi
  kill "$daemon"
  wait "$daemon" || true
}
trap finish EXIT
for _ in $(seq 100); do docker version >/dev/null 2>&1 && break || sleep 0.1; done
sh test/moby/busybox-rootfs.sh "$work/rootfs"
for name in busybox:latest busybox:glibc debian:bullseye-slim hello-world:frozen; do
  tar -C "$work/rootfs" -c . | docker import -c 'CMD ["sh"]' -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$name" >/dev/null
done

# --- the tests ------------------------------------------------------------------------------------------------------------
export DOCKER_GRAPHDRIVER=overlay2 DOCKER_BUILDKIT=0 DEST="$work/dest" HOME="$work/home" TEST_CLIENT_BINARY="$(command -v docker)"
run() { # NAME DIRECTORY BINARY REGEXP
  log=$work/$1.log
  (cd "$2" && timeout 1500 "$3" -test.v -test.timeout 60m -test.run "$4") >"$log" 2>&1 || true
  count() { grep -c "^ *--- $1" "$log" || true; }
  printf '%s: %s passed, %s failed, %s skipped (%s)\n' "$1" "$(count PASS)" "$(count FAIL)" "$(count SKIP)" "$log"
  grep '^ *--- FAIL: [^ ]*/' "$log" || true
}
cli() { run "cli-$1" "$moby/integration-cli" "$work/cli.test" "TestDockerSuite/$1"; }
# Without the tests that start a dockerd of their own.
api() { DOCKER_REMOTE_DAEMON=1 run "api-$1" "$moby/integration/$1" "$work/$1.test" "${2:-.}"; }
case ${1:-all} in
  cli) cli "$2" ;;
  api) api "$2" "${3:-.}" ;;
  all)
    for group in Run Ps Exec Inspect Events Cp ContainerAPI Create Commit Logs Network User Volume Links Rm Rmi Save Import Images Port Restart Start Attach Health Update Stats Top History Info Tag Get Post Docker Build; do cli "Test$group"; done
    for package in container image network volume system; do api "$package"; done
    ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 1 ;;
esac
