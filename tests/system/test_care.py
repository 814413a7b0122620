#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""What a running guest gives back, and what is noticed of it: Debian's drivers at the balloon and the watchdog, the
notice of a panic, and what is done about them."""

import hashlib
import json
import os
import socket
import subprocess
import tempfile

from debian import BOOT, SCRATCH, files, initramfs
from guest import VMM, Qmp, status_of, tap, until

MIB = 1 << 20


class Machine(Qmp):
    """Debian's kernel and a script, under a VMM with a control socket."""

    def __init__(self, script, modules, *args, memory="256M", keep=()):
        self.socket, theirs = socket.socketpair()
        self.console, their_console = socket.socketpair()
        self.address = None
        self.text = b""
        with open(files() / "kernel", "rb") as kernel, open(initramfs(script, modules), "rb") as initrd:
            fds = [theirs.fileno(), their_console.fileno(), kernel.fileno(), initrd.fileno(), *keep]
            self.process = subprocess.Popen(
                [VMM, "--isa", "riscv64", "--memory", memory, "--control", f"fd:{fds[0]}", "--console", f"fd:{fds[1]}",
                 "--kernel", f"fd:{fds[2]}:kernel", "--initrd", f"fd:{fds[3]}:initrd", "--append",
                 "console=ttyS0 quiet", *args], pass_fds=fds, stderr=subprocess.PIPE)
        theirs.close()
        their_console.close()
        self.console.settimeout(BOOT)
        self._begin()
        self.socket.settimeout(BOOT)
        self.command("qmp_capabilities")

    def wait_for(self, text):
        """Read the console until text appears; what came before it."""
        while text not in self.text:
            data = self.console.recv(65536)
            assert data, self.text
            self.text += data
        before, _, self.text = self.text.partition(text)
        return before

    def say(self, text):
        self.console.sendall(text)

    def ask(self, name, **arguments):
        answer = self.command(name, **arguments)
        assert "return" in answer, answer
        return answer["return"]

    def resident(self):
        """Bytes of host memory that the guest's RAM takes."""
        folder = f"/proc/{self.process.pid}/fd"
        for name in os.listdir(folder):
            if os.readlink(f"{folder}/{name}").startswith("/memfd:ram"):
                return os.stat(f"{folder}/{name}").st_blocks * 512
        raise AssertionError("no file of the guest's RAM")


BALLOON = r"""
dd if=/dev/zero of=/big bs=1M count=180 2>/dev/null
echo "filled $(ls -l /big | awk '{print $5}')"
read -r line
rm /big
echo "freed"
read -r line
echo "left: $(awk '/MemFree/ {print $2}' /proc/meminfo)"
read -r line
dd if=/dev/zero of=/big bs=1M count=180 2>/dev/null
echo "again $(ls -l /big | awk '{print $5}')"
read -r line
"""


def test_memory_comes_back():
    with Machine(BALLOON, "virtio,virtio_balloon", memory="512M") as vmm:
        vmm.wait_for(b"filled 188743680")
        full = vmm.resident()
        assert full > 180 * MIB, full
        vmm.say(b"\n")
        vmm.wait_for(b"freed")
        # What is free is reported in the background, some seconds later.
        until(lambda: vmm.resident() < full - 150 * MIB, "free memory given back", BOOT)
        assert vmm.ask("x-query-balloon-stats")["given-back"] > 150 * MIB
        # The guest is told to do with 200 MiB, says so, and has no more.
        vmm.ask("balloon", value=200 * MIB)
        until(lambda: vmm.ask("query-balloon")["actual"] == 200 * MIB, "the balloon", BOOT)
        assert vmm.wait_event("BALLOON_CHANGE")["data"]["actual"] < 512 * MIB
        vmm.say(b"\n")
        vmm.wait_for(b"left: ")
        assert int(vmm.wait_for(b"\r\n")) < 200 * 1024
        assert vmm.resident() < 200 * MIB + 8 * MIB
        stats = until(lambda: vmm.ask("x-query-balloon-stats")["stats"], "statistics", BOOT)
        assert 0 < stats["stat-free-memory"] < stats["stat-total-memory"] < 512 * MIB, stats
        # The same as managers of QEMU's guests ask for it.
        balloon = "/machine/peripheral/balloon0"
        before = vmm.ask("qom-get", path=balloon, property="guest-stats")["last-update"]
        vmm.ask("qom-set", path=balloon, property="guest-stats-polling-interval", value=1)
        told = until(lambda: [answer for answer in [vmm.ask("qom-get", path=balloon, property="guest-stats")]
                              if answer["last-update"] > before + 1], "fresh statistics", BOOT)[0]["stats"]
        assert 0 < told["stat-free-memory"] < told["stat-total-memory"] < 512 * MIB, told
        vmm.ask("qom-set", path=balloon, property="guest-stats-polling-interval", value=0)
        # And gets all of it again, to be used.
        vmm.ask("balloon", value=512 * MIB)
        until(lambda: vmm.ask("query-balloon")["actual"] == 512 * MIB, "the balloon let go", BOOT)
        vmm.say(b"\n")
        vmm.wait_for(b"again 188743680")
        assert vmm.resident() > 180 * MIB
        # More than there is, and a guest without its driver.
        vmm.ask("balloon", value=1 << 50)
        assert "error" in vmm.command("balloon", value=0)
        vmm.ask("system_reset")
        assert vmm.ask("query-balloon")["actual"] == 512 * MIB
        vmm.ask("quit")


