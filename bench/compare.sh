#!/bin/sh
# Runs the benchmark of Docker API servers on Longshore, dockerd and podman in one go, rounds taking turns. Each
# engine gets its own roots, and its own network and mount namespace, in which the hybrid unified cgroup mount is
# taken away so that crun works on cgroup v1.
#   bench/compare.sh OUTDIR [bench.mjs options, e.g. --only start-latency,exec]
#   RUNTIME=runc ENGINES="longshore dockerd" bench/compare.sh ...
#   PROGRAM=bench/stats-load.ts ... another program than the benchmark, with the same options
# Needs dockerd (docker.io) and podman from Debian, and the benchmark at $BENCH (default ../shared/bench).
set -eu
cd "$(dirname "$0")/.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
PATH=$PWD/node_modules/.bin:$PATH # Node.js 24
bench=${BENCH:-../shared/bench}
runtime=${RUNTIME:-crun}
engines=${ENGINES:-longshore dockerd podman}
root=$(mktemp -d /tmp/lsb.XXXX)
sh scripts/build.sh
pids=
finish() {
  for pid in $pids; do kill "$pid" 2>/dev/null || true; done
  for pid in $pids; do wait "$pid" 2>/dev/null || true; done
  sleep 1
  for pid in $(cat "$root"/*/containerd.pid 2>/dev/null); do kill "$pid" 2>/dev/null || true; done
  awk -v root="$root" 'index($5, root) == 1 {print $5}' /proc/self/mountinfo | sort -r | xargs -r -n1 umount -l
  rm -rf "$root"
}
trap finish EXIT
trap 'exit 130' INT TERM

# in its own network and mount namespaces; stays the process that was started
isolated='ip link set lo up; [ "$RUNTIME" != crun ] || umount -l /sys/fs/cgroup/unified 2>/dev/null || true; exec "$@"'
export RUNTIME="$runtime"
command_of() { # NAME DIRECTORY
  case $1 in
    longshore) echo "$PWD/bin/longshore daemon --host unix://$2/s --data-root $2/data --exec-root $2/exec --pidfile $2/pid --bridge lsb0 --default-runtime $runtime --config-file $2/none.json" ;;
    dockerd) echo "dockerd --host unix://$2/s --data-root $2/data --exec-root $2/exec --pidfile $2/pid --storage-driver overlay2 --add-runtime crun=/usr/bin/crun --default-runtime $runtime --config-file $2/none.json --live-restore" ;;
    podman) echo "env CONTAINERS_CONF=$2/containers.conf podman --root $2/data --runroot $2/exec --runtime $runtime --cgroup-manager cgroupfs --storage-driver overlay system service --time 0 unix://$2/s" ;;
  esac
}
set_up() {
  mkdir -p "$1/data" "$1/exec"
  echo '{}' >"$1/none.json" # so that no engine reads the machine's own settings
  printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n' >"$1/containers.conf" # podman's own default needs CAP_SYS_RESOURCE
}

arguments=
for engine in $engines; do
  directory=$root/$engine
  set_up "$directory"
  set_up "$directory-private"
  # shellcheck disable=SC2046
  unshare -n -m sh -c "$isolated" - $(command_of "$engine" "$directory") >"$out/$engine.log" 2>&1 &
  pid=$!
  pids="$pids $pid"
  for _ in $(seq 300); do [ -S "$directory/s" ] && curl -s -m 2 --unix-socket "$directory/s" http://x/_ping >/dev/null && break; sleep 0.1; done
  arguments="$arguments --engine $engine=unix://$directory/s,pid=$pid"
  printf '#!/bin/sh\nexec unshare -n -m sh -c '\''%s'\'' - %s\n' "$isolated" "$(command_of "$engine" "$directory-private")" >"$root/$engine.sh"
  chmod +x "$root/$engine.sh"
  arguments="$arguments --daemon $engine=$root/$engine.sh --daemon-socket $engine=unix://$directory-private/s"
  case $engine in
    longshore) arguments="$arguments --shim $engine=$directory/exec.*shim|dist/shim.*$directory/ --daemon-shim $engine=dist/shim.*$directory-private" ;;
    dockerd) arguments="$arguments --shim $engine=containerd.*$directory/ --daemon-shim $engine=containerd.*$directory-private" ;;
    podman) arguments="$arguments --shim $engine=conmon.*$directory/ --daemon-shim $engine=conmon.*$directory-private" ;;
  esac
done
# shellcheck disable=SC2086
unshare -m sh -c '[ "$RUNTIME" != crun ] || umount -l /sys/fs/cgroup/unified 2>/dev/null || true; exec "$@"' - node "${PROGRAM:-$bench/bench.mjs}" $arguments --runtime "$runtime=$(command -v "$runtime")" --json "$out/result.json" --markdown "$out/result.md" "$@"
