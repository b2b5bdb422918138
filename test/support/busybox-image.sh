#!/bin/sh
# Writes a root file system made of the host's static busybox to standard output, as a tar.
set -e
bb=$(command -v busybox)
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
mkdir -p bin etc tmp root home/app var/tmp www proc sys dev run usr/bin sbin
chmod 1777 tmp var/tmp
chmod 700 root
chown 1000:1000 home/app
cp "$bb" bin/busybox
# In its own shell `ln` is no program to start: it is made for hundreds of links, and slow hosts wait for each.
"$bb" sh -c 'for applet in $("$0" --list); do [ "$applet" = busybox ] || ln -s busybox "bin/$applet"; done' "$bb"
printf 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >etc/passwd
printf 'root:x:0:\napp:x:1000:\nstaff:x:50:app\nnogroup:x:65534:\n' >etc/group
echo hello >www/index.html
tar --numeric-owner -c .
