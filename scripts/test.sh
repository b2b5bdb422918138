#!/bin/sh
# npm test [-- NAME...]: sets up, then checks types, lint and format, and runs every test: unit, property, simulation,
# on the real kernel, with the real docker CLI; that nothing is left on the host; last limits, stats, OOM, lifecycle and AppArmor in a
# virtual machine with cgroup v2. With NAMEs (paths or globs): those test files only.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh test
PATH=$PWD/node_modules/.bin:$PATH:$PWD/build/tools
export PATH
out=$(mktemp -d /tmp/lstest.XXXXXX)
trap 'rm -rf "$out"' EXIT
passed=0 failed=0 skipped=0
count() { sed -n "s/^[^a-z]* *$2 \([0-9]*\)$/\1/p" "$1" | tail -n 1; }
run_tests() { run_counted node --test --test-reporter=spec "$@"; }
# Adds up the totals of node's test runner; a run without totals (it died) counts as a failure.
run_counted() {
  : >"$out/status"
  { "$@" 2>&1 || echo $? >"$out/status"; } | tee "$out/log"
  status=$(cat "$out/status")
  status=${status:-0}
  passed=$((passed + $(count "$out/log" pass || echo 0) + 0))
  failed=$((failed + $(count "$out/log" fail || echo 1) + $(count "$out/log" cancelled || echo 0) + 0))
  skipped=$((skipped + $(count "$out/log" skipped || echo 0) + 0))
  [ "$status" = 0 ] || [ "$failed" != 0 ] || failed=$((failed + 1))
}
# What this machine cannot do, by name.
not_run() { printf 'not run: %s\n' "$*" | tee -a "$out/not-run"; }
# The parts that depend on the version of control groups, on Debian's own kernel with v2. Bounded: a machine that hangs ends.
run_in_vm() {
  set -- test/integration/limits.root.test.ts src/runtime/cgroup-update.root.test.ts test/vm/lifecycle.test.ts test/vm/apparmor.test.ts
  code=0
  wait "$vm_disk" || code=$?
  if [ "$code" = 3 ]; then
    not_run "virtual machine with cgroup v2 ($*): $(tail -n 1 "$out/vm-disk")"
    return
  fi
  cat "$out/vm-disk"
  run_counted env LSVM_LIMIT_S="${LSVM_LIMIT_S:-900}" sh test/vm/run.sh "$@"
}
# "types", "lint" and "format" count as a test each.
check() {
  if "$@" >"$out/check" 2>&1; then passed=$((passed + 1)); echo "✔ $*"; else failed=$((failed + 1)); echo "✖ $*"; cat "$out/check"; fi
}

if [ $# -gt 0 ]; then
  run_tests --test-concurrency=2 --test-timeout=600000 "$@"
else
  # Its disk is made once (a minute), while the code is checked.
  nice sh test/vm/run.sh --prepare >"$out/vm-disk" 2>&1 &
  vm_disk=$!
  check tsc --noEmit -p .
  check oxlint --type-aware --deny-warnings .
  check oxfmt --check .
  node test/support/leftovers.ts "$out/before.json"
  run_tests --test-concurrency=3 --test-timeout=900000 'src/**/*.test.ts' 'test/*.test.ts' 'test/simulation/*.test.ts' 'test/integration/*.test.ts'
  LEFTOVERS_BEFORE=$out/before.json run_tests 'test/after/*.test.ts'
  run_in_vm
  [ ! -e "$out/not-run" ] || { printf '\n'; cat "$out/not-run"; }
fi
printf '\n%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