RESTORED = r"""
echo "ready"
read -r line
dd if=/dev/zero of=/big bs=1M count=180 2>/dev/null
echo "filled $(md5sum </big)"
read -r line
rm /big
echo "freed"
read -r line
dd if=/dev/zero of=/big bs=1M count=180 2>/dev/null
echo "again $(md5sum </big)"
"""
ZEROES = hashlib.md5(bytes(180 * MIB)).hexdigest().encode()


def private_bytes(vmm):
    return int(status_of(vmm.process.pid)["RssAnon"].split()[0]) * 1024


def test_memory_comes_back_from_a_restored_guest():
    """Its memory lies over the file it was saved in, so what it gives back is not that file's."""
    path = f"{SCRATCH.name}/saved"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with Machine(RESTORED, "virtio,virtio_balloon", memory="512M") as vmm:
        vmm.wait_for(b"ready")
        socket.send_fds(vmm.socket, [b'{"execute": "getfd", "arguments": {"fdname": "saved"}}\n'], [fd])
        assert vmm.answer() == {"return": {}}
        vmm.ask("x-save", fdname="saved")
        vmm.ask("quit")
    with Machine(RESTORED, "virtio,virtio_balloon", "--incoming", f"fd:{fd}:saved", memory="512M", keep=[fd]) as vmm:
        os.close(fd)
        vmm.say(b"\n")
        vmm.wait_for(b"filled " + ZEROES)
        full = private_bytes(vmm)
        assert full > 180 * MIB, full
        vmm.say(b"\n")
        vmm.wait_for(b"freed")
        until(lambda: private_bytes(vmm) < full - 150 * MIB, "free memory given back", BOOT)
        vmm.say(b"\n")
        vmm.wait_for(b"again " + ZEROES)
        vmm.ask("quit")


BANNER = r"""
echo 0 > /proc/sys/kernel/kptr_restrict
echo "banner $(awk '$3 == "linux_banner" {print $1}' /proc/kallsyms)"
read -r line
"""


def test_virtual_addresses():
    """A piece of the kernel's memory by its own addresses, while it waits."""
    with Machine(BANNER, "") as vmm, tempfile.TemporaryFile() as file:
        vmm.wait_for(b"banner ")
        address = int(vmm.wait_for(b"\r\n"), 16)
        message = json.dumps({"execute": "getfd", "arguments": {"fdname": "piece"}}).encode()
        socket.send_fds(vmm.socket, [message], [file.fileno()])
        assert vmm.answer() == {"return": {}}
        vmm.ask("memsave", val=address - 6000 - (1 << 64), size=6100, filename="fd:piece")  # numbers have a sign
        file.seek(0)
        data = file.read()
        assert len(data) == 6100 and data[6000:].startswith(b"Linux version "), data[6000:]
        assert vmm.ask("query-status")["running"]


def test_no_balloon():
    with Machine("echo up", "", "--balloon", "off") as vmm:
        for command in ({"name": "query-balloon"}, {"name": "balloon", "value": 5}):
            assert vmm.command(**command)["error"]["class"] == "DeviceNotActive", command
        vmm.ask("quit")


# With an interval of its own the driver is loaded anew. Each line from outside feeds once.
WATCHDOG = r"""
rmmod sunxi_wdt && insmod /modules/sunxi_wdt.ko timeout=3 || exit 1
exec 3>/dev/watchdog
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo >&3; sleep 0.2; done
echo "armed"
while read -r line; do echo >&3; echo "fed"; done
"""


