#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""`hostel plug` and `unplug`: disks and network cards of guests with a name come and go; definitions follow.

Two guests: a monitor, which looks at nothing, for what is refused and noted; and Debian's kernel with a shell, which
uses what it is given through starts, saving, snapshots and clones. HOSTEL_KILLS=N sets how often commands are killed at
random moments (20).
"""

import json
import os
import pathlib
import random
import re
import socket
import subprocess
import time

from debian import BOOT, files, initramfs
from guest import HOSTEL, MONITOR, alive, children, hostel, tap, until
from named import GUESTS, HERE, RUNTIME, bad, good, qmp

SIZE = 8 << 20
KILLS = int(os.environ.get("HOSTEL_KILLS", "20"))
KEPT = b"hello from outside\n"


def info(name):
    return json.loads(good("info", "-o", "json", name))[0]


def devices(name):
    """What the definition has: (id, port)."""
    return [(d["id"], d.get("port")) for d in info(name)["devices"]]


def words(name, option):
    return [word for word in info(name)["options"] if word.startswith(f"--{option}=")]


def image(name, size=SIZE):
    path = HERE / name
    with path.open("wb") as file:
        file.write(KEPT)
        file.truncate(size)
    return path


class Monitor:
    """A guest that looks at nothing; nothing is left of it."""

    def __init__(self, name, *more):
        self.name = name
        good("run", "-d", "--name", name, "--isa", "riscv64", "--memory", "16M", "--firmware", MONITOR, *more)

    def __enter__(self):
        return self.name

    def __exit__(self, *unused):
        for path in GUESTS.iterdir():
            if not path.name.startswith("."):
                hostel("rm", "--force", path.name)


# --- a guest that looks at nothing ---

def test_refusals():
    disk, other = image("own.img"), image("other.img")
    with Monitor("plain", "--disk", f"{disk},format=raw") as name:
        bad("hotplug=4", "plug", name, "--disk", f"{other},format=raw")
        bad("hostel stop", "unplug", name, "disk0")
        bad("either", "plug", name)
        bad("either", "plug", name, "--disk", f"{other},format=raw", "--net", "user")
        bad("no device 'nothing'", "unplug", name, "nothing")
        bad("what else", "unplug", name)
        bad("there is no guest", "plug", "nobody", "--net", "user")
        assert devices(name) == [("disk0", None)]
    with Monitor("ports", "--hotplug", "2", "--disk", f"{disk},format=raw") as name:
        bad("another", "plug", name, "--disk", f"{disk},format=raw")
        bad("nowhere.img", "plug", name, "--disk", f"{HERE}/nowhere.img,format=raw")
        bad("must be one of", "plug", name, "--disk", f"{other},format=cp-m")
        bad("has 2 ports", "plug", name, "--disk", f"{other},format=raw,port=3")
        bad("follow", "plug", name, "--disk", f"{other},format=raw,follow=any")
        bad("already", "plug", name, "--disk", f"{other},format=raw,id=disk0")
        bad("no name", "plug", name, "--disk", f"{other},format=raw,id=a b")
        bad("no card", "plug", name, "--net", "none")
        bad("no such interface", "plug", name, "--net", "tap,name=hostel-none")
        assert good("plug", name, "--disk", f"{other},format=raw,port=2") == "disk1\n"
        bad("'disk1'", "plug", name, "--net", "user,port=2")
        assert good("plug", name, "--net", "user") == "net0\n"
        bad("each of its 2 ports", "plug", name, "--net", "user")
        # It is in use now, by the guest's process.
        convert = "image", "convert", "-f", "raw", "-O", "raw", other, HERE / "copy.img"
        bad("in use", *convert)
        nodes = {node["node-name"] for node in qmp(name, ("query-named-block-nodes", {}))[0]}
        assert nodes == {"disk0-image", "disk1-image"}, nodes
        assert good("unplug", name, "disk1", "net0") == ""
        assert qmp(name, ("query-named-block-nodes", {}), ("x-query-net", {}))[0][0]["node-name"] == "disk0-image"
        assert devices(name) == [("disk0", None)] and words(name, "net") == []
        good(*convert)


def test_at_rest():
    """The definition alone; names and addresses stay what they were."""
    a, b, c = (image(f"{name}.img") for name in "abc")
    with Monitor("rest", "--hotplug", "2", "--disk", f"{a},format=raw", "--disk", f"{b},format=raw",
                 "--net", "user") as name:
        good("kill", name)
        assert good("plug", name, "--disk", "c.img,format=raw", cwd=HERE) == "disk2\n"
        assert good("plug", name, "--net", "user,isolated=on") == "net1\n"
        good("unplug", name, "disk0", "net0")
        assert devices(name) == [("disk1", None), ("disk2", 1), ("net1", 2)], devices(name)
        assert f"file={c}," in words(name, "disk")[1] and words(name, "net")[0] == "--net=none"
        good("start", name)
        disks, cards = qmp(name, ("query-block", {}), ("x-query-net", {}))
        assert [disk["device"] for disk in disks] == ["disk1", "disk2"]
        assert [card["id"] for card in cards] == ["net1"]
        good("unplug", name, "net1")
        assert words(name, "net") == [] and devices(name) == [("disk1", None), ("disk2", 1)]
        good("save", name)
        bad("is saved", "plug", name, "--net", "user")
        bad("is saved", "unplug", name, "disk2")
        good("start", name)
        good("unplug", name, "disk2")
        assert devices(name) == [("disk1", None)]


def test_differences():
    """What came from elsewhere is noticed, and unplug resolves it."""
    disk, hot = image("d.img"), image("hot.img")
    with Monitor("other", "--hotplug", "2", "--disk", f"{disk},format=raw") as name:
        with hot.open("r+b") as file:
            qmp(name, ("add-fd", {"fdset-id": 1}),
                ("blockdev-add", {"driver": "raw", "node-name": "strange-image",
                                  "file": {"driver": "file", "filename": "/dev/fdset/1"}}),
                ("device_add", {"driver": "virtio-blk-pci", "id": "strange", "drive": "strange-image"}),
                ("remove-fd", {"fdset-id": 1}),
                fd=file.fileno())
        bad("unplug other strange", "snapshot", "create", name)
        bad("unplug other strange", "plug", name, "--net", "user")
        good("unplug", name, "strange")
        assert good("plug", name, "--disk", f"{hot},format=raw") == "disk1\n"
        qmp(name, ("device_del", {"id": "disk1"}))
        bad("unplug other disk1", "snapshot", "create", name)
        good("unplug", name, "disk1")
        assert devices(name) == [("disk0", None)]
        assert good("plug", name, "--disk", f"{hot},format=raw") == "disk1\n"


def test_another_image():
    """A definition that was changed for the next start is not one of a moment of now."""
    first, second = image("first.img"), image("second.img")
    with Monitor("changed", "--hotplug", "1", "--disk", f"{first},format=raw") as name:
        good("snapshot", "create", name, "one")
        good("set", name, f"disk={second},format=raw")
        bad("another image", "snapshot", "create", name)
        bad("another image", "plug", name, "--net", "user")
        good("set", name, f"disk={first},format=raw")
        good("snapshot", "create", name, "two")
        good("snapshot", "merge", name)
        good("snapshot", "create", name, "three")


def rates(name):
    return {card["id"]: (card["rx-bits"], card["tx-bits"]) for card in qmp(name, ("x-query-net", {}))[0]}


def test_rates():
    """What --net says is so from the start, and again when `set` does not say otherwise any more."""
    with Monitor("rated", "--hotplug", "1", "--net", "user,rate-in=3M,rate-out=250k", "--net", "user") as name:
        assert rates(name) == {"net0": (3000000, 250000), "net1": (0, 0)}
        good("set", name, "net-in=1G")
        assert rates(name) == {"net0": (1000000000, 250000), "net1": (1000000000, 0)}
        assert good("plug", name, "--net", "user,rate-out=7M") == "net2\n"
        assert rates(name)["net2"] == (1000000000, 7000000)
        good("set", name, "net-in=")
        assert rates(name) == {"net0": (3000000, 250000), "net1": (0, 0), "net2": (0, 7000000)}
        bad("a number a second", "plug", name, "--net", "user,rate-in=fast")


def test_limits():
    disk = image("slow.img")
    with Monitor("limited", "--hotplug", "1") as name:
        good("plug", name, "--disk", f"{disk},format=raw,iops=500,bps-read=2M,readonly=on,serial=X1")
        inserted = qmp(name, ("query-block", {}))[0][0]["inserted"]
        assert (inserted["iops"], inserted["bps_rd"], inserted["ro"]) == (500, 2 << 20, True), inserted


def test_chains():
    """An image over another one, which is only read; images that name files are not followed."""
    base, top, named = image("base.img"), HERE / "top.qcow2", HERE / "named.qcow2"
    good("image", "create", "-f", "qcow2", top, str(SIZE))
    with Monitor("chains", "--hotplug", "1") as name:
        keys = f"{top},format=qcow2,base={base},base-format=raw"
        bad("qcow2", "plug", name, "--disk", f"{image('raw.img')},format=qcow2,base={base},base-format=raw")
        assert good("plug", name, "--disk", keys) == "disk0\n"
        inserted = qmp(name, ("query-block", {}))[0][0]["inserted"]
        assert inserted["backing_file_depth"] == 1 and not inserted["ro"]
        good("save", name)
        good("start", name)
        good("unplug", name, "disk0")
        assert qmp(name, ("query-named-block-nodes", {}))[0] == []
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", named], check=True)
        bad("backing", "plug", name, "--disk", f"{named},format=qcow2")
        assert qmp(name, ("query-named-block-nodes", {}))[0] == [] and devices(name) == []


def test_guests_of_a_system():
    """What a system brings itself is not in the words, and is there all the same."""
    folder = GUESTS / "deb"
    folder.mkdir(parents=True)
    (folder / "definition").write_text("[guest]\nsystem=debian\n[run]\nwords=--hotplug=2;\n"
                                       "[last]\nwords=--memory=1G;\n")
    try:
        assert devices("deb") == [("disk0", None), ("net0", None)]
        bad("made with it", "unplug", "deb", "disk0")
        assert good("plug", "deb", "--net", "user") == "net1\n"
        assert words("deb", "net")[0] == "--net=user" and devices("deb")[1:] == [("net0", None), ("net1", 1)]
        assert good("plug", "deb", "--disk", f"{image('deb.img')},format=raw") == "disk1\n"
        good("unplug", "deb", "net1", "net0")
        assert words("deb", "net") == ["--net=none"] and devices("deb") == [("disk0", None), ("disk1", 2)]
        assert words("deb", "memory") == ["--memory=1G"]
    finally:
        good("rm", "deb")


def test_killed():
    """Whenever plug and unplug are killed, what there is is told, and can be put right."""
    disk = image("k.img")
    with Monitor("killed", "--hotplug", "1") as name:
        for turn in range(KILLS):
            for args in (["plug", name, "--disk", f"{disk},format=raw"], ["unplug", name, "disk0"]):
                with subprocess.Popen([HOSTEL, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                    time.sleep(random.random() / 50)
                    process.kill()
            there = [row["device"] for row in qmp(name, ("query-block", {}))[0]]
            known = [row[0] for row in devices(name)]
            if there != known:
                bad("unplug killed disk0", "snapshot", "create", name)
            if there or known:
                good("unplug", name, "disk0")
            assert good("plug", name, "--disk", f"{disk},format=raw") == "disk0\n", turn
            good("unplug", name, "disk0")
            assert qmp(name, ("query-named-block-nodes", {}))[0] == []


def test_killed_before_the_last_step():
    """The definition has lost the disk, and the layers' file has not told it: the guest starts without."""
    disk = image("last.img")
    with Monitor("last", "--hotplug", "1", "--disk", f"file={image('first.img')},format=raw") as name:
        good("plug", name, "--disk", f"{disk},format=raw")
        good("snapshot", "create", name, "one")
        table = GUESTS / name / "layers.json"
        before = json.loads(table.read_text())
        good("unplug", "--force", name, "disk1")
        after = json.loads(table.read_text())
        assert len(before["disks"][1]) == 1 and after["disks"][1] == [] and "losing" not in after
        table.write_text(json.dumps({**before, "losing": str(disk)}))
        good("kill", name)
        good("start", name)
        assert [row["device"] for row in qmp(name, ("query-block", {}))[0]] == ["disk0"]
        good("snapshot", "create", name, "two")
        now = json.loads(table.read_text())
        assert now["disks"][1] == [] and len(now["disks"][0]) == 2 and "losing" not in now
        good("kill", name)
        table.write_text(json.dumps({**now, "losing": str(HERE / "first.img")}))  # which it still has
        good("start", name)
        assert qmp(name, ("query-block", {}))[0][0]["inserted"]["backing_file_depth"] == 2


