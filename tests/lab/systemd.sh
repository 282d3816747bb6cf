#!/bin/bash
# systemd.sh DIRECTORY COMMAND...: in a guest, run COMMAND under a real systemd.
#
# The script of a guest (tests/lab/guest.py) is one line:
#     exec bash tests/lab/systemd.sh "$directory" .venv/bin/python -m live.installed "$directory"
# COMMAND has the caller's environment and working directory, and systemctl works in it: put
# units in /etc/systemd/system (the guest's is an overlay), daemon-reload, start. DIRECTORY is
# the guest's --shared one. What COMMAND says and its exit status are passed on.
#
# systemd is pid 1 of a pid namespace and has every capability, so units may load BPF
# programs. It starts nothing but the journal and COMMAND. The guest's own /tmp is hidden
# but for DIRECTORY and the working directory: it is this machine's, and nothing in it is
# systemd's to clean up.
shared=$1
shift
lab=/run/lab
units=$lab/units
mkdir -p $units $lab/here $lab/shared
printf '%q ' "$@" > $lab/command
export -p > $lab/environment
cat > $units/lab.target << 'END'
[Unit]
Requires=systemd-journald.service lab.service
AllowIsolate=yes
END
cat > $units/lab.service << END
[Unit]
DefaultDependencies=no
After=systemd-journald.service
[Service]
Type=oneshot
ExecStart=-/bin/bash -c '. $lab/environment; cd "$PWD"; . $lab/command < /dev/null > $lab/out 2>&1; echo \$\$? > $lab/status'
ExecStopPost=/bin/systemctl --no-block --force exit
END
# What units start on a booted machine the guest's init has done, or is not to be done.
for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service \
    systemd-udevd.service systemd-udev-trigger.service systemd-random-seed.service \
    systemd-update-utmp.service systemd-journal-flush.service systemd-sysusers.service \
    systemd-timesyncd.service systemd-modules-load.service systemd-sysctl.service \
    systemd-remount-fs.service systemd-machine-id-commit.service systemd-binfmt.service \
    systemd-journal-catalog-update.service systemd-firstboot.service \
    systemd-update-done.service kmod-static-nodes.service ldconfig.service \
    local-fs.target swap.target; do
    ln -sf /dev/null $units/$unit
done
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup
mount --rbind "$PWD" $lab/here
mount --bind "$shared" $lab/shared
echo 255 > $lab/status
mkfifo $lab/out
cat $lab/out &
exec 3> $lab/out # else cat ends when the first writer does
# shellcheck disable=SC2016 # they are for that shell
env -i PATH="$PATH" lab=$lab here="$PWD" shared="$shared" container=lab SYSTEMD_UNIT_PATH=$units: \
    unshare --pid --fork --kill-child --mount --mount-proc --cgroup --uts --ipc bash -c '
        mount -t tmpfs none /tmp
        mkdir -p "$here" "$shared"
        mount --rbind $lab/here "$here"
        mount --bind $lab/shared "$shared"
        # The guest hides passwords below a file that cannot be replaced, as a new user wants it.
        if mountpoint -q /etc/shadow; then umount /etc/shadow; fi
        exec /lib/systemd/systemd --system --unit=lab.target --log-target=kmsg \
            --show-status=no 3>&-'
exec 3>&-
wait
exit "$(cat $lab/status)"
