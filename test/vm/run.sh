#!/bin/sh
# Runs tests in a virtual machine with Debian's own kernel, cgroup v2 and every controller: what this host may lack.
# Installs what it needs, caches its disk below build/vm/, leaves nothing running. QEMU without KVM: slow but everywhere.
#   test/vm/run.sh                       every test on the real kernel, and the integration tests
#   test/vm/run.sh 'src/kernel/*.test.ts' ...   these test files
#   test/vm/run.sh COMMAND...            a command, in the work tree; `sh` is a shell (on a terminal)
#   test/vm/run.sh --prepare             installs and makes what is needed, and no more; 3: this machine cannot have one
#   test/vm/run.sh --reboot-test         a power cut under running containers, then a second boot from the same disk
# In the environment: LSVM_LIMIT_S (5400), LSVM_MEMORY_MB (3072), LSVM_BARE_CGROUPS=1 (no controller is enabled), LSVM_SYSTEMD=1 (systemd is process 1),
# LSVM_REVISION (a commit instead of the work tree), LSVM_KERNEL_ARGUMENTS, LSVM_VERBOSE=1 (the kernel's messages), LSVM_TIMES=1 (how long what took).
set -eu
cd "$(dirname "$0")/../.."
tree=$PWD
cache=$tree/build/vm
limit_s=${LSVM_LIMIT_S:-5400}
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

# --- what to boot -------------------------------------------------------------------------------------------------
[ "$(uname -m)" = x86_64 ] || { say "x86_64 only"; exit 3; }
need=
command -v qemu-system-x86_64 >/dev/null || need="$need qemu-system-x86"
command -v mmdebstrap >/dev/null || need="$need mmdebstrap"
command -v mke2fs >/dev/null || need="$need e2fsprogs"
command -v cpio >/dev/null || need="$need cpio"
if [ -n "$need" ]; then
  say "Debian packages to install:$need"
  command -v apt-get >/dev/null || { say "no apt-get here: install these by your own means"; exit 3; }
  # shellcheck disable=SC2086
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $need >/dev/null; } >&2 ||
    { say "these cannot be installed:$need"; exit 3; }
fi
stamp=$cache/made-by
if ! cat test/vm/rootfs.sh test/vm/initrd-init.sh | cmp -s - "$stamp"; then
  sh test/vm/rootfs.sh "$cache"
  cat test/vm/rootfs.sh test/vm/initrd-init.sh >"$stamp"
fi
[ "${1-}" != --prepare ] || exit 0

