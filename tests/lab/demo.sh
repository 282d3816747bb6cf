#!/bin/bash
# demo.sh: runs in a guest for `make run`, where this machine's kernel can't be observed.
#
# The observer runs in the foreground; behind it a loop binds, unbinds and overrides
# devices every few seconds, so that there is something to see. Ctrl-C ends both.
#
# DEMO_LISTEN   what the observer listens on (the guest's address and the usual port)
# DEMO_PAUSE    seconds between two steps
listen=${DEMO_LISTEN:-10.0.2.15:9817}
pause=${DEMO_PAUSE:-4}

pci=/sys/bus/pci
edu=0x1234:0x11e8
testdev=0x1b36:0x0005
e1000=0x8086:0x100e

say() { echo "demo: $*" >&2; }

# Sysfs refuses much, rightly: the loop goes on.
put() { echo "$1" 2> /dev/null > "$2" || say "the kernel refused '$1' in ${2#"$pci"/}"; }

# The first device with these ids: address_of VENDOR:DEVICE
address_of() {
    local device
    for device in "$pci"/devices/*; do
        [ "$(< "$device/vendor"):$(< "$device/device")" = "$1" ] || continue
        basename "$device"
        return
    done
    return 1
}

bind_by_override() {
    local address
    address=$(address_of "$edu") || return
    say "driver_override of $address to pci-stub, probed, and taken back"
    put pci-stub "$pci/devices/$address/driver_override"
    put "$address" "$pci/drivers_probe"
    sleep "$pause"
    put "" "$pci/devices/$address/driver_override"
    put "$address" "$pci/drivers/pci-stub/unbind"
}

bind_by_new_id() {
    local address
    address=$(address_of "$testdev") || return
    say "new_id 1b36 0005 for pci-stub binds $address, then remove_id"
    put "1b36 0005" "$pci/drivers/pci-stub/new_id"
    sleep "$pause"
    put "1b36 0005" "$pci/drivers/pci-stub/remove_id"
    [ ! -e "$pci/devices/$address/driver" ] ||
        put "$address" "$pci/drivers/pci-stub/unbind"
}

rebind_by_id_table() {
    local address
    address=$(address_of "$e1000") || return
    say "unbind $address from e1000 and let the bus find it again"
    [ ! -e "$pci/drivers/e1000/$address" ] || put "$address" "$pci/drivers/e1000/unbind"
    sleep "$pause"
    put "$address" "$pci/drivers_probe"
}

keep_busy() {
    while :; do
        for step in bind_by_override bind_by_new_id rebind_by_id_table; do
            "$step"
            sleep "$pause"
        done
    done
}

# Waits for the observer's answer, so that its start-up is over before things happen.
when_observed() {
    for _ in {1..60}; do
        curl -sf --max-time 2 -o /dev/null "http://$listen/-/ready" && break
        sleep 1
    done
    say "the observer is attached; making decisions for it to see"
}

end() {
    [ -z "$loop" ] || kill "$loop" 2> /dev/null
    exit "$status"
}

for driver in pci-stub e1000 e1000e 8139cp nvme xhci_pci i6300esb snd_hda_intel; do
    modprobe -q "$driver" || say "this kernel has no $driver"
done
udevadm settle --timeout=60

loop=
status=130
trap end EXIT
trap : INT TERM # the observer gets them too, and ends; then so do we

{ when_observed && keep_busy; } < /dev/null &
loop=$!
pci-observer run --listen "$listen" --log-format "${DEMO_LOG_FORMAT:-console}"
status=$?
