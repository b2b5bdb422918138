#!/bin/busybox sh
# The first program of the virtual machine: finds the three disks, and hands over to the work tree's own init.
# From the kernel's command line come: LSVM_TREE (where the work tree stands, as on the host).
bb=/bin/busybox
$bb mkdir -p /proc /dev /root
$bb mount -t proc proc /proc
$bb mount -t devtmpfs dev /dev
while read -r module; do $bb insmod "/modules/$module"; done </modules/order
while [ ! -b /dev/vdc ]; do $bb usleep 20000; done
$bb mount -t ext4 -o noatime /dev/vda /root # a snapshot: what is written to it is gone with the machine
$bb mkdir -p /root/data
$bb mount -t ext4 -o noatime /dev/vdc /root/data
$bb mkdir -p /root/data/lib /root/data/tmp
$bb chmod 1777 /root/data/tmp
$bb mount --bind /root/data/lib /root/var/lib
$bb mount --bind /root/data/tmp /root/tmp
$bb mkdir -p "/root$LSVM_TREE" # last: it may be below one of those
$bb mount -t ext4 -o noatime /dev/vdb "/root$LSVM_TREE" # a snapshot, too
$bb umount /proc
$bb mount --move /dev /root/dev
[ "${LSVM_SYSTEMD:-}" = 1 ] || exec $bb switch_root /root "$LSVM_TREE/test/vm/guest-init.sh"
# systemd's services get none of the kernel's words: guest-init.sh looks for them itself.
$bb cat >/root/etc/systemd/system/longshore-vm.service <<END
[Unit]
Requires=dbus.socket
After=dbus.socket sysinit.target
[Service]
ExecStart=/bin/sh $LSVM_TREE/test/vm/guest-init.sh
END
exec $bb switch_root /root /lib/systemd/systemd --unit=longshore-vm.service
