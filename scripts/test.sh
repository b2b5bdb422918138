#!/bin/sh
# npm test [-- NAME...]: sets up, then checks types, lint and format, and runs every test: unit, property, simulation,
# on the real kernel, with the real docker CLI; last that nothing is left on the host. With NAMEs (paths or globs): those
# test files only.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh test
PATH=$PWD/node_modules/.bin:$PATH:$PWD/build/tools
export PATH
out=$(mktemp -d /tmp/lstest.XXXXXX)
trap 'rm -rf "$out"' EXIT
passed=0 failed=0 skipped=0
count() { sed -n "s/^[^a-z]* *$2 \([0-9]*\)$/\1/p" "$1" | tail -n 1; }
# Runs node's test runner and adds up its totals; a run without totals (it died) counts as a failure.
run_tests() {
  { node --test --test-reporter=spec "$@" 2>&1 || echo $? >"$out/status"; } | tee "$out/log"
  status=$(cat "$out/status" 2>/dev/null || echo 0)
  rm -f "$out/status"
  passed=$((passed + $(count "$out/log" pass || echo 0) + 0))
  failed=$((failed + $(count "$out/log" fail || echo 1) + $(count "$out/log" cancelled || echo 0) + 0))
  skipped=$((skipped + $(count "$out/log" skipped || echo 0) + 0))
  [ "$status" = 0 ] || [ "$failed" != 0 ] || failed=$((failed + 1))
}
# "types", "lint" and "format" count as a test each.
check() {
  if "$@" >"$out/check" 2>&1; then passed=$((passed + 1)); echo "✔ $*"; else failed=$((failed + 1)); echo "✖ $*"; cat "$out/check"; fi
}

if [ $# -gt 0 ]; then
  run_tests --test-concurrency=2 --test-timeout=600000 "$@"
else
  check tsc --noEmit -p .
  check oxlint --type-aware --deny-warnings .
  check oxfmt --check .
  node test/support/leftovers.ts "$out/before.json"
  run_tests --test-concurrency=3 --test-timeout=900000 'src/**/*.test.ts' 'test/*.test.ts' 'test/simulation/*.test.ts' 'test/integration/*.test.ts'
  LEFTOVERS_BEFORE=$out/before.json run_tests 'test/after/*.test.ts'
fi
printf '\n%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
