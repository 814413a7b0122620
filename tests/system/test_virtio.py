#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Linux's own drivers at the small virtio devices: random numbers, and the console that is a virtio one."""

import gzip
import hashlib
import os
import re
import socket

from debian import BOOT, SCRATCH, boot, files, initramfs, run
from guest import HOSTEL, MONITOR, Pipes, Qmp, Terminal, hostel, tap

# Bytes in hexadecimal, so that they pass a terminal; the driver taken away and put back, and gone altogether.
RANDOM = r"""
echo "from: $(cat /sys/class/misc/hw_random/rng_current)"
for i in 1 2; do
    echo "bytes: $(dd if=/dev/hwrng bs=1024 count=4 2>/dev/null | od -An -v -tx1 | tr -d ' \n')"
done
while :; do dd if=/dev/hwrng of=/dev/null bs=1k count=10 2>/dev/null; done &
for i in 1 2 3 4 5 6 7 8; do
    rmmod virtio_rng || exit 1
    insmod /modules/virtio-rng.ko || exit 1
done
kill $!
echo "again: $(dd if=/dev/hwrng bs=1024 count=64 2>/dev/null | wc -c)"
"""


def check_random(cpus):
    text = run(RANDOM, cpus=cpus)
    assert "from: virtio_rng.0\n" in text, text
    found = [bytes.fromhex(b) for b in re.findall(r"^bytes: (\w+)$", text, re.M)]
    assert [len(b) for b in found] == [4096, 4096] and found[0] != found[1], text
    for some in found:  # what cannot be compressed has nothing to predict it by
        assert len(gzip.compress(some)) > len(some), some
    assert re.search(r"^again: 65536$", text, re.M), text


def test_random_numbers():
    check_random(1)


def test_random_numbers_with_2_vcpus():
    check_random(2)


NO_RANDOM = r"""
echo "devices: $(ls /sys/bus/virtio/devices | wc -l)"
"""


def test_no_random_numbers():
    assert "devices: 0\n" in run(NO_RANDOM, "--rng", "off", "--balloon", "off", "--power-button", "off")


# The power button as Linux sees it: its name, its one key, and what reading its events gives.
BUTTON = r"""
cat /proc/bus/input/devices
exec 3</dev/input/event0
echo "listening"
dd bs=24 count=8 <&3 2>/dev/null | od -An -v -tx1 -w24 | cut -c49-
"""


def test_power_button():
    given = {"kernel": files() / "kernel", "initrd": initramfs(BUTTON, "virtio,virtio_input,evdev")}
    with Qmp("--append", "console=ttyS0 quiet", memory="256M",
             files={option: (path, os.O_RDONLY) for option, path in given.items()}) as vmm:
        assert vmm.command("qmp_capabilities") == {"return": {}}
        early = vmm.command("system_powerdown")
        assert early["error"]["class"] == "DeviceNotActive", early
        vmm.console.settimeout(BOOT)
        text = vmm.wait_console(b"listening\r\n").decode()
        assert 'N: Name="Hostel power button"' in text and "B: KEY=10000000000000 0\r\n" in text, text
        for _ in range(2):
            assert vmm.command("system_powerdown") == {"return": {}}
            vmm.wait_event("POWERDOWN")
        seen = vmm.wait_console(b"script exit status: 0").decode()
        # type, code, value of struct input_event: the key down, end of the report, the key up, end of the report
        end = "00 00 00 00 00 00 00 00"
        press = ["01 00 74 00 01 00 00 00", end, "01 00 74 00 00 00 00 00", end]
        assert [line.strip() for line in seen.splitlines()][:8] == 2 * press, seen


def test_no_power_button():
    with Qmp("--power-button", "off") as vmm:
        assert vmm.command("qmp_capabilities") == {"return": {}}
        assert vmm.command("system_powerdown")["error"]["class"] == "DeviceNotFound"


# There is no terminal before the driver is loaded.
CONSOLE = r"""
exec </dev/hvc0 >/dev/hvc0 2>&1
stty -echo
grep -c hvc0 /proc/consoles
seq 1 20000
echo "say something"
read -r words
echo "heard: $words"
echo "typed: $(head -n 400 | md5sum)"
echo "that was all"
poweroff -f
"""


