#!/bin/sh
# npm run fuzz [-- SECONDS, default 300]: what reads bytes of others, all at once: the shim's parsers under libFuzzer with
# sanitizers, the daemon's under our own fuzzer, and the whole shim under sanitizers against hostile clients.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh test
LONGSHORE_FUZZ_S=${1:-300} exec node_modules/.bin/node --test --test-timeout=$((${1:-300} * 4000 + 600000)) src/shim/fuzz.root.test.ts
