#!/bin/sh
# Builds what runs: the shim (native/), and dist/ (one file for the daemon, one for the kernel worker).
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/node_modules/.bin:$PATH
newest() { find "$@" -type f -newer "$stamp" 2>/dev/null | head -n 1; }
stamp=build/.native
if [ ! -e "$stamp" ] || [ -n "$(newest native)" ]; then
  sh native/build.sh >&2
  mkdir -p build && touch "$stamp"
fi
stamp=dist/.built
if [ ! -e "$stamp" ] || [ -n "$(newest src package.json scripts/bundle.mjs)" ]; then
  find dist -mindepth 1 ! -name shim ! -name init -delete 2>/dev/null || true # the native ones stay
  tsc -p tsconfig.build.json
  node scripts/bundle.mjs
  touch "$stamp"
fi
