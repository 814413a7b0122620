#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Firmware: Debian's OpenSBI and U-Boot to its prompt and to Linux on a disk; flash and fw_cfg as guests use them."""

import fcntl
import hashlib
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

from debian import BOOT, SCRATCH, files, initramfs, run
from guest import HOSTEL, MONITOR, RUN, Pipes, Skip, hostel, tap, until

OPENSBI = pathlib.Path("/usr/lib/riscv64-linux-gnu/opensbi/generic")
UBOOT = pathlib.Path("/usr/lib/u-boot/qemu-riscv64_smode")
BANK, SECTOR, BASE = 32 << 20, 256 << 10, 0x20000000
MACHINE = [HOSTEL, "run", "--isa", "riscv64", "--memory", "512M"]


def scratch(content=b"", size=0, suffix=".bin"):
    """A file of our own, in size at least so large."""
    handle, path = tempfile.mkstemp(suffix=suffix, dir=SCRATCH.name)
    os.write(handle, content)
    if size > len(content):
        os.ftruncate(handle, size)
    os.close(handle)
    return pathlib.Path(path)


def is_unlocked(path):
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False


class UBoot(Pipes):
    """U-Boot on OpenSBI, at its prompt."""

    def __init__(self, *args, firmware="fw_jump.bin", kernel="u-boot.bin", stop=True):
        for file in (OPENSBI / firmware, UBOOT / kernel):
            if not file.exists():
                raise Skip(f"no {file}; Debian's packages opensbi and u-boot-qemu have them")
        super().__init__("--firmware", OPENSBI / firmware, "--kernel", UBOOT / kernel, *args, command=MACHINE)
        if stop:
            self.stop()

    def stop(self):
        self.wait_for(b"Hit any key to stop autoboot", BOOT)
        self.send(b" ")
        self.wait_for(b"=> ", BOOT)

    def command(self, line):
        """What a command says."""
        self.send(line.encode() + b"\n")
        self.wait_for(b"\n", BOOT)
        return self.wait_for(b"=> ", BOOT).decode().replace("\r\n", "\n")

    def power_off(self):
        self.send(b"poweroff\n")
        assert self.end(BOOT) == 0


def test_uboot_reaches_its_prompt():
    for firmware, kernel in (("fw_jump.bin", "u-boot.bin"), ("fw_jump.elf", "uboot.elf"),
                             ("fw_dynamic.bin", "u-boot.bin")):
        with UBoot(firmware=firmware, kernel=kernel) as guest:
            assert "riscv64-linux-gnu-gcc" in guest.command("version")
            assert "cfi-flash" in guest.command("fdt addr ${fdtcontroladdr}; fdt print /flash@20000000")
            guest.power_off()


def test_uboot_resets():
    with UBoot() as guest:
        for _ in range(2):
            assert "5a5a5a5a" in guest.command("mw.l 84000000 5a5a5a5a; md.l 84000000 1")
            guest.send(b"reset\n")
            guest.stop()
        guest.power_off()


def test_uboot_without_firmware_file():
    if not (UBOOT / "uboot.elf").exists():
        raise Skip("no U-Boot; Debian's package u-boot-qemu has it")
    with Pipes("--kernel", UBOOT / "uboot.elf", command=MACHINE) as guest:
        guest.wait_for(b"Hit any key to stop autoboot", BOOT)
        guest.send(b" ")
        guest.wait_for(b"=> ", BOOT)
        guest.send(b"poweroff\n")
        assert guest.end(BOOT) == 0