def netds():
    """Processes that carry frames and are alive."""
    pids = [int(path.parent.name) for path in pathlib.Path("/proc").glob("[0-9]*/comm")
            if path.exists() and path.read_text(errors="replace") == "hostel-netd\n"]
    return {pid for pid in pids if alive(pid)}


def test_carriers():
    """What carries a card's frames lives as long as the card and the guest."""
    before = netds()
    with Monitor("carried", "--hotplug", "1", "--net", "user") as name:
        supervisor = info(name)["supervisor-pid"]
        first = netds() - before
        good("plug", name, "--net", "user")
        assert len(netds() - before) == 2
        good("unplug", name, "net1")
        until(lambda: netds() - before == first, "the end of what carried it")
        good("plug", name, "--net", "user")
        good("kill", name)
        until(lambda: netds() <= before, "the end of both")
        good("set", name, "net=user,port=1")
        good("start", name)
        supervisor = info(name)["supervisor-pid"]
        good("unplug", name, "net0")
        until(lambda: len(children(supervisor)) == 1, "the end of a child")  # none is left as a zombie


# --- Debian's kernel ---

SHELL = """stty -echo
echo "<ready>"
while read -r line; do eval "$line"; echo "<status $?>"; done
"""


class Shell:
    """What a guest's console hears and says."""

    def __init__(self, name):
        self.name = name
        self.seen = 0

    def said(self):
        return (GUESTS / self.name / "console.log").read_text(errors="replace").replace("\r", "")[self.seen:]

    def wait(self, pattern):
        found = until(lambda: re.search(pattern, self.said()), f"{pattern}: {self.said()[-300:]}", BOOT)
        head = self.said()[:found.start()]
        self.seen += found.end()
        return head, found

    def __call__(self, line):
        """What a line of shell says; it must succeed."""
        with socket.socket(socket.AF_UNIX) as console:
            console.connect(str(next(RUNTIME.glob(f"hostel/*/{self.name}/console"))))
            console.sendall(line.encode() + b"\n")
            console.shutdown(socket.SHUT_WR)
            head, found = self.wait(r"<status (\d+)>\n")
        assert found[1] == "0", (line, head)
        return head

    def until(self, check):
        self(f"n=0; until {check}; do n=$((n + 1)); [ $n -lt 600 ] || break; usleep 100000; done; {check}")

    def find(self):
        self("echo 1 > /sys/bus/pci/rescan")
        self.until("[ -e /dev/vdb ]")


