#!/bin/sh
# /init of a guest: the host's files, read-only, below a file system in memory that takes the writes.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

give_up() {
	echo "hoplite-vm: $*"
	poweroff -f
}

while read module; do
	insmod /modules/$module || echo "hoplite-vm: cannot load $module"
done </modules/order
for word in $(cat /proc/cmdline); do
	case $word in hoplite.run=*) run=${word#*=} ;; esac
done
mount -t virtiofs -o ro host /host || give_up "the host's files cannot be mounted"
mount -t tmpfs -o mode=755 tmpfs /writable
mkdir /writable/upper /writable/work
mount -t overlay -o lowerdir=/host,upperdir=/writable/upper,workdir=/writable/work overlay /root ||
	give_up "no overlay on the host's files"
for directory in proc sys dev; do
	mount -o move /$directory /root/$directory
done
exec switch_root /root /bin/bash $run/init.sh $run