def check_console(cpus):
    typed = "".join(f"a line of some length, number {i}\n" for i in range(400)).encode()
    command = [HOSTEL, "run", "--isa", "riscv64", "--memory", "256M", "--console-via", "virtio"]
    with Pipes("--initrd", initramfs(CONSOLE, "virtio"), "--kernel", files() / "kernel", "--cpus", str(cpus),
               "--append", "console=hvc0 quiet", command=command) as guest:
        text = guest.wait_for(b"say something", BOOT).replace(b"\r\n", b"\n")
        numbers = "".join(f"{i}\n" for i in range(1, 20001)).encode()
        assert b"\n" + numbers in text, text[-200:]
        guest.send(b"the quick brown fox\n")
        guest.wait_for(b"heard: the quick brown fox", BOOT)
        guest.send(typed)
        guest.wait_for(b"typed: " + hashlib.md5(typed).hexdigest().encode(), BOOT)
        guest.wait_for(b"that was all", BOOT)
        assert guest.end(BOOT) == 0, guest.seen


def test_console():
    check_console(1)


def test_console_with_2_vcpus():
    check_console(2)


# The names and the bytes of two channels; without udev the devices have numbers only.
CHANNELS = r"""
for p in /sys/class/virtio-ports/*; do echo "port: ${p##*/} $(cat $p/name)"; done
exec 3<>/dev/vport0p1 4<>/dev/vport0p2
echo "from the guest" >&3
seq 1 20000 >&4
read -r line <&3
echo "heard: $line"
echo "sum: $(head -c 100000 <&4 | md5sum)"
"""


def check_channels(cpus, *more):
    sockets, peers, options = [], [], []
    for i, name in enumerate(("org.example.talk", "org.example.data")):
        path = f"{SCRATCH.name}/channel{i}-{cpus}"
        sockets.append(socket.socket(socket.AF_UNIX))
        sockets[i].bind(path)
        sockets[i].listen()
        options += ["--channel", f"name={name},socket={path}"]
    with boot(CHANNELS, *options, *more, cpus=cpus) as guest:
        for listener in sockets:
            peers.append(listener.accept()[0])
            peers[-1].settimeout(BOOT)
        talk, data = (peer.makefile("rwb") for peer in peers)
        assert talk.readline() == b"from the guest\n"
        numbers = "".join(f"{i}\n" for i in range(1, 20001)).encode()
        assert data.read(len(numbers)) == numbers
        talk.write(b"from the host\n")
        talk.flush()
        data.write(numbers[:100000])
        data.flush()
        text = guest.wait_for(b"script exit status: 0", BOOT).replace(b"\r\n", b"\n").decode()
        assert guest.end(BOOT) == 0
    assert "port: vport0p1 org.example.talk\nport: vport0p2 org.example.data\n" in text, text
    assert "heard: from the host\n" in text, text
    assert f"sum: {hashlib.md5(numbers[:100000]).hexdigest()}" in text, text


def test_channels():
    check_channels(1)


def test_channels_with_2_vcpus():
    check_channels(2)


def test_channels_that_cannot_be():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{SCRATCH.name}/listener")
    listener.listen()
    for text, message in ((f"name=x,socket={SCRATCH.name}/nobody", "cannot connect"),
                          ("name=x", "socket"), (f"name=x,socket={'x' * 200}", "at most"),
                          (f"name={'x' * 65},socket={SCRATCH.name}/listener", "1 to 64")):
        done = hostel("run", "--isa", "riscv64", "--firmware", MONITOR, "--channel", text)
        assert done.returncode != 0 and message in done.stderr, done


SIZE = r"""
exec </dev/hvc0 >/dev/hvc0 2>&1
trap 'echo "size: $(stty size)"' WINCH
for i in 1 2 3 4 5 6 7 8 9; do  # the first size comes a moment after the port
    [ "$(stty size)" = "0 0" ] && sleep 0.2
done
echo "first: $(stty size)"
while sleep 0.2; do [ "$(stty size)" = "24 80" ] && break; done
echo "second: $(stty size)"
poweroff -f
"""


def test_size_of_the_terminal():
    command = [HOSTEL, "run", "--isa", "riscv64", "--memory", "256M", "--console-via", "virtio"]
    with Terminal("--initrd", initramfs(SIZE, "virtio"), "--kernel", files() / "kernel",
                  "--append", "console=hvc0 quiet", command=command, size=(43, 132)) as guest:
        guest.wait_for(b"first: 43 132", BOOT)
        guest.resize(24, 80)
        guest.wait_for(b"second: 24 80", BOOT)
        assert guest.end(BOOT) == 0, guest.seen


if __name__ == "__main__":
    tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
