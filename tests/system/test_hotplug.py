#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Disks and network cards that come and go in a running guest.

Debian's riscv64 kernel has no driver for hot-plug slots: its user finds a new device by a rescan of the bus, and lets
go of one by hand. A kernel that has the driver (CONFIG_HOTPLUG_PCI_PCIE; with virtio-pci, -blk and -net, the serial
port and initramfs built in) does both by itself; $HOTPLUG_KERNEL names the file of one, without it those tests are
skipped.
"""

import array
import json
import os
import socket
import struct
import subprocess
import tempfile
import threading

from debian import BOOT, files, initramfs
from frames import checksum
from guest import Qmp, Skip, VMM, tap, until

SCRIPT = """stty -echo
echo "<ready>"
while read -r line; do eval "$line"; echo "<status $?>"; done
"""
DISK_BYTES = 8 << 20


class Guest(Qmp):
    """A guest with a shell on its console."""

    def __init__(self, *args, kernel=None, modules="virtio", ports=2, memory="256M", keep=()):
        self.socket, theirs = socket.socketpair()
        self.console, their_console = socket.socketpair()
        opened = [os.open(name, os.O_RDONLY) for name in (kernel or files() / "kernel", initramfs(SCRIPT, modules))]
        opened += keep
        keep = [theirs.fileno(), their_console.fileno(), *opened]
        ports = ["--hotplug", str(ports)] if ports else []
        self.process = subprocess.Popen(
            [VMM, "--isa", "riscv64", "--memory", memory, "--control", f"fd:{keep[0]}", "--console", f"fd:{keep[1]}",
             "--kernel", f"fd:{keep[2]}:kernel", "--initrd", f"fd:{keep[3]}:initrd",
             "--append", "console=ttyS0 quiet", *ports, *args], pass_fds=keep, stderr=subprocess.PIPE)
        for fd in opened:
            os.close(fd)
        theirs.close()
        their_console.close()
        self.console.settimeout(BOOT)
        self._begin()
        self.socket.settimeout(BOOT)
        assert self.command("qmp_capabilities") == {"return": {}}

    def ready(self):
        self.wait_console(b"<ready>")
        return self

    def shell(self, line):
        """What a line of shell says; it must succeed."""
        self.console.sendall(line.encode() + b"\n")
        text = self.wait_console(b"<status ")
        text += self.wait_console(b">") if not text.rstrip().endswith(b">") else b""
        head, _, status = text.replace(b"\r\n", b"\n").decode(errors="replace").partition("<status ")
        assert status.startswith("0>"), (line, head, status)
        return head

    def until(self, check):
        """Waits in the guest until a shell condition holds."""
        self.shell(f"n=0; until {check}; do n=$((n + 1)); [ $n -lt 600 ] || break; usleep 100000; done; {check}")

    def hand(self, name, fd):
        """getfd"""
        message = json.dumps({"execute": "getfd", "arguments": {"fdname": name}}).encode()
        self.socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        assert self.answer() == {"return": {}}

    def do(self, name, **arguments):
        answer = self.command(name, **arguments)
        assert "return" in answer, answer
        return answer["return"]

    def add_node(self, name, file):
        """A disk image as a node."""
        fd = os.open(file, os.O_RDWR)
        self.hand(name, fd)
        os.close(fd)
        self.do("blockdev-add", **{"driver": "raw", "node-name": name,
                                   "file": {"driver": "file", "filename": f"fd:{name}"}})

    def fails(self, name, **arguments):
        answer = self.command(name, **arguments)
        assert "error" in answer, answer
        return answer["error"]


def image():
    file = tempfile.NamedTemporaryFile(prefix="hotplug-", suffix=".raw")
    file.truncate(DISK_BYTES)
    file.write(b"hello from outside\n")
    file.flush()
    return file


def functions(guest):
    """What query-pci says is behind ports: id to device number."""
    buses = guest.do("query-pci")
    return {d["qdev_id"]: d["id"]["device"] for bus in buses for port in bus["devices"]
            for d in port["pci_bridge"]["devices"]}


def test_without_ports():
    with Guest(ports=0) as guest:
        guest.ready()
        assert guest.shell("ls /sys/bus/pci/devices").strip() == ""
        assert guest.do("query-pci") == []
        assert "--hotplug" in guest.fails("device_add", driver="virtio-net-pci", id="n0")["desc"]


def test_ports_are_seen():
    with Guest(ports=4) as guest:
        guest.ready()
        seen = guest.shell("for d in /sys/bus/pci/devices/*; do echo ${d##*/} $(cd $d; cat vendor device class); done")
        assert seen.strip().split("\n") == [f"0000:00:0{n}.0 0x1b36 0x000c 0x060400" for n in (1, 2, 3, 5)], seen
        ports = guest.do("query-pci")[0]["devices"]
        assert [port["qdev_id"] for port in ports] == ["port1", "port2", "port3", "port4"]
        assert [port["pci_bridge"]["bus"]["secondary"] for port in ports] == [1, 2, 3, 4]


def use_disk(guest, file, name):
    """Reads and writes the disk of that name and compares it with the file outside."""
    assert int(guest.shell(f"cat /sys/block/{name}/size")) * 512 == DISK_BYTES
    assert "hello from outside" in guest.shell(f"head -c 19 /dev/{name}")
    guest.shell(f"yes inside | dd of=/dev/{name} bs=64k seek=16 count=16 iflag=fullblock 2>/dev/null; sync")
    with open(file.name, "rb") as disk:
        disk.seek(16 * 65536)
        assert disk.read(14) == b"inside\ninside\n"


def test_disk_by_rescan():
    with Guest() as guest, image() as file:
        guest.ready()
        for round_ in range(3):
            guest.add_node(f"image{round_}", file.name)
            guest.do("device_add", driver="virtio-blk-pci", id="hot", drive=f"image{round_}", serial="SN-1")
            guest.shell("echo 1 > /sys/bus/pci/rescan")
            guest.until("[ -e /dev/vda ]")
            assert functions(guest) == {"hot": 0x1042}
            use_disk(guest, file, "vda")
            assert "SN-1" in guest.shell("cat /sys/block/vda/serial")
            # In use: the guest is asked, and nobody there hears it.
            guest.do("device_del", id="hot")
            use_disk(guest, file, "vda")
            guest.shell("echo 1 > $(readlink -f /sys/block/vda/../../..)/remove")
            guest.do("device_del", id="hot")
            assert guest.wait_event("DEVICE_DELETED")["data"] == {"device": "hot", "path": "/machine/peripheral/hot"}
            assert functions(guest) == {}
            guest.do("blockdev-del", **{"node-name": f"image{round_}"})
            assert guest.fails("device_del", id="hot")["class"] == "DeviceNotFound"


class Peer(threading.Thread):
    """The other end of a card's cable: answers who 10.9.9.1 is, and its pings."""

    MAC, HEADER = b"\x02\0\0\0\0\x09", 12  # struct virtio_net_hdr

    def __init__(self):
        super().__init__(daemon=True)
        self.socket, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.macs = set()
        self.start()

    def answer(self, frame):
        kind, rest = frame[12:14], frame[14:]
        head = bytes(self.HEADER) + frame[6:12] + self.MAC + kind
        if kind == b"\x08\x06" and rest[6:8] == b"\0\1" and rest[24:28] == bytes([10, 9, 9, 1]):
            return head + rest[:6] + b"\0\2" + self.MAC + rest[24:28] + rest[8:18]
        if kind == b"\x08\0" and rest[9] == 1 and rest[20] == 8:  # an echo; its sums stay right but for the type
            icmp = bytearray(rest[20:])
            icmp[0] = 0
            icmp[2:4] = struct.pack("!H", checksum(bytes(icmp[:2]) + b"\0\0" + bytes(icmp[4:])))
            return head + rest[:12] + rest[16:20] + rest[12:16] + bytes(icmp)
        return None

    def run(self):
        while True:
            try:
                message = self.socket.recv(65536)
            except OSError:
                return
            if not message:
                return
            self.macs.add(message[self.HEADER + 6:self.HEADER + 12])
            reply = self.answer(message[self.HEADER:])
            if reply:
                self.socket.send(reply)

    def __exit__(self, *unused):
        self.socket.close()
        self.theirs.close()

    def __enter__(self):
        return self


