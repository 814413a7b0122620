# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""What is measured: commands that start a guest on Hostel or on QEMU, and how a running one is watched from outside."""

import collections
import functools
import os
import pathlib
import re
import select
import shutil
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMEOUT = 300  # seconds; a wait that ends by it has gone wrong, however busy the machine

# What a guest runs as its first program: one line for the driver, then the suite takes orders on the console.
FIRST_LINE = "user space is here"
SCRIPT = f"echo {FIRST_LINE}\nexec /suite\n"
READY = "@ ready"
NET_READY = "netload serves"
NET_SCRIPT = """ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
exec /netload serve 5000
"""
APART = {"netload.c"}  # programs of their own beside the suite
MIB = 1 << 20
DISK_MIB = 256

Memory = collections.namedtuple("Memory", "now peak ram")  # bytes: resident and its peak beyond guest RAM, guest RAM


class Unavailable(Exception):
    """Something cannot be measured here; the message says why."""


# ---- Processes -------------------------------------------------------------------------------------------------------


def family(pid):
    """The ids of a process and all its descendants."""
    children = collections.defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text()
            except OSError:
                continue  # it ended meanwhile
            children[int(stat.rpartition(")")[2].split()[1])].append(int(entry))
    found = [pid]
    for parent in found:
        found += children[parent]
    return found


def cpu_seconds(pid):
    """User and system time of all threads of a process and its descendants, exact where the kernel keeps schedstat."""
    total = 0
    for member in family(pid):
        for stat in pathlib.Path(f"/proc/{member}/task").glob("*/schedstat"):
            try:
                total += int(stat.read_text().split()[0])
            except OSError:
                continue  # the thread ended meanwhile
    return total / 1e9


def mappings(pid):
    """(name, inode, size, resident), in bytes, of each mapping of a process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/smaps").read_text()
    except PermissionError as e:
        raise Unavailable(f"{e}; a locked-down process shows its memory to root only") from e
    head = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ (\d+) *(.*)")
    fields = {}
    for line in text.splitlines():
        match = head.fullmatch(line)
        if match:
            fields = {"inode": int(match[1]), "name": match[2]}
        elif line.startswith(("Size:", "Rss:")):
            key, value, _ = line.split()
            fields[key] = int(value) * 1024
            if key == "Rss:":
                yield fields["name"], fields["inode"], fields["Size:"], fields["Rss:"]


def memory(pid, ram_size):
    """A run's Memory: resident pages of all its processes, without guest RAM, each page of a memory file once.

    Guest RAM is Hostel's memory file of the name "ram", or the one anonymous mapping of its size (QEMU). Code that is
    mapped twice, to be written and to be run, is one piece of memory. Pages of programs and libraries count in full in
    each process, although they are shared."""
    now = peak = ram = 0
    for member in family(pid):
        files = collections.defaultdict(list)
        own_ram = 0
        for name, inode, size, resident in mappings(member):
            if name.startswith("/memfd:ram ") or (not name and size == ram_size):
                own_ram += resident
            elif name.startswith("/memfd:"):
                files[inode].append(resident)
        twice = sum(sum(sizes) - max(sizes) for sizes in files.values())
        status = dict(re.findall(r"(Vm(?:RSS|HWM)):\s+(\d+) kB", pathlib.Path(f"/proc/{member}/status").read_text()))
        now += int(status["VmRSS"]) * 1024 - own_ram - twice
        peak += int(status["VmHWM"]) * 1024 - own_ram - twice
        ram += own_ram
    if not ram:
        raise Unavailable(f"no mapping of guest RAM among the processes of {pid}")
    return Memory(now, peak, ram)


class Run:
    """A started command with its console on pipes. Use it in a `with`: nothing stays behind."""

    def __init__(self, command):
        self.command = command
        self.output = b""
        self.start = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, bufsize=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            for member in reversed(family(self.process.pid)):
                os.kill(member, 9)
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def read(self, timeout=TIMEOUT):
        """Read what is there into `output`; False at the end of the output, None after `timeout` seconds."""
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            return None
        chunk = os.read(self.process.stdout.fileno(), 65536)
        self.output += chunk
        return bool(chunk)

    def wait_for(self, text):
        """Seconds from the start until the console held `text`; what came before it and itself are forgotten."""
        limit = time.monotonic() + TIMEOUT
        while text.encode() not in self.output:
            going_on = self.read(max(0, limit - time.monotonic()))
            if not going_on:
                why = f"nothing within {TIMEOUT} s" if going_on is None else "it ended"
                raise Unavailable(f"'{text}' never came from {' '.join(map(str, self.command[:2]))}: {why}; "
                                  f"its last output: {self.output[-200:].decode(errors='replace')!r}")
        seconds = time.monotonic() - self.start
        self.output = self.output.partition(text.encode())[2]
        return seconds

    def line(self):
        """The suite's next line, without its mark."""
        self.wait_for("@ ")
        while b"\n" not in self.output:
            if not self.read():
                raise Unavailable("the suite fell silent in the middle of a line")
        line, _, self.output = self.output.partition(b"\n")
        return line.decode(errors="replace").strip()

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\n")

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def memory(self, ram_size):
        return memory(self.process.pid, ram_size)


