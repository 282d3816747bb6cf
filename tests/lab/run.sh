#!/bin/bash
# run.sh: `make run`. This machine's kernel where it can be observed, else a guest's.
cd "$(dirname "$0")/../.." || exit
listen=127.0.0.1:9817
kernel=${KERNEL:-6.1}

if report=$(.venv/bin/pci-observer doctor 2>&1); then
    echo "Observing this machine; metrics on http://$listen/metrics, Ctrl-C ends."
    exec .venv/bin/pci-observer run --listen "$listen"
fi
reason=$(sed -n 's/^-- *[a-z]* *//p' <<< "$report" | head -n 1)
echo "This machine's kernel can't be observed: ${reason:-$report}."
echo "So a virtual machine is set up, and Debian's kernel $kernel observed in it."
make --no-print-directory setup-lab || exit
# A port that is taken should be told before a kernel is downloaded.
if (: < "/dev/tcp/${listen%:*}/${listen##*:}") 2> /dev/null; then
    echo "port ${listen##*:} is in use: stop what uses it, then try again" >&2
    exit 2
fi
read -ra devices <<< "$(.venv/bin/python tests/lab/devices.py assorted)"
echo "Booting; then metrics on http://$listen/metrics. Ctrl-C ends."
exec .venv/bin/python tests/lab/guest.py "$kernel" tests/lab/demo.sh \
    --port "${listen##*:}" --timeout inf -- "${devices[@]}"