def use_card(guest, peer, mac):
    name = guest.shell("cd /sys/class/net; echo e*; cd /").strip()
    assert guest.shell(f"cat /sys/class/net/{name}/address").strip() == mac
    guest.shell(f"ip link set {name} up; ip address add 10.9.9.2/24 dev {name}; ping -c 2 -w 60 10.9.9.1")
    assert bytes.fromhex(mac.replace(":", "")) in peer.macs


def test_card_by_rescan():
    with Guest() as guest, Peer() as peer:
        guest.ready()
        assert "netdev_add" in guest.fails("device_add", driver="virtio-net-pci", id="n0", netdev="wire")["desc"]
        guest.hand("cable", peer.theirs.fileno())
        guest.do("netdev_add", **{"type": "user", "id": "wire", "x-fd": "cable"})
        guest.do("device_add", driver="virtio-net-pci", id="n0", netdev="wire", mac="02:00:00:00:00:07", bus="port2")
        assert "taken" in guest.fails("device_add", driver="virtio-net-pci", id="n1", bus="port2")["desc"]
        assert "already" in guest.fails("device_add", driver="virtio-net-pci", id="n0")["desc"]
        assert "card" in guest.fails("device_add", driver="virtio-net-pci", id="n1", netdev="wire")["desc"]
        guest.shell("echo 1 > /sys/bus/pci/rescan")
        assert functions(guest) == {"n0": 0x1041}
        use_card(guest, peer, "02:00:00:00:00:07")
        assert "device_del" in guest.fails("netdev_del", id="wire")["desc"]
        guest.shell("echo 1 > /sys/bus/pci/devices/0000:02:00.0/remove")
        guest.do("device_del", id="n0")
        guest.wait_event("DEVICE_DELETED")
        guest.do("netdev_del", id="wire")
        assert guest.fails("netdev_del", id="wire")["class"] == "DeviceNotFound"


