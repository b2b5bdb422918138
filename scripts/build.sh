#!/bin/sh
# Builds what runs, where it is older than its source: the native programs, and the bundles (one file for the daemon, one
# for the kernel worker). `scripts/build.sh lib` also makes dist/lib, what programs that embed the engine import.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/node_modules/.bin:$PATH
newest() { find "$@" -type f -newer "$stamp" 2>/dev/null | head -n 1; }
mkdir -p build dist
stamp=build/.native
if [ ! -e "$stamp" ] || [ ! -x dist/shim ] || [ ! -x dist/exec-helper ] || [ -n "$(newest native)" ]; then
  sh native/build.sh >&2
  touch "$stamp"
fi
stamp=dist/longshore.js
if [ ! -e "$stamp" ] || [ -n "$(newest src package-lock.json scripts/bundle.mjs)" ]; then
  node scripts/bundle.mjs
fi
if [ "${1-}" = lib ]; then
  rm -rf dist/lib
  tsc -p tsconfig.build.json
fi
