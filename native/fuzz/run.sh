#!/bin/sh
# Fuzzes the shim's parsers under sanitizers. usage: native/fuzz/run.sh [SECONDS for each target, default 20]
# The whole shim under sanitizers against hostile clients:
#   SANITIZE=1 native/build.sh /tmp/shim-asan && LONGSHORE_TEST_SHIM=/tmp/shim-asan node --test src/shim/*.root.test.ts
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for target in frame jsonlog; do
  clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Wall -Wextra -D_GNU_SOURCE \
    -o "$work/$target" "$here/fuzz-$target.c"
  mkdir "$work/corpus-$target"
  (cd "$work" && "./$target" -max_total_time="${1:-20}" -max_len=2048 -verbosity=0 -print_final_stats=1 "corpus-$target") \
    2>"$work/$target.txt" || { cat "$work/$target.txt"; exit 1; }
  grep -E 'number_of_executed_units' "$work/$target.txt" | sed "s/^/$target: /"
done
