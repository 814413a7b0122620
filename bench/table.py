# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Rows of results, their means by group, and the bars that they must reach."""

import dataclasses
import fnmatch
import math

SUITE = ("integer", "calls", "branches", "memory", "double", "syscall", "kernel")


@dataclasses.dataclass
class Row:
    """One figure of each system. `cpu` holds processor time for the same work, where it was measured."""

    name: str
    unit: str
    values: dict
    cpu: dict = dataclasses.field(default_factory=dict)
    more_is_better: bool = False

    def ratio(self, by="values"):
        """How many times better Hostel is than QEMU; None without both figures."""
        values = getattr(self, by)
        ours, theirs = values.get("hostel"), values.get("qemu")
        if not ours or not theirs:
            return None
        return ours / theirs if self.more_is_better else theirs / ours

    @property
    def group(self):
        return self.name.partition("/")[0]


class Results:
    def __init__(self, rows):
        self.rows = rows

    def match(self, pattern):
        return [row for row in self.rows if fnmatch.fnmatch(row.name, pattern)]

    def mean(self, *patterns, by="values"):
        """The geometric mean of the ratios of all rows that match; None when there is none."""
        ratios = [row.ratio(by) for pattern in patterns for row in self.match(pattern)]
        ratios = [ratio for ratio in ratios if ratio]
        return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None

    def least(self, by="values"):
        """(the least ratio of the suite, its row's name)."""
        ratios = [(row.ratio(by), row.name) for row in self.rows if row.group in SUITE and row.ratio(by)]
        return min(ratios, default=(None, ""))

    def value(self, name, system="hostel", by="values"):
        return next((getattr(row, by).get(system) for row in self.rows if row.name == name), None)

    def fraction(self, name, by="values"):
        """Hostel's figure as a fraction of QEMU's."""
        ratio = self.mean(name, by=by)
        return ratio and 1 / ratio

    def speed_up(self, system="hostel", by="values"):
        """How many times the work of one thread two threads do in the same time. By processor time: what that would be
        if nobody else used the machine, which is 2 unless work costs more when it is shared out."""
        one = self.value("parallel/1_thread", system, by)
        two = self.value("parallel/2_threads", system, by)
        return one and two and one / two * (2 if by == "cpu" else 1)


def mean(*patterns):
    return lambda results, by: results.mean(*patterns, by=by)


def least(pattern):
    def reached(results, by):
        ratios = [ratio for row in results.match(pattern) if (ratio := row.ratio(by))]
        return min(ratios, default=None)

    return reached


def most(pattern):
    """The largest fraction of QEMU's figure."""
    def reached(results, by):
        worst = least(pattern)(results, by)
        return worst and 1 / worst

    return reached


def fraction(name):
    return lambda results, by: results.fraction(name, by)


def value(name):
    return lambda results, by: results.value(name) if by == "values" else None


