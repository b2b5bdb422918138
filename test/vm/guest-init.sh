#!/bin/sh
# Process 1 of the virtual machine: a host as Longshore expects one (cgroup v2 alone), then the command, then off. Or a
# service of systemd, which has made the host already.
# What the host side has to know goes to the second serial port, a line each: vm: ready, vm: cut, vm: exit CODE.
# shellcheck disable=SC2013
for word in $(cat /proc/cmdline 2>/dev/null); do case $word in LSVM_*=*) export "$word" ;; esac; done
export PATH=$LSVM_TREE/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$LSVM_TREE/build/tools
export HOME=/root TMPDIR=/tmp NO_COLOR=1
say() { echo "vm: $*" >/dev/ttyS1; }
make_host() {
  mount -t proc proc /proc
  mount -t sysfs sys /sys
  mkdir -p /dev/pts /dev/shm
  mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
  mount -t tmpfs tmpfs /dev/shm
  mount -t tmpfs -o mode=755 tmpfs /run
  mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
  mount -t securityfs securityfs /sys/kernel/security
  mkdir -p /run/lock
  hostname longshore-vm
  ip link set lo up
}
[ $$ != 1 ] || make_host
stty -F /dev/ttyS0 raw -echo
ulimit -n 524288 # as systemd's services; more than some hosts let root have
ulimit -c 0
# As systemd does for every controller that a unit below asks for; an engine has to cope with either.
[ "${LSVM_BARE_CGROUPS:-}${LSVM_SYSTEMD:-}" = 1 ] || for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
for module in loop overlay bridge br_netfilter veth nf_tables nf_conntrack nft_ct nft_chain_nat nft_masq nft_redir nft_fib_inet nft_reject_inet; do
  modprobe "$module" || echo "no module $module" >&2
done
# Compiling the shim takes long in here: what the host compiled from the same sources is handed out.
cat >/usr/local/bin/musl-gcc <<END
#!/bin/sh
while [ \$# -gt 0 ]; do case \$1 in -o) out=\$2; shift ;; *.c) source=\$1 ;; esac; shift; done
name=\$(basename "\$source" .c)
[ "\$name" != exec ] || name=exec-helper
exec cp "$LSVM_TREE/dist/\$name" "\$out"
END
chmod 755 /usr/local/bin/musl-gcc
cd "$LSVM_TREE" || exit 1
say "ready $(cut -d ' ' -f 1 /proc/uptime)"
export LSVM_BOOT
if [ "${LSVM_TTY:-}" = 1 ]; then
  stty -F /dev/ttyS0 sane
  setsid -c sh test/vm/command.sh </dev/ttyS0 >/dev/ttyS0 2>&1
else
  sh test/vm/command.sh </dev/null >/dev/ttyS0 2>&1
fi
code=$?
sync
echo 1 >/proc/sys/kernel/printk # a message must not split the line
say "exit $code"
echo o >/proc/sysrq-trigger
sleep 60
