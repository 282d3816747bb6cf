#!/bin/bash
# guest_init.sh SCRIPT: what runs first in a guest, as root; machine.py starts it.
#
# Runs SCRIPT in a process group of its own. One line on stdin is Ctrl-C: the group
# gets SIGINT. `set -m` matters: without job control bash makes background jobs
# ignore SIGINT; only while the job starts, else bash tells how it ended.
# The port lab.status lets the host tell a script that failed from a guest that died:
# that one never says "status N".
#
# LAB_MAC   hardware address of the network card to set up, if any

script=$1
repository=$(cd "$(dirname "$0")/../.." && pwd)
status_port=/dev/virtio-ports/lab.status

report() { echo "$*" > "$status_port"; }

mount_unless_mounted() { mountpoint -q "$2" || mount -t "$1" none "$2"; }

start_udev() {
    udevadm control --ping 2> /dev/null && return
    /lib/systemd/systemd-udevd --daemon && udevadm control --ping
}

# There is no DHCP client: QEMU's user network always has this address free.
start_network() {
    local nic address
    modprobe virtio_net
    udevadm settle --timeout=30
    for address in /sys/class/net/*/address; do
        [ "$(< "$address")" = "$LAB_MAC" ] && nic=$(basename "$(dirname "$address")")
    done
    ip link set lo up
    ip addr add 10.0.2.15/24 dev "$nic" && ip link set "$nic" up &&
        ip route add default via 10.0.2.2
}

mount_unless_mounted debugfs /sys/kernel/debug
mount_unless_mounted tracefs /sys/kernel/tracing
mount_unless_mounted securityfs /sys/kernel/security
start_udev || echo "guest: udev does not run" >&2
[ -z "$LAB_MAC" ] || start_network || echo "guest: no network" >&2

export PATH="$repository/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export HOME=/root
cd "$repository" || exit
report started

set -m
if [ -x "$script" ]; then
    "$script" < /dev/null &
else
    bash "$script" < /dev/null &
fi
job=$!
set +m
{ read -r _ && kill -INT -- "-$job"; } 2> /dev/null <&0 &
wait "$job"
status=$?
report status "$status"
exit "$status"