def test_reset_agrees():
    """A device that was asked for leaves with the guest's reset; others stay."""
    with Guest() as guest, image() as file:
        guest.ready()
        guest.add_node("image", file.name)
        guest.do("device_add", driver="virtio-blk-pci", id="hot", drive="image")
        guest.do("device_add", driver="virtio-net-pci", id="n0")
        guest.shell("echo 1 > /sys/bus/pci/rescan")
        guest.do("device_del", id="hot")
        guest.do("system_reset")
        assert guest.wait_event("DEVICE_DELETED")["data"]["device"] == "hot"
        guest.ready()
        assert guest.shell("cat /sys/bus/pci/devices/*/device").split() == ["0x000c", "0x000c", "0x1041"]
        guest.do("blockdev-del", **{"node-name": "image"})


def disk_words(file, keep, **more):
    """--disk for a VMM; keep gets the descriptor."""
    keep.append(os.open(file.name, os.O_RDWR))
    words = "".join(f",{key}={value}" for key, value in more.items())
    return ["--disk", f"file=fd:{keep[-1]}:image,format=raw{words}"]


def test_there_from_the_start():
    with image() as file:
        keep = []
        with Guest(*disk_words(file, keep, port=2, id="cold"), keep=keep) as guest:
            guest.ready()
            guest.until("[ -e /dev/vda ]")
            assert functions(guest) == {"cold": 0x1042}
            use_disk(guest, file, "vda")
            guest.shell("echo 1 > /sys/bus/pci/devices/0000:02:00.0/remove")
            guest.do("device_del", id="cold")
            guest.wait_event("DEVICE_DELETED")