def test_watchdog():
    with Machine(WATCHDOG, "sunxi_wdt", "--watchdog", "pause") as vmm:
        vmm.wait_for(b"armed")  # fed longer than its interval, it has not bitten
        assert not [event for event in vmm.events if event["event"] == "WATCHDOG"], vmm.events
        assert vmm.wait_event("WATCHDOG")["data"] == {"action": "pause"}
        vmm.wait_event("STOP")
        assert vmm.ask("query-status")["status"] == "watchdog"
        vmm.ask("watchdog-set-action", action="none")
        vmm.ask("cont")
        assert vmm.ask("query-status")["status"] == "running"
        vmm.say(b"\n")  # feeds it, so it watches again
        vmm.wait_for(b"fed")
        assert vmm.wait_event("WATCHDOG")["data"] == {"action": "none"}
        assert vmm.ask("query-status")["status"] == "running"
        vmm.ask("set-action", watchdog="reset")
        vmm.say(b"\n")
        assert vmm.wait_event("WATCHDOG")["data"] == {"action": "reset"}
        assert vmm.wait_event("RESET")["data"]["guest"]
        vmm.wait_for(b"armed")
        vmm.ask("set-action", watchdog="poweroff")
        assert vmm.wait_event("WATCHDOG")["data"] == {"action": "poweroff"}
        assert vmm.wait_event("SHUTDOWN")["data"]["reason"] == "guest-panic"
        assert vmm.process.wait(BOOT) == 1


# Debian's kernel for riscv64 has no driver for the notice, so the script says it itself.
PANIC = r"""
echo "ready"
while read -r line; do devmem 0x103000 8 $line; echo "said $line"; done
"""


def test_panic():
    path = f"{SCRATCH.name}/panic.core"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with Machine(PANIC, "", "--panic", "none", "--dump-file", f"fd:{fd}:core", keep=[fd]) as vmm:
        os.close(fd)
        vmm.wait_for(b"ready")
        vmm.say(b"2\n")
        assert vmm.wait_event("GUEST_CRASHLOADED")["data"] == {"action": "run"}
        vmm.say(b"1\n")
        assert vmm.wait_event("GUEST_PANICKED")["data"] == {"action": "run"}
        vmm.wait_for(b"said 1")
        assert vmm.ask("query-status")["running"]
        vmm.ask("set-action", panic="pause")
        vmm.say(b"1\n")
        assert vmm.wait_event("GUEST_PANICKED")["data"] == {"action": "pause"}
        assert vmm.ask("query-status")["status"] == "guest-panicked"
        vmm.ask("set-action", panic="x-dump")
        vmm.ask("cont")
        vmm.wait_for(b"said 1")
        vmm.say(b"1\n")
        assert vmm.wait_event("GUEST_PANICKED")["data"] == {"action": "x-dump"}
        assert vmm.wait_event("DUMP_COMPLETED")["data"]["result"]["status"] == "completed"
        assert vmm.wait_event("RESET")["data"]["guest"]
        with open(path, "rb") as core:
            assert core.read(4) == b"\x7fELF"
        assert os.stat(path).st_size > 256 * MIB
        vmm.wait_for(b"ready")  # it has booted again
        vmm.ask("set-action", panic="exit-failure")
        vmm.say(b"1\n")
        assert vmm.wait_event("GUEST_PANICKED")["data"] == {"action": "poweroff"}
        assert vmm.wait_event("SHUTDOWN")["data"]["reason"] == "guest-panic"
        assert vmm.process.wait(BOOT) == 1


def test_nowhere_to_dump_to():
    with Machine("echo ready; read -r line", "") as vmm:
        assert "error" in vmm.command("set-action", panic="x-dump")
        assert "error" in vmm.command("watchdog-set-action", action="x-dump")
        assert "error" in vmm.command("set-action", panic="dance")
        vmm.ask("quit")


# What the guest asks of its power supply, when others decide what becomes of it.
POWER = r"""
echo "ready"
read -r line
$line -f
"""


def test_power_actions():
    with Machine(POWER, "") as vmm:
        vmm.wait_for(b"ready")
        vmm.ask("set-action", shutdown="pause")
        vmm.say(b"poweroff\n")
        assert vmm.wait_event("SHUTDOWN")["data"]["reason"] == "guest-shutdown"
        assert vmm.ask("query-status")["status"] == "shutdown"
        vmm.ask("system_reset")
        vmm.ask("cont")
        vmm.wait_for(b"ready")
        vmm.ask("set-action", reboot="shutdown")
        vmm.say(b"reboot\n")
        assert vmm.wait_event("SHUTDOWN")["data"]["reason"] == "guest-reset"
        assert vmm.process.wait(BOOT) == 0


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