def remove(shell, disk):
    shell(f"echo 1 > $(readlink -f /sys/block/{disk}/../../..)/remove")


def has(shell, text, disk="vdb"):
    """The disk begins with that text."""
    shell("echo 3 > /proc/sys/vm/drop_caches")
    found = shell(f"head -c {len(text)} /dev/{disk}")
    assert text in found, found


def write(shell, text):
    shell(f"echo {text} | dd of=/dev/vdb conv=notrunc,fsync 2>/dev/null")


class Linux(Monitor):
    """With one disk, ports, and a shell."""

    def __init__(self, name):
        self.name = name
        boot = image(f"{name}-boot.img")
        good("run", "-d", "--name", name, "--isa", "riscv64", "--memory", "128M", "--hotplug", "2",
             "--kernel", files() / "kernel", "--initrd", initramfs(SHELL, "virtio"),
             "--append", "console=ttyS0 quiet", "--disk", f"{boot},format=raw")

    def __enter__(self):
        shell = Shell(self.name)
        shell.wait("<ready>\n")
        return shell


def test_linux():
    """In, used, refused to go, out; in, and there again after a start and after saving."""
    hot = image("l.img")
    with Linux("linux") as shell:
        name = shell.name
        assert good("plug", name, "--disk", f"{hot},format=raw,serial=SN-7") == "disk1\n"
        shell.find()
        assert "SN-7" in shell("cat /sys/block/vdb/serial")
        has(shell, "hello")
        # The kernel has no driver for the slot, so nobody answers, and is told how.
        done = hostel("unplug", "-t", "0.5", name, "disk1")
        assert done.returncode == 1 and "/sys/bus/pci/devices/0000:01:00.0/remove" in done.stderr, done
        assert devices(name) == [("disk0", None), ("disk1", 1)]
        remove(shell, "vdb")
        good("unplug", name, "disk1")
        assert devices(name) == [("disk0", None)]
        assert good("plug", name, "--disk", f"{hot},format=raw") == "disk1\n"
        shell.find()
        write(shell, "second")
        good("save", name)
        good("restore", name)
        has(shell, "second")
        write(shell, "third")
        good("kill", name)
        assert hot.read_bytes().startswith(b"third\n")
        good("start", name)
        shell.wait("<ready>\n")
        # The kernel finds disks in its own order.
        disk = shell("for d in /sys/block/vd*; do readlink $d; done | grep /pci0000").split("/")[-1].strip()
        has(shell, "third", disk)
        remove(shell, disk)
        good("unplug", name, "disk1")


