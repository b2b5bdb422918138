#!/bin/sh
# Makes what the virtual machine boots from, once, below build/vm/: root.img (Debian, read only for every run),
# vmlinuz and initrd. usage: test/vm/rootfs.sh OUTPUT-DIRECTORY
set -eu
here=$(cd "$(dirname "$0")" && pwd)
output=$1
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

# What Longshore needs on a host, and what its tests use. The shim comes compiled all the same (see guest-init.sh).
packages=crun,runc,libnftables1,libseccomp2,busybox-static,iproute2,nftables,curl,socat,bsdutils,mount,util-linux,procps,kmod
packages=$packages,ca-certificates,docker-registry,skopeo,gcc,libc6-dev,libstdc++6,e2fsprogs,apparmor
packages=$packages,systemd,dbus # booted when LSVM_SYSTEMD=1 says so
# To enter the root and drive the disks, before any udev exists; the rest is loaded on demand.
boot_modules="virtio_pci virtio_blk"

mkdir -p "$output"
work=$(mktemp -d "$output/make.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

say "virtual machine: Debian's root file system (once, about a minute)"
mmdebstrap --mode=root --variant=essential --format=directory --quiet --include="$packages" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm "$work/root" \
  'deb http://deb.debian.org/debian bookworm main' 'deb http://deb.debian.org/debian-security bookworm-security main' >&2

say "virtual machine: Debian's cloud kernel (downloaded and unpacked, not installed)"
kernel_package() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1; }
package=$(kernel_package)
[ -n "$package" ] || { apt-get update -qq >&2 && package=$(kernel_package); }
[ -n "$package" ] || { say "no linux-image-cloud-amd64 in the package lists"; exit 1; }
release=${package#linux-image-}
(cd "$work" && { apt-get download -qq "$package" 2>/dev/null || { apt-get update -qq && apt-get download -qq "$package"; }; } && dpkg-deb -x linux-image-*.deb kernel)
cp "$work/kernel/boot/vmlinuz-$release" "$output/vmlinuz"
# Hardware that this machine has not: most of the modules' bytes.
for part in drivers/gpu drivers/infiniband drivers/hv drivers/xen drivers/scsi drivers/nvme drivers/net/ethernet drivers/usb sound; do
  rm -rf "$work/kernel/lib/modules/$release/kernel/$part"
done
mv "$work/kernel/lib/modules" "$work/root/usr/lib/modules"
chroot "$work/root" depmod "$release"

mkdir -p "$work/initrd/bin" "$work/initrd/modules"
cp "$work/root/bin/busybox" "$work/initrd/bin/"
cp "$here/initrd-init.sh" "$work/initrd/init"
chmod 755 "$work/initrd/init"
for module in $boot_modules; do
  chroot "$work/root" modprobe --set-version "$release" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' | while read -r path; do
  name=$(basename "$path")
  cp "$work/root$path" "$work/initrd/modules/$name"
  echo "$name" >>"$work/initrd/modules/order"
done
(cd "$work/initrd" && find . | cpio --quiet -o -H newc) >"$output/initrd"

echo longshore-vm >"$work/root/etc/hostname"
printf '127.0.0.1 localhost longshore-vm\n::1 localhost\n' >"$work/root/etc/hosts"
: >"$work/root/etc/resolv.conf"
rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt" "$work/root/usr/lib/x86_64-linux-gnu/gconv"
mke2fs -q -t ext4 -m 0 -d "$work/root" "$work/root.img" 700M >/dev/null
mv "$work/root.img" "$output/root.img"