run=$(mktemp -d "$cache/run.XXXXXX")
chmod 755 "$run"
finish() {
  if [ -s "$run/pid" ]; then kill -KILL "$(cat "$run/pid")" 2>/dev/null || true; fi
  rm -rf "$run"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# --- the work tree, as a disk: linked, not copied, and without what only checks the code ---------------------------
stage=$run/stage
mkdir -p "$stage/build/tools" "$stage/node_modules/.bin"
parts='bin docs native scripts sim src test package.json package-lock.json tsconfig.json tsconfig.build.json README.md'
# shellcheck disable=SC2086
if [ -n "${LSVM_REVISION:-}" ]; then git archive "$LSVM_REVISION" $parts | tar -x -C "$stage"; else cp -al $parts "$stage/"; fi
for module in node_modules/*; do
  case ${module#node_modules/} in
    typescript | @typescript | @types | undici-types | esbuild | @esbuild | oxlint* | @oxlint* | oxfmt | @oxfmt | tinypool) ;;
    *) cp -al "$module" "$stage/node_modules/" ;;
  esac
done
ln -s ../node/bin/node "$stage/node_modules/.bin/node"
if docker=$(PATH=$PATH:$tree/build/tools command -v docker); then cp -L "$docker" "$stage/build/tools/docker"; fi
# Compiled here, from what is in the stage: the machine has no compiler, and another build may be at work in the tree.
mkdir -p "$cache/native"
if [ -n "${LSVM_REVISION:-}" ] || [ ! -e "$cache/native/escape-probe" ] || [ -n "$(find native -type f -newer "$cache/native/shim")" ]; then
  sh "$stage/native/build.sh" >&2
  "$(command -v musl-gcc || echo gcc)" -static -O1 -o "$stage/dist/escape-probe" test/support/escape-probe.c >&2
  cp "$stage"/dist/* "$cache/native/"
else
  mkdir -p "$stage/dist"
  cp "$cache"/native/* "$stage/dist/"
fi
if ! (cd "$stage" && "$tree/node_modules/.bin/node" "$tree/scripts/bundle.mjs") >&2; then
  say "the bundle cannot be built: the daemon will run from source"
  rm -f "$stage"/dist/*.mjs
fi

quoted() { for word; do printf "'%s' " "$(printf %s "$word" | sed "s/'/'\\\\''/g")"; done; }
runs=1
tty=
case ${1-} in
  --reboot-test)
    runs=2
    set -- 'test/vm/power-cut.test.ts'
    ;;
  '') set -- 'src/**/*.root.test.ts' 'test/integration/*.test.ts' 'test/vm/host.test.ts' ;;
esac
case $1 in
  *.test.ts) command="sh test/vm/guest-tests.sh $(quoted "$@")" ;;
  *)
    command=$(quoted "$@")
    if [ -t 0 ] && [ -t 1 ]; then tty=1; fi
    ;;
esac
printf 'exec %s\n' "$command" >"$stage/test/vm/command.sh"
mke2fs -q -t ext4 -m 0 -O ^has_journal -d "$stage" "$run/tree.img" 600M >/dev/null
rm -rf "$stage"
mke2fs -q -t ext4 -m 0 -E lazy_itable_init=1,lazy_journal_init=1 "$run/data.img" 8G >/dev/null

# --- boots --------------------------------------------------------------------------------------------------------
# The kernel speaks to the second serial port, beside the words for this side: "vm: ready", "vm: cut", "vm: exit".
arguments="console=ttyS1 panic=-1 mitigations=off nokaslr random.trust_cpu=on cgroup_no_v1=all"
arguments="$arguments LSVM_TREE=$tree LSVM_TTY=$tty LSVM_BARE_CGROUPS=${LSVM_BARE_CGROUPS:-} LSVM_SYSTEMD=${LSVM_SYSTEMD:-} ${LSVM_KERNEL_ARGUMENTS:-}"
code=1
boot=1
while [ "$boot" -le "$runs" ]; do
  [ "$runs" = 1 ] || say "boot $boot"
  began=$(date +%s)
  : >"$run/control"
  if [ "$boot" -lt "$runs" ]; then
    # The power cut: when the guest asks for it, the machine ends between two instructions.
    (until grep -q '^vm: cut' "$run/control" 2>/dev/null; do sleep 0.1 && [ -e "$run/control" ] || exit 0; done; kill -KILL "$(cat "$run/pid")") &
  fi
  TMPDIR=$run timeout --foreground -k 5 "$limit_s" qemu-system-x86_64 -accel tcg,thread=multi,tb-size=512 -cpu max \
    -machine q35,usb=off,vmport=off -smp 2 -m "${LSVM_MEMORY_MB:-3072}" -nodefaults -no-user-config -display none -no-reboot -nic none \
    -pidfile "$run/pid" -kernel "$cache/vmlinuz" -initrd "$cache/initrd" -append "$arguments LSVM_BOOT=$boot" \
    -chardev stdio,id=console,signal=off -serial chardev:console -serial "file:$run/control" \
    -drive "file=$cache/root.img,format=raw,if=virtio,snapshot=on" -drive "file=$run/tree.img,format=raw,if=virtio,snapshot=on" \
    -drive "file=$run/data.img,format=raw,if=virtio,cache=unsafe" || true
  : >"$run/pid"
  [ "${LSVM_TIMES:-}" != 1 ] || say "the machine was $(sed -n 's/^vm: ready \([0-9.]*\).*/ready after \1/p' "$run/control") s; it ran $(($(date +%s) - began)) s"
  [ "${LSVM_VERBOSE:-}" != 1 ] || cat "$run/control" >&2
  code=$(sed -n 's/^vm: exit \([0-9]*\).*/\1/p' "$run/control")
  if [ "$boot" -lt "$runs" ] && grep -q '^vm: cut' "$run/control"; then code=0; fi
  [ -n "$code" ] || { say "the machine ended without an answer (limit: $limit_s s); its last words:"; tail -n 40 "$run/control" >&2; code=124; }
  [ "$code" = 0 ] || break
  boot=$((boot + 1))
done
exit "$code"