def test_moments():
    """Snapshots have the devices of their time; clones have those of theirs."""
    hot, second = image("m.img"), image("n.img")
    with Linux("moments") as shell:
        name = shell.name
        good("snapshot", "create", name, "before")
        good("plug", name, "--disk", f"{hot},format=raw")
        shell.find()
        write(shell, "one")
        good("snapshot", "create", name, "with")
        write(shell, "two")
        remove(shell, "vdb")
        bad("--force", "unplug", name, "disk1")  # what it has written is in a layer
        good("unplug", "--force", name, "disk1")
        assert devices(name) == [("disk0", None)] and hot.read_bytes().startswith(b"one\n")
        bad("'with'", "plug", name, "--disk", f"{hot},format=raw")  # what that lies over would be written to
        good("plug", name, "--disk", f"{second},format=raw")
        shell.find()
        write(shell, "other")
        good("snapshot", "create", name, "later")
        write(shell, "later")
        good("snapshot", "merge", name, "later")  # not into the other disk, which was in that place before
        has(shell, "later")
        assert second.read_bytes().startswith(b"other\n") and hot.read_bytes().startswith(b"one\n")
        good("snapshot", "revert", "--force", name, "with")
        assert f"file={hot}," in words(name, "disk")[1], words(name, "disk")
        has(shell, "one")
        write(shell, "three")
        good("clone", name, "twin")
        twin = Shell("twin")
        has(twin, "three")
        write(twin, "twins")
        has(shell, "three")
        assert devices("twin") == [("disk0", None), ("disk1", 1)]
        good("snapshot", "revert", "--force", name, "before")
        assert devices(name) == [("disk0", None)]
        shell("[ ! -e /dev/vdb ]")
        good("run", "--from", f"{name}/with", "--name", "third", "-d")
        has(Shell("third"), "one")
        good("run", "--from", f"{name}/before", "--name", "fourth", "-d")
        assert devices("fourth") == [("disk0", None)]
        Shell("fourth")("[ ! -e /dev/vdb ]")
        assert hot.read_bytes().startswith(b"one\n") and second.read_bytes().startswith(b"other\n")


def test_card():
    """A card comes, gets an address, and has the same one after a start; limits of speed hold for it."""
    with Linux("carded") as shell:
        name = shell.name
        assert good("plug", name, "--net", "user,isolated=on") == "net0\n"
        shell("echo 1 > /sys/bus/pci/rescan")
        shell.until("[ -e /sys/class/net/e* ]")
        mac = shell("cat /sys/class/net/e*/address").strip()
        assert f"mac={mac}" in words(name, "net")[0], (mac, words(name, "net"))
        look = "d=$(echo /sys/class/net/e*); ip link set ${d##*/} up; udhcpc -n -q -i ${d##*/} 2>&1"
        assert "10.0.2.15" in shell(look)
        good("save", name)
        good("start", name)
        assert "10.0.2.15" in shell(look)
        good("kill", name)
        good("start", name)
        shell.wait("<ready>\n")
        assert shell("cat /sys/class/net/e*/address").strip() == mac
        assert "10.0.2.15" in shell(look)
        shell("echo 1 > /sys/bus/pci/devices/0000:01:00.0/remove")
        good("unplug", name, "net0")
        assert devices(name) == [("disk0", None)]


if __name__ == "__main__":
    tap([value for key, value in sorted(globals().items()) if key.startswith("test_")])
