#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
# The first program of a Debian guest: loads what the disk needs, mounts it and hands over to it. Twice in a guest's
# life there is more to do, in the guest's own system, before that starts: /finish when the image is made, and /seed
# when a new guest gets its name and user.
export PATH=/bin
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t tmpfs -o mode=0755,nosuid,nodev run /run
/bin/busybox --install -s /bin

die() {
    echo "hostel: $*" >/dev/console
    sleep 1
    poweroff -f
}

while read -r module; do
    insmod "/modules/$module.ko" || echo "hostel: module $module cannot be loaded"
done </modules/order

device=/dev/vda mode=ro init=/sbin/init finish=
for word in $(cat /proc/cmdline); do
    case $word in
    root=*) device=${word#root=} ;;
    init=*) init=${word#init=} ;;
    ro | rw) mode=$word ;;
    hostel.finish) finish=y ;;
    esac
done
[ -z "$finish" ] && [ ! -e /seed/id ] || mode=rw

# The disk may take a moment to appear.
tries=0
until [ -b "$device" ]; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || die "there is no disk $device"
    sleep 0.05
done
mount -t ext4 -o "$mode" "$device" /disk || die "the disk $device cannot be mounted"

for folder in dev proc sys run; do
    mount -o move "/$folder" "/disk/$folder"
done

if [ -n "$finish" ]; then
    cp /finish /disk/run/finish
    chroot /disk /bin/sh /run/finish
    sync
    mount -o remount,ro /disk
    poweroff -f
fi

# A seed that was sown already is left alone: the host does not always learn that it was.
if [ -e /seed/id ] && ! cmp -s /seed/id /disk/var/lib/hostel-seed; then
    cp -r /seed /disk/run/hostel-seed
    cp /sow /disk/run/hostel-seed/sow
    chroot /disk /bin/sh /run/hostel-seed/sow
    rm -rf /disk/run/hostel-seed
fi

exec switch_root /disk "$init"
