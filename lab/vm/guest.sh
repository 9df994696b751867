#!/bin/bash
# PID 1 of a guest once the host's files are its root: the rest of a system, then one command.
# Called again by systemd where the guest was started with it, for the command alone.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
run=$1
. "$run/settings" # modules: where this kernel's are; shared, systemd: 0 or 1

# What the command says goes to a line of its own; the kernel keeps the console.
run_command() {
	stty -F /dev/ttyS1 raw -echo
	cd /
	setsid --wait /bin/bash -c "$(cat "$run/command")" </dev/null >/dev/ttyS1 2>&1
	echo "hoplite-vm: exit $?" >/dev/ttyS0
	sync
	echo o >/proc/sysrq-trigger
	sleep 60
}

if [ "${2-}" = command ]; then
	run_command
fi

mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/guest /dev/pts /dev/shm
cp -r "$run" /run/hoplite-vm # /tmp, where it was, is about to be covered
run=/run/hoplite-vm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
if [ "$shared" = 1 ]; then
	mount -t virtiofs shared /run/guest || echo "hoplite-vm: the shared directory cannot be mounted"
fi
mkdir -p /lib/modules
ln -sfn "$modules" "/lib/modules/$(uname -r)"
echo /sbin/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
ulimit -n 65536

if [ "$systemd" != 1 ]; then
	run_command
fi

# The host's own services stay out: nothing is started but what this unit needs.
mkdir -p /run/systemd/system
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-update-utmp.service \
	systemd-machine-id-commit.service systemd-firstboot.service ldconfig.service \
	systemd-journal-catalog-update.service systemd-hwdb-update.service apparmor.service; do
	ln -s /dev/null "/run/systemd/system/$unit"
done
: >/etc/fstab
cat >/run/systemd/system/hoplite-vm.service <<END
[Unit]
Description=What this guest was started for
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/bash $run/init.sh $run command
END
exec /lib/systemd/systemd --unit=hoplite-vm.service
