#!/bin/sh
# npm run demo: the main job without a network or an image. Builds a tiny image from the host's static busybox, runs a
# supervised container (restart policy, health check) through the docker CLI, breaks it twice, and prints what happened.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh
root=$(mktemp -d /tmp/longshore-demo.XXXXXX)
PATH=$PATH:$PWD/build/tools
export DOCKER_HOST="unix://$root/longshore.sock" DOCKER_CONFIG="$root/cli" DOCKER_CLI_HINTS=false
step() { printf '\n\033[1m# %s\033[0m\n' "$1"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }
bin/longshore daemon --host "$DOCKER_HOST" --data-root "$root/data" --exec-root "$root/exec" --pidfile "$root/pid" \
  --bridge lsdemo0 >"$root/daemon.log" 2>&1 &
daemon=$!
finish() {
  docker rm -fv web >/dev/null 2>&1 || true
  kill "$daemon" 2>/dev/null || true
  wait "$daemon" 2>/dev/null || true
  rm -rf "$root"
}
trap finish EXIT
trap 'exit 130' INT TERM
for _ in $(seq 100); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
docker version >/dev/null || { cat "$root/daemon.log"; exit 1; }

step "An image, from this host's busybox"
sh test/support/busybox-image.sh | docker import -c 'CMD ["sh"]' -c 'ENV PATH=/bin' - demo:1

step "A web server that is restarted when it fails, and asked every second whether it works"
show docker run -d --name web --restart on-failure:5 -p 127.0.0.1::8080 \
  --health-cmd 'wget -qO- http://127.0.0.1:8080/' --health-interval 1s demo:1 httpd -f -p 8080 -h /www
until [ "$(docker inspect --format '{{.State.Health.Status}}' web)" = healthy ]; do sleep 0.2; done
show docker ps
show curl -s "http://$(docker port web 8080)/" || true

step "It crashes: its process is killed, twice"
for _ in 1 2; do
  pid=$(docker inspect --format '{{.State.Pid}}' web)
  kill -KILL "$pid"
  until now=$(docker inspect --format '{{.State.Pid}}' web) && [ "$now" != 0 ] && [ "$now" != "$pid" ]; do sleep 0.1; done
  echo "killed pid $pid; it runs again as pid $now"
done
until [ "$(docker inspect --format '{{.State.Health.Status}}' web)" = healthy ]; do sleep 0.2; done
show docker inspect --format 'restarts: {{.RestartCount}}, state: {{.State.Status}}, health: {{.State.Health.Status}}' web

step "The daemon itself is killed: the container does not notice"
pid=$(docker inspect --format '{{.State.Pid}}' web)
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null || true
bin/longshore daemon --host "$DOCKER_HOST" --data-root "$root/data" --exec-root "$root/exec" --pidfile "$root/pid" \
  --bridge lsdemo0 >>"$root/daemon.log" 2>&1 &
daemon=$!
for _ in $(seq 100); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
echo "before: pid $pid; now: $(docker inspect --format 'pid {{.State.Pid}}, {{.State.Status}}, restarts {{.RestartCount}}' web)"

step "Why? The story of the container, as the engine tells it"
bin/longshore why --host "$DOCKER_HOST" web