def test_uboot_programs_flash():
    flash, at, size = scratch(b"kept", SECTOR), 3 * SECTOR, 0x3000
    with UBoot("--flash", f"{flash},start=off") as guest:
        assert "7470656b" in guest.command(f"md.l {BASE:x} 1")
        assert "Erased" in guest.command(f"erase {BASE + at:x} +{SECTOR:x}")
        guest.command(f"mw.l 84000000 c0ffee11 {size // 4:x}")
        assert "done" in guest.command(f"cp.b 84000000 {BASE + at:x} {size:x}")
        assert "were the same" in guest.command(f"cmp.b 84000000 {BASE + at:x} {size:x}")
        # What the guest has seen done is in the file, even when it ends in this way.
        guest.process.kill()
        until(lambda: is_unlocked(flash), "the VMM's end")
    found = flash.read_bytes()
    assert len(found) <= BANK, len(found)
    assert found[:4] == b"kept" and found[at:at + size] == bytes.fromhex("11eeffc0") * (size // 4)
    assert set(found[SECTOR:at] + found[at + size:]) <= {0xff}
    with UBoot("--flash", f"{flash},start=off,readonly=on") as guest:
        assert "c0ffee11" in guest.command(f"md.l {BASE + at:x} 1")
        guest.command(f"erase {BASE + at:x} +{SECTOR:x}")  # looks at no error bit
        assert "c0ffee11" in guest.command(f"md.l {BASE + at:x} 1")
        guest.power_off()
    assert flash.read_bytes() == found


def disk(folder, size=96 << 20, start=1 << 20):
    """A disk with one partition, an ext4 file system of the folder."""
    mke2fs = shutil.which("mke2fs", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not mke2fs:
        raise Skip("no mke2fs; Debian's package e2fsprogs has it")
    image = scratch(size=size, suffix=".img")
    subprocess.run([mke2fs, "-q", "-t", "ext4", "-E", f"offset={start}", "-d", folder, image,
                    f"{(size - start) >> 10}k"], check=True)
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", start // 512, (size - start) // 512)
    with open(image, "r+b") as file:
        file.seek(446)
        file.write(entry)
        file.seek(510)
        file.write(b"\x55\xaa")
    return image


def linux_disk(script):
    folder = pathlib.Path(tempfile.mkdtemp(dir=SCRATCH.name))
    (folder / "boot/extlinux").mkdir(parents=True)
    shutil.copy(files() / "kernel", folder / "boot/Image")
    shutil.copy(initramfs(script, "virtio,ext4"), folder / "boot/initrd")
    (folder / "boot/extlinux/extlinux.conf").write_text(
        "default linux\nlabel linux\n  kernel /boot/Image\n  initrd /boot/initrd\n"
        "  append console=ttyS0 quiet from=uboot\n")
    return disk(folder)


def test_uboot_boots_linux_from_a_disk():
    script = "grep -o 'from=[a-z]*' /proc/cmdline; mount -t ext4 /dev/vda1 /mnt && cat /mnt/boot/extlinux/*\n"
    script = "mkdir -p /mnt\n" + script
    with UBoot("--disk", f"file={linux_disk(script)},format=raw", "--cpus", "2", stop=False) as guest:
        guest.wait_for(b"Found /boot/extlinux/extlinux.conf", BOOT)
        guest.wait_for(b"Starting kernel", BOOT)
        text = guest.wait_for(b"script exit status: 0", BOOT)
        assert b"from=uboot\r\n" in text and b"kernel /boot/Image" in text, text
        assert guest.end(BOOT) == 0


def test_uboot_starts_an_efi_kernel():
    with UBoot("--disk", f"file={linux_disk('exit 0')},format=raw") as guest:
        assert "VirtIO Block Device" in guest.command("virtio scan; virtio info")
        guest.command("load virtio 0:1 ${kernel_addr_r} /boot/Image")
        guest.send(b"setenv bootargs console=ttyS0 earlycon=sbi; bootefi ${kernel_addr_r} ${fdtcontroladdr}\n")
        guest.wait_for(b"EFI stub", BOOT)
        guest.wait_for(b"Linux version", BOOT)


def words(*values):
    return struct.pack(f"<{len(values)}I", *values)


# Prints F and powers off; the other one reads a register of M-mode first.
PRINT = words(0x100002b7, 0x04600313, 0x00628023,  # sb 'F', (UART)
              0x001002b7, 0x00005337, 0x55530313, 0x0062a023,  # sw 0x5555, (finisher)
              0x0000006f)
PRINT_M = words(0xf14023f3) + PRINT  # csrr t2, mhartid


def test_flash_starts():
    for code, more, how in ((PRINT, "", ()), (PRINT, ",start=supervisor", ("--kernel", MONITOR)),
                            (PRINT, ",readonly=on", ("--firmware", OPENSBI / "fw_dynamic.bin")),
                            (PRINT_M, ",start=machine", ())):
        if how and not pathlib.Path(how[1]).exists():
            continue
        done = hostel("run", "--isa", "riscv64", "--memory", "16M", "--flash", f"file={scratch(code)}{more}", *how)
        assert done.returncode == 0 and done.stdout.endswith("F"), (more, done)


def test_flash_bank_two_starts():
    done = hostel("run", "--isa", "riscv64", "--flash", f"{scratch()},start=off", "--flash",
                  f"{scratch(PRINT)},start=supervisor")
    assert (done.returncode, done.stdout) == (0, "F"), done


def test_linux_reads_fw_cfg():
    if not (files() / "modules/qemu_fw_cfg.ko").exists():
        raise Skip("this copy of Debian's files has no qemu_fw_cfg")
    content = bytes(range(256)) * 400
    text = run("cd /sys/firmware/qemu_fw_cfg/by_name/opt\ncat org.example/s/raw; echo\n"
               "md5sum <org.example/f/raw; cat /sys/firmware/qemu_fw_cfg/rev\n",
               "--fw-cfg", "name=opt/org.example/s,string=a,,b", "--fw-cfg",
               f"name=opt/org.example/f,file={scratch(content)}", modules="qemu_fw_cfg")
    assert text.startswith("a,b\n"), text
    assert hashlib.md5(content).hexdigest() in text, text
    assert "\n3\n" in text, text


def test_edk2_starts_linux_twice():
    """EDK2 in one bank of flash, its variables in the other, and the kernel by fw_cfg."""
    variables = scratch((files() / "edk2/RISCV_VIRT_VARS.fd").read_bytes())
    before = variables.read_bytes()
    script = "test -d /sys/firmware/efi && grep -o 'from=[a-z0-9]*' /proc/cmdline"
    for _ in range(2):
        text = run(script, "--flash", f"{files()}/edk2/RISCV_VIRT_CODE.fd,readonly=on,start=supervisor", "--flash",
                   variables, "--append", "console=ttyS0 quiet from=edk2", memory="512M")
        assert "EDK2 firmware" in text and "from=edk2\n" in text, text
    after = variables.read_bytes()
    assert after != before and len(before) <= len(after) <= BANK


def refused(*args, says):
    done = hostel("run", "--isa", "riscv64", *map(str, args))
    lines = done.stderr.strip().splitlines()
    assert done.returncode in (1, 2) and len(lines) == 1, done
    assert all(word in lines[0] for word in says), lines


def test_wrong_flash_is_refused():
    refused("--flash", scratch(size=BANK + 1), says=["flash0", str(BANK + 1), "32 MiB"])
    refused("--flash", "/no/such", says=["--flash file=/no/such", "cannot open"])
    refused("--flash", "/tmp", says=["/tmp"])
    refused("--flash", scratch(PRINT), "--flash", scratch(), "--flash", scratch(), says=["2 banks"])
    refused("--flash", f"{scratch(PRINT)},start=machine", "--firmware", MONITOR, says=["leave one out"])
    refused("--flash", f"{scratch()},start=off", says=["nothing to run"])


def test_flash_in_use_is_refused():
    flash = scratch()
    with Pipes("--flash", f"{flash},start=off", command=RUN) as guest:
        guest.wait_for(b"ready")
        refused("--firmware", MONITOR, "--flash", f"{flash},start=off", says=["another guest uses it"])
        refused("--firmware", MONITOR, "--flash", f"{flash},start=off,readonly=on", says=["another guest uses it"])
        guest.send(b"P")
        assert guest.end() == 0
    with Pipes("--flash", f"{flash},start=off,readonly=on", command=RUN) as guest:
        guest.wait_for(b"ready")
        with Pipes("--flash", f"{flash},start=off,readonly=on", command=RUN) as other:
            other.wait_for(b"ready")


def test_wrong_fw_cfg_is_refused():
    refused("--firmware", MONITOR, "--fw-cfg", "name=opt/x", says=["opt/x", "file=", "string="])
    refused("--firmware", MONITOR, "--fw-cfg", f"name=opt/x,string=a,file={MONITOR}", says=["file=", "string="])
    refused("--firmware", MONITOR, "--fw-cfg", "name=" + "x" * 56 + ",string=a", says=["55"])
    refused("--firmware", MONITOR, "--fw-cfg", "string=a", says=["name"])
    refused("--firmware", MONITOR, *["--fw-cfg", "name=opt/x,string=a"] * 2, says=["opt/x", "already"])


def test_wrong_payload_is_refused():
    raw = scratch(b"\x01\x02\x03\x04" * 100)
    refused("--kernel", raw, says=["not a RISC-V kernel"])
    refused("--firmware", MONITOR, "--kernel", scratch(b"QFI\xfb" + bytes(1000)), says=["qcow2", "u-boot.bin"])
    refused("--firmware", MONITOR, "--kernel", scratch(b"just text\n"), says=["text"])


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