# ---- Guests ----------------------------------------------------------------------------------------------------------


def older(path, sources):
    return not path.exists() or path.stat().st_mtime < max(source.stat().st_mtime for source in sources)


def succeed(command, **more):
    done = subprocess.run(command, capture_output=True, **more)
    if done.returncode:
        last = (done.stdout + done.stderr).decode(errors="replace").strip()[-400:]
        raise Unavailable(f"{command[0]} failed: {last}")
    return done.stdout


class Machines:
    """Commands of both systems for the same guest files."""

    def __init__(self, build, method):
        self.build = build
        self.folder = build / "bench"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.method = method
        self.hostel_program = pathlib.Path(os.environ.get("HOSTEL") or build / "bin/hostel")
        if not os.access(self.hostel_program, os.X_OK):
            raise Unavailable(f"{self.hostel_program} is not a program; run make build, or set HOSTEL")

    def tool(self, name):
        path = shutil.which(name)
        if not path:
            raise Unavailable(f"{name} is not installed; run tools/install-deps test")
        return path

    @functools.cached_property
    def debian(self):
        """The folder of Debian's guest files."""
        return pathlib.Path(succeed([ROOT / "tools/debian-guest", "fetch"]).decode().strip())

    def suite(self, compiler):
        """The suite's program by a compiler: static, optimised the way Debian builds its programs."""
        sources = sorted(path for path in (ROOT / "bench/guest").glob("*.c") if path.name not in APART)
        path = self.folder / f"suite-{compiler}"
        if older(path, [*sources, ROOT / "bench/guest/suite.h"]):
            succeed([self.tool(compiler), "-O2", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-static", "-s",
                     "-pthread", "-o", path, *sources, "-lm"])
        return path

    @functools.cached_property
    def native(self):
        return [str(self.suite("gcc"))]

    def initrd(self, modules=None):
        """busybox's initramfs, and appended to it, as the kernel allows, an archive with the suite."""
        suite = self.suite("riscv64-linux-gnu-gcc")
        script, base, out = (self.folder / name for name in ("script", "base.gz", f"initramfs-{modules}.gz"))
        script.write_text(SCRIPT)
        load = ["--modules", modules] if modules else []
        succeed([ROOT / "tools/debian-guest", "initramfs", base, "--script", script, *load])
        staging = self.folder / "staging"
        staging.mkdir(exist_ok=True)
        shutil.copy(suite, staging / "suite")
        pack = [self.tool("cpio"), "-o", "-H", "newc", "-R", "0:0", "--quiet"]
        archive = succeed(pack, cwd=staging, input=b"suite\n")
        out.write_bytes(base.read_bytes() + succeed([self.tool("gzip"), "-9"], input=archive))
        return out

    def elf(self, name):
        """A bare-metal program of tests/guest/riscv, built when it is not there or old."""
        folder = "tests/guest/riscv"
        sources = [path for path in (ROOT / folder).rglob("*") if path.suffix in {".c", ".h", ".S", ".ld"}]
        path = self.build / folder / f"{name}.elf"
        if older(path, sources):
            succeed([self.tool("ninja"), "-C", self.build, f"{folder}/{name}.elf"])
        return path

    def hostel(self, boot, cpus=1, megabytes=512, method=None):
        return [str(self.hostel_program), "run", "--isa", "riscv64", "--method", method or self.method, "--cpus",
                str(cpus), "--memory", f"{megabytes}M", "--console", "stdio", *boot["hostel"]]

    def qemu(self, boot, cpus=1, megabytes=512):
        return [self.tool("qemu-system-riscv64"), "-M", "virt", "-accel", "tcg", "-smp", str(cpus), "-m",
                f"{megabytes}M", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", *boot["qemu"]]

    def both(self, boot, **more):
        """{system: command}, in the order of turns."""
        return {"hostel": self.hostel(boot, **more), "qemu": self.qemu(boot, **more)}

    @functools.cached_property
    def linux(self):
        """How each system is told to boot Debian's kernel into the suite."""
        return self.boot_linux(self.initrd())

    def boot_linux(self, initrd):
        kernel, initrd, append = str(self.debian / "kernel"), str(initrd), "console=ttyS0 quiet"
        return {"hostel": ["--kernel", kernel, "--initrd", initrd, "--append", append],
                "qemu": ["-kernel", kernel, "-initrd", initrd, "-append", append]}

    @functools.cached_property
    def uboot(self):
        """How each system is told to start Debian's U-Boot on the host's OpenSBI."""
        opensbi = pathlib.Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_jump.bin")
        uboot = pathlib.Path("/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin")
        for path in (opensbi, uboot):
            if not path.exists():
                raise Unavailable(f"{path} is not there; run tools/install-deps test")
        return {"hostel": ["--firmware", str(opensbi), "--kernel", str(uboot)],
                "qemu": ["-bios", str(opensbi), "-kernel", str(uboot)]}

    @functools.cached_property
    def linux_with_disk(self):
        """The same with a virtio disk, of which each system has a file of its own, in the host's page cache."""
        boot = self.boot_linux(self.initrd("virtio"))
        files = {system: self.folder / f"disk-{system}.img" for system in boot}
        content = bytes(range(256)) * (MIB // 256)
        for path in files.values():
            with open(path, "wb") as file:
                for number in range(DISK_MIB):
                    file.write(number.to_bytes(8, "little") + content[8:])
                os.fsync(file.fileno())  # writing back would be somebody's processor time
        boot["hostel"] += ["--disk", f"file={files['hostel']},format=raw"]
        boot["qemu"] += ["-global", "virtio-mmio.force-legacy=false", "-drive",
                         f"file={files['qemu']},format=raw,if=none,id=disk", "-device", "virtio-blk-device,drive=disk"]
        return boot

    def netload(self, compiler):
        """The program that moves bytes over TCP, by a compiler."""
        source, path = ROOT / "bench/guest/netload.c", self.folder / f"netload-{compiler}"
        if older(path, [source]):
            succeed([self.tool(compiler), "-O2", "-std=gnu17", "-D_GNU_SOURCE", "-static", "-s", "-o", path, source])
        return path

    def linux_with_net(self, port):
        """How each system is told to boot Debian's kernel into that program, reached by the host on a port (Hostel) and
        the next one (QEMU)."""
        script, base, out = (self.folder / name for name in ("net-script", "net-base.gz", "net-initramfs.gz"))
        script.write_text(NET_SCRIPT)
        succeed([ROOT / "tools/debian-guest", "initramfs", base, "--script", script, "--modules", "virtio"])
        staging = self.folder / "net-staging"
        staging.mkdir(exist_ok=True)
        shutil.copy(self.netload("riscv64-linux-gnu-gcc"), staging / "netload")
        pack = [self.tool("cpio"), "-o", "-H", "newc", "-R", "0:0", "--quiet"]
        archive = succeed(pack, cwd=staging, input=b"netload\n")
        out.write_bytes(base.read_bytes() + succeed([self.tool("gzip"), "-9"], input=archive))
        boot = self.boot_linux(out)
        boot["hostel"] += ["--net", f"user,forward=tcp:127.0.0.1:{port}-:5000"]
        boot["qemu"] += ["-global", "virtio-mmio.force-legacy=false", "-netdev",
                         f"user,id=net,hostfwd=tcp:127.0.0.1:{port + 1}-:5000",
                         "-device", "virtio-net-device,netdev=net"]
        return boot

    @functools.cached_property
    def image(self):
        """The folder of the image that `hostel run debian` uses; made when it is not there, which takes minutes."""
        maker = [ROOT / "images/debian/hostel-image-debian", "--hostel", self.hostel_program]
        return pathlib.Path(succeed(maker).decode().strip())

    @functools.cached_property
    def whole_debian(self):
        """How each system is told to boot a whole Debian from a disk of its own, with a network card."""
        kernel, initrd = str(self.image / "kernel"), str(self.image / "initrd")
        append = "console=ttyS0 quiet root=/dev/vda systemd.tty.rows.ttyS0=24 systemd.tty.columns.ttyS0=80"
        files = {system: self.folder / f"debian-{system}.img" for system in ("hostel", "qemu")}
        for path in files.values():
            path.unlink(missing_ok=True)
            succeed(["cp", "--sparse=always", self.image / "disk", path])
            path.chmod(0o600)
        return {
            "hostel": ["--kernel", kernel, "--initrd", initrd, "--append", append, "--net", "user",
                       "--disk", f"file={files['hostel']},format=raw"],
            "qemu": ["-kernel", kernel, "-initrd", initrd, "-append", append,
                     "-global", "virtio-mmio.force-legacy=false", "-netdev", "user,id=net",
                     "-device", "virtio-net-device,netdev=net",
                     "-drive", f"file={files['qemu']},format=raw,if=none,id=disk",
                     "-device", "virtio-blk-device,drive=disk"],
        }

    def bare(self, name):
        """How each system is told to run a bare-metal program."""
        elf = str(self.elf(name))
        return {"hostel": ["--firmware", elf], "qemu": ["-bios", "none", "-kernel", elf]}