# (what, the sense, the bar, its value of results by time ("values") and by processor time ("cpu") or None)
BARS = [
    ("integer, calls and branches, geometric mean", ">=", 1.7, mean("integer/*", "calls/*", "branches/*")),
    ("integer without those, geometric mean", ">=", 1.7, mean("integer/*")),
    ("calls, geometric mean", ">=", 2.5, mean("calls/*")),
    ("indirect branches, geometric mean", ">=", 2.5, mean("branches/*")),
    ("double precision, geometric mean", ">=", 4, mean("double/*")),
    ("system calls, geometric mean", ">=", 5, mean("syscall/*")),
    ("fork and exec", ">=", 2.8, mean("kernel/fork_exec")),
    ("memory copies, geometric mean", ">=", 1.6, mean("memory/memcpy*")),
    ("the least of the suite", ">=", 1, lambda results, by: results.least(by)[0]),
    ("2 vCPUs, times one", ">=", 1.85, lambda results, by: results.speed_up(by=by)),
    ("boot to user space, of QEMU's time, 1 vCPU", "<=", 0.6, fraction("boot/1_vcpu")),
    ("boot to user space, of QEMU's time, 2 vCPUs", "<=", 0.6, fraction("boot/2_vcpus")),
    ("Debian's login prompt, of QEMU's time, 1 vCPU", "<=", 0.6, fraction("debian/login_1_vcpu")),
    ("Debian's login prompt, of QEMU's time, 2 vCPUs", "<=", 0.6, fraction("debian/login_2_vcpus")),
    ("a new Debian guest's login prompt, s", "<=", 10, value("debian/new_guest")),
    ("first UART byte, of QEMU's time", "<=", 0.3, fraction("bare/first_byte")),
    ("peak beyond guest RAM, bare metal, MiB", "<=", 12, value("resident/bare_idle")),
    ("peak beyond guest RAM, bare metal at work, MiB", "<=", 12, value("resident/bare_mips")),
    ("beyond guest RAM after a 512 MiB boot, MiB", "<=", 48, value("resident/debian")),
    ("idle Debian, % of a CPU", "<=", 0.3, value("idle/debian")),
    ("idle bare metal, % of a CPU", "<=", 0.3, value("idle/bare")),
    ("virtio disk, sequential read", ">=", 1.5, mean("disk/read")),
    ("virtio disk, sequential read past the guest's cache", ">=", 1.5, mean("disk/read_direct")),
    ("virtio disk, random 4 KiB reads, geometric mean", ">=", 1.5, mean("disk/read_4k*")),
    ("TCP, guest to host, of the lesser", ">=", 1.8, least("net/guest_to_host_*")),
    ("TCP, host to guest, of the lesser", ">=", 2.5, least("net/host_to_guest_*")),
    ("TCP round trip, of the lesser", ">=", 1, least("net/round_trip_*")),
    ("qcow2 image from raw, of qemu-img's time", "<=", 0.95, fraction("image/to_qcow2")),
    ("qcow2 image to raw, of qemu-img's time", "<=", 0.95, fraction("image/from_qcow2")),
    ("vmdk image from raw, of qemu-img's time", "<=", 0.6, fraction("image/to_vmdk")),
    ("vmdk image to raw, of qemu-img's time", "<=", 0.6, fraction("image/from_vmdk")),
    ("vhdx image from raw, of qemu-img's time", "<=", 0.6, fraction("image/to_vhdx")),
    ("vhdx image to raw, of qemu-img's time", "<=", 0.6, fraction("image/from_vhdx")),
    ("vpc image from raw, of qemu-img's time", "<=", 0.6, fraction("image/to_vpc")),
    ("vpc image to raw, of qemu-img's time", "<=", 0.6, fraction("image/from_vpc")),
    ("vdi image from raw, of qemu-img's time", "<=", 0.75, fraction("image/to_vdi")),
    ("vdi image to raw, of qemu-img's time", "<=", 0.75, fraction("image/from_vdi")),
    ("compressed qcow2 from raw, of qemu-img's time", "<=", 0.4, fraction("image/to_compressed")),
    ("compressed qcow2 to raw, of qemu-img's time", "<=", 0.7, fraction("image/from_compressed")),
    ("info, create, overlay, snapshot: the most of qemu-img's time", "<=", 0.5, most("image/*_1[GT]")),
    ("info, create, overlay, snapshot: the most of qemu-img's memory", "<=", 0.5, most("image/*_1[GT]_peak")),
    ("qcow2, 4 KiB reads, 16 at once", ">=", 1.2, mean("image/bench_read_4k")),
    ("qcow2, 4 KiB writes, 16 at once", ">=", 1.2, mean("image/bench_write_4k")),
    ("qcow2, in order, of the lesser", ">=", 1, least("image/bench_[rw]*[de]")),
    ("hostel ps with 100 guests, ms", "<=", 50, value("guests/ps")),
    ("stop and cont over QMP, ms", "<=", 5, value("control/stop_cont")),
    ("stop and cont over QMP, of QEMU's time", "<=", 1, fraction("control/stop_cont")),
    ("hostel pause, ms", "<=", 5, value("guests/pause")),
    ("hostel resume, ms", "<=", 5, value("guests/resume")),
    ("a guest of 1 GiB goes on from a file, ms", "<=", 50, value("saved/restore")),
    ("a guest of 1 GiB goes on from a file, of QEMU's time", "<=", 0.1, fraction("saved/restore")),
    ("a guest of 1 GiB is saved, of QEMU's time", "<=", 1, fraction("saved/save")),
    ("a guest of 1 GiB is saved, of QEMU's size", "<=", 1, fraction("saved/size")),
    ("pause by QMP, ms", "<=", 5, value("saved/pause")),
    ("resume by QMP, ms", "<=", 5, value("saved/resume")),
    ("ten clones of a guest of 512 MiB, ms", "<=", 1000, value("clones/ten")),
    ("memory of a clone right after, MiB", "<=", 64, value("clones/memory")),
    ("from a snapshot to the answer of a shell, ms", "<=", 200, value("clones/from_snapshot")),
    ("emulation, million instructions per second", ">=", 60, value("emulation/mips")),
    ("emulation, boot to user space, s", "<=", 60, value("emulation/boot")),
]


def figure(value):
    if value is None:
        return "-"
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"


def times(value):
    return f"{value:.2f}x" if value else "-"


def against_native(row):
    ours, native = row.values.get("hostel"), row.values.get("native")
    return times(ours / native) if ours and native else "-"


COLUMNS = "{:22} {:20} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9}"


def print_head():
    print(COLUMNS.format("", "", "Hostel", "QEMU", "native", "better", "by CPU", "native"))
    print(COLUMNS.format("", "", "", "", "", "than QEMU", "time", "is faster"))


def print_row(row):
    print(COLUMNS.format(row.name, row.unit, *(figure(row.values.get(s)) for s in ("hostel", "qemu", "native")),
                         times(row.ratio()), times(row.ratio("cpu")), against_native(row)).rstrip(), flush=True)


def print_means(results):
    print("\nGeometric means")
    for group in SUITE:
        if results.mean(f"{group}/*"):
            print(COLUMNS.format(group, "", "", "", "", times(results.mean(f"{group}/*")),
                                 times(results.mean(f"{group}/*", by="cpu")), "").rstrip())
    if results.speed_up():
        print("\n2 threads on 2 vCPUs, times 1 thread: " + ", ".join(
            f"{system} {figure(results.speed_up(system))}" for system in ("hostel", "qemu", "native")))


def bars(results):
    """(what, sense, bar, value, value by processor time, passed) of each bar that was measured."""
    for what, sense, bar, reach in BARS:
        reached = reach(results, "values")
        if reached is not None:
            passed = reached >= bar if sense == ">=" else reached <= bar
            yield what, sense, bar, reached, reach(results, "cpu"), passed


def print_bars(results):
    print(f"\n{'Bars':50} {'':>8} {'reached':>9} {'by CPU':>9}")
    for what, sense, bar, reached, by_cpu, passed in bars(results):
        print(f"{what:50} {sense} {bar:5g} {figure(reached):>9} {figure(by_cpu):>9}   {'pass' if passed else 'FAIL'}")
    least, name = results.least()
    if least:
        print(f"The least of the suite is {name}.")
