#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Disks, as Linux's own driver uses them: what the guest writes is what the host finds in the file, and back."""

import hashlib
import os
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
import tempfile

from debian import BOOT, SCRATCH, boot, run
from guest import HOSTEL, MONITOR, Pipes, Skip, hostel, tap

MIB = 1 << 20


class Disk:
    """A raw image of our own; all a hole at first."""

    def __init__(self, size=64 * MIB, content=b""):
        handle, path = tempfile.mkstemp(suffix=".img", dir=SCRATCH.name)
        self.path = pathlib.Path(path)
        self.size = size
        os.write(handle, content)
        os.ftruncate(handle, size)
        os.close(handle)

    def option(self, more=""):
        return "--disk", f"file={self.path},format=raw{more}"

    def read(self, offset=0, size=None):
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(self.size if size is None else size)

    def md5(self):
        return hashlib.md5(self.read()).hexdigest()

    def occupied(self):
        return self.path.stat().st_blocks * 512


def pattern(size, seed):
    """Bytes that a look at any of them tells from their neighbours."""
    return b"".join(hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(size // 32))


def tool(name):
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise Skip(f"{name} is not installed")
    return path


def lines(first, last):
    return "".join(f"{i}\n" for i in range(first, last + 1)).encode()


# Several writers at once, a file system's journal, and a reboot without unmounting.
FILES = r"""
mkdir /mnt
mount -t ext4 /dev/vda /mnt || exit 1
if [ ! -e /mnt/sums ]; then
    for i in 1 2 3 4 5 6; do (seq $i 30000 >/mnt/f$i; sync) & done
    dd if=/dev/urandom of=/mnt/random bs=64k count=128 conv=fsync 2>/dev/null
    wait
    cd /mnt && md5sum f* random >/tmp/sums && mv /tmp/sums /mnt/sums && sync
    echo "first: done"
    reboot -f
fi
echo "journal: $(dmesg | grep -c 'EXT4-fs (vda): recovery complete')"
cd /mnt && md5sum -c sums >/tmp/checked
echo "checked: $? $(grep -c OK /tmp/checked)"
rm random && sync && fstrim /mnt
echo "trimmed: $?"
cd / && umount /mnt
"""


def check_files(cpus):
    mkfs, fsck, debugfs = (tool(name) for name in ("mkfs.ext4", "e2fsck", "debugfs"))
    disk = Disk(128 * MIB)
    subprocess.run([mkfs, "-q", disk.path], check=True, stdout=subprocess.DEVNULL)
    with boot(FILES, *disk.option(), modules="virtio,ext4", cpus=cpus) as guest:
        guest.wait_for(b"first: done", BOOT)
        full = disk.occupied()
        text = guest.wait_for(b"script exit status: 0", BOOT).decode()
        assert guest.end(BOOT) == 0
    claims = dict(re.findall(r"^(\w+): (.*?)\r?$", text, re.M))
    assert claims["journal"] == "1" and claims["checked"] == "0 7" and claims["trimmed"] == "0", text
    done = subprocess.run([fsck, "-fn", disk.path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for i in range(1, 7):
        found = subprocess.run([debugfs, "-R", f"cat /f{i}", disk.path], capture_output=True, check=True).stdout
        assert found == lines(i, 30000), f"file f{i}"
    assert disk.occupied() <= full - 7 * MIB, (full, disk.occupied())


def test_files_outlive_a_reboot():
    check_files(1)


def test_files_outlive_a_reboot_with_2_vcpus():
    check_files(2)


RAW = r"""
echo "found: $(md5sum </dev/vda)"
dd if=/dev/vdb of=/dev/vda bs=256k seek=4 oflag=direct 2>/dev/null || exit 1
dd if=/dev/vdb of=/dev/vda bs=4k skip=5 seek=2053 count=37 conv=fsync 2>/dev/null || exit 1
blkdiscard -o $((16 << 20)) -l $((8 << 20)) /dev/vda || exit 1
echo 3 >/proc/sys/vm/drop_caches
echo "written: $(md5sum </dev/vda)"
echo "direct: $(dd if=/dev/vda bs=1M iflag=direct 2>/dev/null | md5sum)"
"""


def check_raw(cpus):
    content, other = pattern(32 * MIB, 1), pattern(3 * MIB, 2)
    disk, source = Disk(32 * MIB, content), Disk(3 * MIB, other)
    text = run(RAW, *disk.option(), *source.option(",readonly=on"), cpus=cpus)
    sums = dict(re.findall(r"^(\w+): (\w{32})", text, re.M))
    assert sums["found"] == hashlib.md5(content).hexdigest()
    expected = bytearray(content)
    expected[MIB:4 * MIB] = other
    expected[2053 * 4096:2090 * 4096] = other[5 * 4096:42 * 4096]
    expected[16 * MIB:24 * MIB] = bytes(8 * MIB)  # a hole reads as zeroes
    expected = hashlib.md5(expected).hexdigest()
    assert disk.md5() == expected
    assert sums["written"] == sums["direct"] == expected
    assert disk.occupied() <= 24 * MIB + 65536, disk.occupied()
    assert source.read() == other


def test_bytes_are_where_they_belong():
    check_raw(1)



def test_bytes_are_where_they_belong_with_2_vcpus():
    check_raw(2)


def qemu_img(*args):
    subprocess.run([tool("qemu-img"), *map(str, args)], check=True, stdout=subprocess.DEVNULL)


def check_format(form, chain=False):
    """As check_raw, on an image that qemu-img made; qemu-img reads what the guest wrote."""
    content, other = pattern(32 * MIB, 1), pattern(3 * MIB, 2)
    disk, source = Disk(32 * MIB, content), Disk(3 * MIB, other)
    image = disk.path.with_suffix("." + form)
    if chain:
        middle = disk.path.with_suffix(".middle")
        qemu_img("create", "-f", form, "-b", disk.path, "-F", "raw", middle)
        qemu_img("create", "-f", form, "-b", middle, "-F", form, image)
    else:
        options = ("-o", "force_size=on") if form == "vpc" else ()
        qemu_img("convert", "-f", "raw", "-O", form, *options, disk.path, image)
    option = f"file={image},format={form}{',follow=any' if chain else ''}"
    text = run(RAW, "--disk", option, *source.option(",readonly=on"), cpus=2)
    sums = dict(re.findall(r"^(\w+): (\w{32})", text, re.M))
    assert sums["found"] == hashlib.md5(content).hexdigest()
    before = disk.md5()
    qemu_img("convert", "-f", form, "-O", "raw", image, disk.path.with_suffix(".back"))
    found = disk.path.with_suffix(".back").read_bytes()
    assert before == disk.md5() and source.read() == other
    expected = bytearray(content)
    expected[MIB:4 * MIB] = other
    expected[2053 * 4096:2090 * 4096] = other[5 * 4096:42 * 4096]
    expected[16 * MIB:24 * MIB] = found[16 * MIB:24 * MIB]  # what was given back reads as anything, but always the same
    assert found == expected
    assert sums["written"] == sums["direct"] == hashlib.md5(found).hexdigest()
    if form != "vpc":
        qemu_img("check", "-f", form, image)


def test_every_format_that_can_be_written():
    for form in ("qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed", "parallels"):
        check_format(form)


def test_a_chain_of_backing_files():
    check_format("qcow2", chain=True)


LOAD = r"""
head -c SIZE </dev/vdc >/tmp/load && chmod 755 /tmp/load
/tmp/load /dev/vda /dev/vdb THREADS OPERATIONS SEED
"""


def check_load(cpus, threads, seed):
    """A disk under several threads at once, checked by the guest and then from outside."""
    program = pathlib.Path(os.environ.get("DISKLOAD", ""))
    if not program.is_file():
        raise Skip("there is no compiler for the guest")
    disk, table = Disk(16 * MIB), Disk(16 * MIB // 1024)
    code = program.read_bytes()
    script = LOAD.replace("SIZE", str(len(code))).replace("THREADS", str(threads)).replace("SEED", str(seed))
    text = run(script.replace("OPERATIONS", str(3000 // threads)), *disk.option(), *table.option(),
               *Disk((len(code) + 511) // 512 * 512, code).option(",readonly=on"), cpus=cpus)
    assert "all is as it should be" in text, text
    content = disk.read()
    written = 0
    for block, (times,) in enumerate(struct.iter_unpack("<i", table.read())):
        expected = struct.pack("<II", times, block) if times > 0 else bytes(8)
        written += times > 0
        assert times < 0 or content[block * 4096:(block + 1) * 4096] == expected * 512, (block, times)
    assert written > 1000, written


def test_load():
    check_load(1, 1, 1)


def test_load_by_8_threads_on_2_vcpus():
    check_load(2, 8, 2)


FACTS = r"""
cd /sys/block
for disk in vda vdb vdc; do
    echo "$disk: $(cat $disk/serial) $(cat $disk/size) $(cat $disk/ro) $(ls $disk/mq | wc -l)"
done
dd if=/dev/zero of=/dev/vdb bs=4k count=1 conv=fsync 2>/dev/null
echo "refused: $?"
echo "flushes: $(cat vda/queue/write_cache)"
echo "write through" >vda/cache_type
echo "through: $(cat vda/cache_type)"
dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync 2>/dev/null
echo "stored: $?"
"""


def test_several_disks():
    disks = [Disk(size, pattern(4096, size)) for size in (MIB, 2 * MIB + 512, 512)]
    before = disks[1].md5()
    text = run(FACTS, *disks[0].option(",serial=one"), *disks[1].option(",readonly=on,serial=comma,,20_characters"),
               *disks[2].option(), cpus=2)
    claims = dict(re.findall(r"^(\w+): (.*)$", text, re.M))
    assert claims["vda"] == "one 2048 0 2", claims
    assert claims["vdb"] == "comma,20_characters 4097 1 2", claims
    assert claims["vdc"].split() == ["1", "0", "2"], claims
    assert claims["refused"] == "1"
    assert claims["flushes"] == "write back" and claims["through"] == "write through" and claims["stored"] == "0"
    assert disks[1].md5() == before
    assert disks[0].read(0, 4096) == bytes(4096)


SYNC = r"""
dd if=/dev/zero bs=64k count=16 2>/dev/null | tr '\0' x | dd of=/dev/vda bs=64k seek=3 conv=fsync 2>/dev/null
echo "it is stored"
sleep 100
"""


def test_what_was_flushed_outlives_a_killed_vmm():
    disk = Disk(4 * MIB)
    with boot(SYNC, *disk.option()) as guest:
        guest.wait_for(b"it is stored", BOOT)
        os.kill(guest.vmm(), 9)
        assert guest.end() == 125
    assert disk.read(3 * 65536, MIB) == b"x" * MIB
    with boot(SYNC, *disk.option()) as guest:  # and its lock has gone
        guest.wait_for(b"it is stored", BOOT)


# --- trouble ---

# Writes where the file may not be, each request on its own; then where it may; and reads.
TROUBLE = r"""
for i in 1 2 3 4 5 6 7 8 9; do
    dd if=/dev/zero of=/dev/vda bs=1M seek=$((299 + i)) count=4 oflag=direct 2>/dev/null
done
dd if=/dev/urandom of=/dev/vda bs=4k count=16 conv=fsync 2>/dev/null
echo "early: $?"
dd if=/dev/vda of=/dev/null bs=1M iflag=direct 2>/dev/null
echo "read: $?"
"""


def test_a_file_that_may_not_grow():
    disk, limit = Disk(400 * MIB), 300 * MIB  # more than guest RAM, which is a file, too
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        text = run(TROUBLE, *disk.option())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    told = [line for line in text.splitlines() if "cannot write" in line]
    assert len(told) == 1, text  # many requests fail, and one line says it
    assert "File too large; the guest gets an I/O error" in told[0], told
    assert "early: 0" in text and "read: 0" in text, text


FILL = r"""
dd if=/dev/vdb of=/dev/vda bs=1M seek=1 oflag=direct 2>/dev/null
echo "filled: $?"
echo 3 >/proc/sys/vm/drop_caches
echo "sum: $(dd if=/dev/vda bs=1M skip=1 count=4 2>/dev/null | md5sum)"
"""


def full_host(folder, image, freed):
    """A command before hostel's: a file system of 8 MiB of which 6 are used until the file `freed` is there."""
    script = (f"mount -t tmpfs -o size=8m small {folder} && truncate -s 64M {image} && "
              f"head -c 6M /dev/zero >{folder}/ballast || exit 1; "
              f"(for i in $(seq 600); do [ ! -e {freed} ] || break; sleep 0.1; done; rm {folder}/ballast) & "
              'exec "$@"')
    return ["unshare", "-m", "sh", "-c", script, "sh"]


def test_a_host_without_room():
    """The guest waits, and what it wrote is there in the end; one that waits can be ended, too."""
    if os.geteuid():
        raise Skip("only root can make a small file system")
    folder = tempfile.mkdtemp(dir=SCRATCH.name)
    freed, image, content = f"{folder}.freed", f"{folder}/full.img", pattern(4 * MIB, 3)
    before = full_host(folder, image, freed)
    mount = ["unshare", "-m", "mount", "-t", "tmpfs", "trial", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise Skip("file systems cannot be mounted here")
    disks = ("--disk", f"{image},format=raw", *Disk(4 * MIB, content).option(",readonly=on"))
    with boot(FILL, *disks, before=before) as guest:
        guest.wait_for(b"disk full.img: no room on the host", BOOT)
        pathlib.Path(freed).touch()
        guest.wait_for(b"there is room again", BOOT)
        guest.wait_for(b"filled: 0", BOOT)
        guest.wait_for(b"sum: " + hashlib.md5(content).hexdigest().encode(), BOOT)
        assert guest.end(BOOT) == 0
    os.unlink(freed)
    with boot(FILL, *disks, before=before) as guest:
        guest.wait_for(b"disk full.img: no room on the host", BOOT)
        guest.process.terminate()
        assert guest.end() == -signal.SIGTERM
    pathlib.Path(freed).touch()


# --- refusals ---


def refused(*words, args, code=1):
    """hostel ends before a guest ran, and says why on one line that holds the words."""
    done = hostel("run", "--isa", "riscv64", "--memory", "16M", "--firmware", MONITOR, *args)
    assert done.returncode == code, (done.returncode, done.stderr)
    lines_ = done.stderr.splitlines()
    assert len(lines_) == 1, lines_
    for word in words:
        assert word in lines_[0], (word, lines_[0])


def test_refusals():
    folder = SCRATCH.name
    odd, empty, good = Disk(1000), Disk(0), Disk(512)
    refused("nothing.img", "No such file", "truncate", args=["--disk", f"file={folder}/nothing.img,format=raw"])
    refused("is a directory", args=["--disk", f"file={folder},format=raw"])
    refused("neither a file nor a block device", args=["--disk", "file=/dev/null,format=raw"])
    refused("1000 bytes", "multiple of 512", args=odd.option())
    refused("is empty", args=empty.option())
    refused("no such format", "raw", args=["--disk", f"file={good.path},format=qcow9"], code=2)
    refused("no such format", args=["--disk", f"file={good.path},format=memory"], code=2)
    refused("format is missing", args=["--disk", f"file={good.path}"], code=2)
    refused("did you mean readonly?", args=good.option(",readnly=on"), code=2)
    refused("more than 20 characters", args=good.option(",serial=123456789012345678901"), code=2)
    refused("room for 8 virtio devices", args=[word for _ in range(9) for word in Disk(512).option()], code=2)
    refused("in use", args=[*good.option(), *good.option()])
    if os.geteuid():
        good.path.chmod(0o400)
        refused("readonly=on", args=good.option())


def test_one_writer_or_many_readers():
    disk = Disk()
    command = [HOSTEL, "run", "--isa", "riscv64", "--memory", "16M", "--firmware", MONITOR]

    def power_off(guest):
        guest.send(b"P")
        assert guest.end() == 0

    with Pipes(*disk.option(), command=command) as guest:
        guest.wait_for(b"ready\n")
        refused(str(disk.path), "in use by another guest", "stop that guest", args=disk.option())
        refused(str(disk.path), "in use by another guest", args=disk.option(",readonly=on"))
        power_off(guest)
    with Pipes(*disk.option(",readonly=on"), command=command) as guest:
        guest.wait_for(b"ready\n")
        refused("in use", "readonly=on for both", args=disk.option())
        with Pipes(*disk.option(",readonly=on"), command=command) as another:
            another.wait_for(b"ready\n")
            power_off(another)
        power_off(guest)
    with Pipes(*disk.option(), command=command) as guest:
        guest.wait_for(b"ready\n")


if __name__ == "__main__":
    tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
