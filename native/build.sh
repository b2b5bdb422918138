#!/bin/sh
# Builds the shim: static, with musl where there is one (224 kB of memory a container; glibc takes about 700 more).
# usage: native/build.sh [OUTPUT]     default: dist/shim; SANITIZE=1 builds the test variant with clang.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
output=${1:-"$here/../dist/shim"}
mkdir -p "$(dirname "$output")"
warnings="-Wall -Wextra -Wno-override-init -Wno-unused-function -Wno-format-truncation"
if [ "${SANITIZE:-}" = 1 ]; then
  # shellcheck disable=SC2086
  exec clang -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer \
    -Wall -Wextra -Wno-initializer-overrides -Wno-unused-function -o "$output" "$here/shim.c"
fi
if command -v musl-gcc >/dev/null 2>&1; then compiler=musl-gcc; else compiler=${CC:-gcc}; fi
# Written beside and moved into place, so that a shim that is being started never sees half a file.
temporary="$output.$$"
trap 'rm -f "$temporary"' EXIT
# shellcheck disable=SC2086
"$compiler" -std=gnu11 -O2 -static -s $warnings -o "$temporary" "$here/shim.c"
mv "$temporary" "$output"
# What starts execs, beside it.
# shellcheck disable=SC2086
"$compiler" -std=gnu11 -O2 -static -s $warnings -o "$temporary" "$here/exec.c"
mv "$temporary" "$(dirname "$output")/exec-helper"
# The init for `--init`, where the host has none, and what makes namespaces for --userns-remap; only beside the shim that
# is installed.
if [ $# -eq 0 ]; then
  for name in init holder; do
    # shellcheck disable=SC2086
    "$compiler" -std=gnu11 -Os -static -s $warnings -o "$temporary" "$here/$name.c"
    mv "$temporary" "$(dirname "$output")/$name"
  done
fi
