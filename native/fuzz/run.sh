#!/bin/sh
# Fuzzes the shim's parsers under sanitizers, both at once. usage: native/fuzz/run.sh [SECONDS, default 20]
# `npm run fuzz -- SECONDS` does this, the daemon's parsers, and the whole shim against hostile clients.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fuzz() { # TARGET SECONDS
  clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Wall -Wextra -D_GNU_SOURCE \
    -o "$work/$1" "$here/fuzz-$1.c" || return 1
  mkdir "$work/corpus-$1"
  (cd "$work" && "./$1" -max_total_time="$2" -max_len=2048 -verbosity=0 -print_final_stats=1 "corpus-$1") >"$work/$1.txt" 2>&1
}
pids=
for target in frame jsonlog; do
  fuzz "$target" "${1:-20}" &
  pids="$pids $!"
done
failed=0
for pid in $pids; do wait "$pid" || failed=1; done
for target in frame jsonlog; do
  [ "$failed" = 0 ] || cat "$work/$target.txt" >&2 || true
  sed -n "s/^stat::\(number_of_executed_units\)/$target: \1/p" "$work/$target.txt"
done
exit "$failed"
