#!/bin/sh
# Everything that the demo, the tests and the benchmarks need, on Debian 12+ or Ubuntu 24.04:
# the Debian packages that are missing, and .venv with the dependencies of requirements.lock.
# Run by `make setup`; a second run finds everything there and does nothing.
#
# `deploy/setup.sh kernels` has also what boots other kernels under emulation (make test-kernels).
set -eu

cd "$(dirname "$0")/.."

# BCC (python3-bpfcc) and libbpf cannot come from PyPI: the `bcc` there is an unrelated library.
# curl, nginx, redis-server and dnsmasq-base are what the demo and the tests run as workloads; qperf
# and wrk are the benchmarks' clients.
PACKAGES="python3-venv python3-bpfcc libbpf1 curl nginx redis-server dnsmasq-base qperf wrk"
SERVICES="nginx redis-server"
# The keyring is Debian's, on Ubuntu as well: so are the kernels.
KERNEL_PACKAGES="qemu-system-x86 kmod cpio debian-archive-keyring systemd"
PYTHON=/usr/bin/python3 # the one that python3-bpfcc is made for
POLICY=/usr/sbin/policy-rc.d
VENV=.venv

fail() {
	echo "setup: $*" >&2
	exit 1
}

missing_packages() {
	for package in $PACKAGES; do
		state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || :)
		[ "$state" = installed ] || echo "$package"
	done
}

# Debian starts a service as soon as its package is installed. Ours are run by the lab alone, so
# nothing may be started on this machine: policy-rc.d (a file that the machine's owner may have
# made for reasons of their own, and then keeps) says so during the installation, and afterwards
# the new services are disabled, lest the next boot starts them.
install_packages() {
	missing=$*
	[ "$(id -u)" = 0 ] ||
		fail "Debian packages are missing: $missing; run: sudo make setup"
	echo "setup: installing Debian packages: $missing"
	if [ ! -e "$POLICY" ]; then
		trap 'rm -f "$POLICY"' EXIT
		trap 'exit 130' INT TERM
		printf '#!/bin/sh\nexit 101\n' >"$POLICY"
		chmod 755 "$POLICY"
	fi
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
	# A failed update is no reason to stop: the lists that are there may do.
	apt_get update || echo "setup: going on with the package lists that are there" >&2
	# shellcheck disable=SC2086 # a list of names
	apt_get install --yes --no-install-recommends $missing ||
		fail "these packages could not be installed: $missing; correct that and run this again"
	for service in $SERVICES; do
		case " $missing " in *" $service "*)
			! command -v systemctl >/dev/null || systemctl disable --quiet "$service" || :
			;;
		esac
	done
}

# Quiet unless it fails, and then what apt itself calls the error.
apt_get() {
	if ! output=$(apt-get --quiet "$@" 2>&1 </dev/null); then
		printf '%s\n' "$output" | grep -E '^(E|W):' | sed 's/^/setup: apt-get: /' >&2 || :
		return 1
	fi
}

# .venv belongs to whoever owns the clone, also when set-up runs under sudo.
as_owner() {
	owner=$(stat -c %u .)
	if [ "$(id -u)" != 0 ] || [ "$owner" = 0 ]; then
		"$@"
		return
	fi
	home=$(getent passwd "$owner" | cut -d: -f6)
	setpriv --reuid "$owner" --regid "$(stat -c %g .)" --clear-groups \
		env HOME="${home:-/nonexistent}" "$@"
}

pip_install() {
	if ! output=$(as_owner "$VENV/bin/python" -m pip install --quiet --no-input \
		--disable-pip-version-check --no-deps "$@" 2>&1); then
		printf '%s\n' "$output" | grep -E '^ *ERROR' | tail -n 1 | sed 's/^/setup: pip: /' >&2
		fail "the Python dependencies could not be installed; check the network and run this again"
	fi
}

make_venv() {
	echo "setup: making $VENV with the dependencies of requirements.lock"
	rm -rf "$VENV" || fail "$VENV cannot be replaced; run: sudo make setup"
	as_owner "$PYTHON" -m venv --system-site-packages "$VENV" ||
		fail "$VENV cannot be made; see above"
	pip_install --require-hashes --requirement requirements.lock
	pip_install --no-build-isolation --editable .
	# Now, lest root leaves directories of its own in the owner's clone.
	as_owner "$VENV/bin/python" -m compileall -q -x '/[.]' . || :
}

command -v dpkg-query >/dev/null || fail "this is not Debian or Ubuntu; install what deploy/setup.sh names by hand"
case ${1-} in
"") ;;
kernels)
	[ "$(dpkg --print-architecture)" = amd64 ] || fail "the kernels are for amd64 machines"
	PACKAGES="$PACKAGES $KERNEL_PACKAGES"
	# QEMU's packages brought virtiofsd along until Debian 12.
	grep -q '^VERSION_CODENAME=bookworm' /etc/os-release || PACKAGES="$PACKAGES virtiofsd"
	;;
*) fail "unknown: $1; run it without arguments, or with: kernels" ;;
esac
missing=$(missing_packages | tr '\n' ' ')
[ -z "$missing" ] || install_packages $missing

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
	fail "$PYTHON is older than 3.11; use Debian 12, Ubuntu 24.04 or newer"

# What the environment was made from; a moved clone or a new Python needs a new one.
wanted=$({ pwd && "$PYTHON" --version && cat requirements.lock pyproject.toml; } | sha256sum)
if [ "$(cat "$VENV/made-from" 2>/dev/null || :)" != "$wanted" ]; then
	make_venv
	echo "$wanted" | as_owner tee "$VENV/made-from" >/dev/null
	echo "setup: done"
fi