def test_saved_and_restored():
    """What came while the guest ran is there again when it goes on, from options that say the port."""
    with image() as file, tempfile.TemporaryFile() as saved:
        with Guest() as guest:
            guest.ready()
            guest.add_node("image", file.name)
            guest.do("device_add", driver="virtio-blk-pci", id="hot", drive="image")
            guest.shell("echo 1 > /sys/bus/pci/rescan")
            guest.until("[ -e /dev/vda ]")
            use_disk(guest, file, "vda")
            guest.shell("echo kept > /note")
            guest.hand("file", saved.fileno())
            guest.do("migrate", uri="fd:file")
            until(lambda: guest.do("query-migrate")["status"] in ("completed", "failed"), "the end of saving", BOOT)
            assert guest.do("query-migrate")["status"] == "completed", guest.do("query-migrate")
            assert "saved" in guest.fails("device_del", id="hot")["desc"]
        keep = [os.dup(saved.fileno())]
        with Guest(*disk_words(file, keep, port=1, id="hot"), "--incoming", f"fd:{keep[0]}", keep=keep) as guest:
            guest.do("cont")
            assert guest.shell("cat /note").strip() == "kept"
            use_disk(guest, file, "vda")
            assert functions(guest) == {"hot": 0x1042}
            guest.shell("echo 1 > /sys/bus/pci/devices/0000:01:00.0/remove")
            guest.do("device_del", id="hot")
            guest.wait_event("DEVICE_DELETED")


# --- a kernel that does it by itself ---

def native(**more):
    kernel = os.environ.get("HOTPLUG_KERNEL")
    if not kernel:
        raise Skip("HOTPLUG_KERNEL names no kernel with a driver for hot-plug slots")
    return Guest(kernel=kernel, modules="", **more).ready()


def test_native_disk():
    with native() as guest, image() as file:
        for _ in range(2):
            guest.add_node("image", file.name)
            guest.do("device_add", driver="virtio-blk-pci", id="hot", drive="image")
            guest.until("[ -e /dev/vda ]")
            use_disk(guest, file, "vda")
            guest.do("device_del", id="hot")
            assert guest.wait_event("DEVICE_DELETED")["data"]["device"] == "hot"
            guest.until("! [ -e /dev/vda ]")
            assert functions(guest) == {}
            guest.do("blockdev-del", **{"node-name": "image"})


def test_native_while_it_writes():
    with native() as guest, image() as file:
        guest.add_node("image", file.name)
        guest.do("device_add", driver="virtio-blk-pci", id="hot", drive="image")
        guest.until("[ -e /dev/vda ]")
        guest.shell("(while dd if=/dev/zero of=/dev/vda bs=4k conv=notrunc 2>/dev/null; do :; done) & true")
        guest.do("device_del", id="hot")
        guest.wait_event("DEVICE_DELETED")
        guest.do("blockdev-del", **{"node-name": "image"})


def test_native_reset_and_power():
    """A device that is there stays over a reset, and the slot can be switched off and on."""
    with native() as guest, image() as file:
        guest.add_node("image", file.name)
        guest.do("device_add", driver="virtio-blk-pci", id="hot", drive="image")
        guest.until("[ -e /dev/vda ]")
        guest.do("system_reset")
        guest.ready()
        guest.until("[ -e /dev/vda ]")
        use_disk(guest, file, "vda")
        guest.shell("echo 0 > /sys/bus/pci/slots/1/power")
        guest.until("! [ -e /dev/vda ]")
        guest.shell("echo 1 > /sys/bus/pci/slots/1/power")
        guest.until("[ -e /dev/vda ]")
        use_disk(guest, file, "vda")


def test_native_card():
    with native() as guest, Peer() as peer:
        guest.hand("cable", peer.theirs.fileno())
        guest.do("netdev_add", **{"type": "user", "id": "wire", "x-fd": "cable"})
        guest.do("device_add", driver="virtio-net-pci", id="n0", netdev="wire", mac="02:00:00:00:00:07")
        guest.until("[ -e /sys/class/net/eth0 ]")
        use_card(guest, peer, "02:00:00:00:00:07")
        guest.do("device_del", id="n0")
        guest.wait_event("DEVICE_DELETED")
        guest.until("! [ -e /sys/class/net/eth0 ]")
        guest.do("netdev_del", id="wire")


if __name__ == "__main__":
    tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
