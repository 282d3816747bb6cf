#!/bin/bash
# packages.sh PACKAGE...: install those of Debian's packages that are missing.
missing=()
for package in "$@"; do
    [ "$(dpkg-query -Wf '${db:Status-Status}' "$package" 2> /dev/null)" = installed ] ||
        missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "these packages are missing, and only root can install them: ${missing[*]}" >&2
    exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Tests start servers themselves: nothing is to listen on this machine's ports, now or
# after a reboot, because of them.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
apt-get -qq update || exit
apt-get -qq install -y --no-install-recommends "${missing[@]}" || exit
for package in "${missing[@]}"; do
    if [ -e "/lib/systemd/system/$package.service" ]; then
        systemctl --quiet disable "$package.service" 2> /dev/null || true
    fi
done
