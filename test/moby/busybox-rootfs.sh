#!/bin/sh
# The tree of a busybox image as moby's tests know it: applets in /bin, its users and groups. busybox-rootfs.sh DIRECTORY
set -eu
R=$1
rm -rf "$R"
mkdir -p $R/bin $R/etc $R/tmp $R/root $R/var/spool/mail $R/var/www $R/home $R/usr/sbin $R/usr/bin $R/dev $R/proc $R/sys $R/lib
cp /bin/busybox $R/bin/busybox
for a in $(/bin/busybox --list); do [ $a = busybox ] || ln $R/bin/busybox $R/bin/$a; done
mkdir -p $R/sbin
chmod 1777 $R/tmp
cat > $R/etc/passwd <<E
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
E
cat > $R/etc/group <<E
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
mail:x:8:
kmem:x:9:
wheel:x:10:root
cdrom:x:11:
dialout:x:18:
floppy:x:19:
video:x:28:
audio:x:29:
tape:x:32:
www-data:x:33:
operator:x:37:
utmp:x:43:
plugdev:x:46:
staff:x:50:
lock:x:54:
netdev:x:82:
users:x:100:
nobody:x:65534:
E
touch $R/etc/shadow
