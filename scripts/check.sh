#!/bin/sh
# Type check, lint and format check.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/node_modules/.bin:$PATH
tsc --noEmit -p .
oxlint --type-aware --deny-warnings .
oxfmt --check .
