# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""What a Linux guest does that compares two disks with what it remembers."""

import os
import shutil
import subprocess

from blockdev import MIB, qemu_img
from guest import Skip

# /dev/vda has a file system, /dev/vdb a number in its first sector; both are compared with memory.
LOAD = """
mkdir /mnt
mount -t ext4 /dev/vda /mnt || exit 1
i=0
while :; do
  i=$((i + 1))
  printf '%-512d' $i | dd of=/dev/vdb conv=notrunc,fsync 2>/dev/null
  echo "$i" > /mnt/file$((i % 50))
  head -c 30000 /dev/urandom > /mnt/data$((i % 7))
  md5sum /mnt/data$((i % 7)) > /mnt/sum$((i % 7))
  [ $((i % 5)) = 0 ] && sync
  echo 1 > /proc/sys/vm/drop_caches
  [ "$(($(head -c 512 /dev/vdb)))" = $i ] || echo BROKEN disk
  [ "$(cat /mnt/file$((i % 50)))" = $i ] || echo BROKEN file
  md5sum -c /mnt/sum$((i % 7)) > /dev/null || echo BROKEN sum
  echo "round $i"
done
"""


def ext4(path):
    """An image with a file system."""
    mkfs = shutil.which("mkfs.ext4", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not mkfs:
        raise Skip("mkfs.ext4 is not installed")
    raw = path.with_suffix(".mkfs")
    with raw.open("wb") as file:
        file.truncate(32 * MIB)
    subprocess.run([mkfs, "-q", raw], check=True)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, path)
    raw.unlink()
    return path
