# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""The benchmarks. Each is a function that yields rows; systems take turns in it, and the best of the rounds counts."""

import collections
import contextlib
import fnmatch
import os
import re
import subprocess
import time

from machines import FIRST_LINE, NET_READY, READY, Run, Unavailable
from table import Row

MIB = 1 << 20
SETTLE = 2  # seconds that a guest may still finish what its start left over, before it counts as idle
PATIENCE_TURNS, PATIENCE_SECONDS = 3, 30  # on a busy machine: times as many turns at most, none later than this
BENCHES = []


def bench(*names):
    """A benchmark and the rows that it can yield; a name with * stands for many."""

    def register(function):
        BENCHES.append((names, function))
        return function

    return register


class Context:
    def __init__(self, machines, wanted, rounds, quick):
        self.machines, self.patterns = machines, wanted
        self.rounds, self.quick = rounds, quick
        with Run(machines.native) as native:
            native.wait_for(READY)
            self.programs = programs(native)

    def wants(self, name):
        """Whether a row is asked for: all are without patterns; a pattern without * matches any part of a name."""
        patterns = [p if "*" in p else f"*{p}*" for p in self.patterns]
        return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)

    def wanted(self):
        """The benchmarks that have a row which is asked for."""
        for names, function in BENCHES:
            rows = list(names) + [name for name, _ in self.programs if any(fnmatch.fnmatch(name, n) for n in names)]
            if any(self.wants(row) for row in rows):
                yield function


class Best(collections.defaultdict):
    """{system: the best value seen}."""

    def __init__(self, choose=min):
        super().__init__()
        self.choose = choose

    def see(self, system, value):
        self[system] = value if system not in self else self.choose(self[system], value)


def turns(rounds, best, cpu, threads=1):
    """Turn after turn: as many as rounds, and more while a guest's best time is much more than the processor time that
    it took, which says that somebody else had the processor, until patience ends."""
    start = time.monotonic()
    for turn in range(rounds * PATIENCE_TURNS):
        if turn >= rounds and time.monotonic() - start > PATIENCE_SECONDS:
            break
        if turn >= rounds and all(best[system] <= 1.15 * cpu[system] / threads for system in best):
            break
        yield turn


# ---- The suite -------------------------------------------------------------------------------------------------------


def ask(place, name, milliseconds):
    """(best ns per unit, CPU ns per unit, check sum) of one program of the suite in one place."""
    before = place.cpu_seconds()
    place.send(f"{name} {milliseconds}")
    answer = place.line().split()
    if answer[0] != name:
        raise Unavailable(f"{name}: the suite answers '{' '.join(answer)}'")
    cpu = place.cpu_seconds() - before
    return float(answer[1]), cpu * 1e9 / int(answer[2]), answer[3]


def programs(place):
    """[(name, unit)] of the suite."""
    place.send("list")
    found = []
    while (line := place.line()) != ".":
        found.append(tuple(line.split(" ", 1)))
    return found


def run_suite(context, chosen, commands, milliseconds):
    """Rows of the programs that chosen(name) accepts. Guests wait, asleep, while another has its turn."""
    with contextlib.ExitStack() as stack:
        places = {system: stack.enter_context(Run(command)) for system, command in commands.items()}
        for place in places.values():
            place.wait_for(READY)
        for name, unit in context.programs:
            if not chosen(name) or not context.wants(name):
                continue
            best, cpu, sums = Best(), Best(), {}
            for _ in turns(context.rounds, best, cpu, 2 if name == "parallel/2_threads" else 1):
                for system, place in places.items():
                    ns, cpu_ns, sums[system] = ask(place, name, milliseconds)
                    best.see(system, ns)
                    cpu.see(system, cpu_ns)
            # A host's compiler has no fused multiply-add, so its results may differ in the last place.
            judged = {sums[system] for system in places if system != "native" or not name.startswith("double/")}
            if len(judged) != 1:
                raise Unavailable(f"{name}: results differ: {sums}")
            yield Row(name, f"ns per {unit}", dict(best), dict(cpu))


def on_all(machines, cpus):
    return {**machines.both(machines.linux, cpus=cpus), "native": machines.native}


@bench("integer/*", "calls/*", "branches/*", "memory/*", "double/*", "syscall/*", "kernel/*")
def suite(context):
    """the suite's programs in Debian's kernel, 1 vCPU, and on the host"""
    commands = on_all(context.machines, 1)
    yield from run_suite(context, lambda name: not name.startswith(("parallel/", "disk/")), commands,
                         60 if context.quick else 150)


@bench("parallel/1_thread", "parallel/2_threads")
def parallel(context):
    """an integer program by one thread and by two, in guests of 2 vCPUs and on the host"""
    # Long, because both processors must be free for a sample to be a good one.
    commands = on_all(context.machines, 2)
    yield from run_suite(context, lambda name: name.startswith("parallel/"), commands, 300 if context.quick else 1000)


@bench("disk/*")
def disk(context):
    """a virtio disk of 256 MiB in the host's page cache, read and written by Debian's kernel, 1 vCPU"""
    commands = context.machines.both(context.machines.linux_with_disk)
    yield from run_suite(context, lambda name: name.startswith("disk/"), commands, 150 if context.quick else 600)


# ---- Network ---------------------------------------------------------------------------------------------------------

NET_MB, NET_TRIPS = 64, 1000


def net_ask(program, guest, what, port):
    """(ms per MB or us per round trip, the same of processor time of the guest's processes)"""
    count, units = (NET_TRIPS, NET_TRIPS / 1e3) if what == "rtt" else (NET_MB * 1000000, NET_MB)
    before = guest.cpu_seconds()
    done = subprocess.run([program, what, "127.0.0.1", str(port), str(count)], capture_output=True, text=True,
                          check=False, timeout=120)
    cpu = guest.cpu_seconds() - before
    if done.returncode:
        raise Unavailable(f"netload {what}: {done.stderr.strip()}")
    return float(done.stdout.split()[2]) * 1e3 / units, cpu * 1e3 / units


@bench("net/guest_to_host_*", "net/host_to_guest_*", "net/round_trip_*")
def net(context):
    """TCP between the host and a guest, by a forwarded port of user-mode NAT: 64 MB each way, and round trips"""
    machines, port = context.machines, 20000 + os.getpid() % 20000
    boot, program = machines.linux_with_net(port), str(machines.netload("gcc"))
    kinds = (("guest_to_host", "get", "ms per MB"), ("host_to_guest", "put", "ms per MB"),
             ("round_trip", "rtt", "us"))
    for cpus, place in ((1, "1_vcpu"), (2, "2_vcpus")):
        if not any(context.wants(f"net/{name}_{place}") for name, _, _ in kinds):
            continue
        with contextlib.ExitStack() as stack:
            commands = machines.both(boot, cpus=cpus)
            guests = {system: stack.enter_context(Run(command)) for system, command in commands.items()}
            for guest in guests.values():
                guest.wait_for(NET_READY)
            for name, what, unit in kinds:
                best, cpu = Best(), Best()
                for _ in turns(context.rounds, best, cpu):
                    for number, (system, guest) in enumerate(guests.items()):
                        took, used = net_ask(program, guest, what, port + number)
                        best.see(system, took)
                        cpu.see(system, used)
                yield Row(f"net/{name}_{place}", unit, dict(best), dict(cpu))


# ---- Start -----------------------------------------------------------------------------------------------------------


def boot_once(command, seconds, cpu, system, text=FIRST_LINE):
    with Run(command) as guest:
        seconds.see(system, guest.wait_for(text))
        cpu.see(system, guest.cpu_seconds())


@bench("boot/1_vcpu", "boot/2_vcpus")
def boot(context):
    """Debian's kernel from process start to the first line of user space"""
    for name, cpus in (("boot/1_vcpu", 1), ("boot/2_vcpus", 2)):
        if context.wants(name):
            seconds, cpu = Best(), Best()
            for _ in turns(context.rounds, seconds, cpu):
                for system, command in context.machines.both(context.machines.linux, cpus=cpus).items():
                    boot_once(command, seconds, cpu, system)
            yield Row(name, "s", dict(seconds), dict(cpu))


@bench("boot/uboot")
def boot_uboot(context):
    """U-Boot on OpenSBI, from process start until it waits for a key"""
    seconds, cpu = Best(), Best()
    for _ in turns(context.rounds, seconds, cpu):
        for system, command in context.machines.both(context.machines.uboot).items():
            boot_once(command, seconds, cpu, system, "Hit any key to stop autoboot")
    yield Row("boot/uboot", "s", dict(seconds), dict(cpu))


@bench("debian/login_1_vcpu", "debian/login_2_vcpus")
def debian(context):
    """a whole Debian, from process start to its login prompt"""
    for name, cpus in (("debian/login_1_vcpu", 1), ("debian/login_2_vcpus", 2)):
        if context.wants(name):
            seconds, cpu = Best(), Best()
            for _ in turns(context.rounds, seconds, cpu):
                commands = context.machines.both(context.machines.whole_debian, cpus=cpus, megabytes=1024)
                for system, command in commands.items():
                    boot_once(command, seconds, cpu, system, " login: ")
            yield Row(name, "s", dict(seconds), dict(cpu))


@bench("debian/new_guest")
def debian_new_guest(context):
    """`hostel run debian` with its image in the cache, from the command to a new guest's login prompt"""
    seconds, cpu = Best(), Best()
    name = f"bench-{os.getpid()}"
    program = str(context.machines.hostel_program)
    context.machines.image  # is made first
    for _ in turns(context.rounds, seconds, cpu):
        try:
            boot_once([program, "run", "debian", "--name", name], seconds, cpu, "hostel", " login: ")
        finally:
            subprocess.run([program, "remove", name], check=False, stderr=subprocess.DEVNULL)
    yield Row("debian/new_guest", "s", dict(seconds), dict(cpu))


def first_byte_once(command):
    """(ms to the first byte, CPU ms of all processes from start to end)"""
    readable, writable = os.pipe()
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, writable, 1)]
    start = time.monotonic()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    os.close(writable)
    byte = os.read(readable, 1)
    seconds = time.monotonic() - start
    while os.read(readable, 4096):
        pass
    os.close(readable)
    _, status, usage = os.wait4(pid, 0)
    if byte != b"H" or status:
        raise Unavailable(f"{command[0]} wrote {byte!r} and ended with status {status}")
    return seconds * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3


@bench("bare/first_byte")
def first_byte(context):
    """from process start to the first byte that a bare-metal guest writes to its UART"""
    best, cpu = Best(), Best()
    commands = context.machines.both(context.machines.bare("first_byte"), megabytes=128)
    for _ in turns(context.rounds * 8, best, cpu):
        for system, command in commands.items():
            ms, cpu_ms = first_byte_once(command)
            best.see(system, ms)
            cpu.see(system, cpu_ms)
    yield Row("bare/first_byte", "ms", dict(best), dict(cpu))


# ---- Resources -------------------------------------------------------------------------------------------------------


def peak_at_work(run, ram_size):
    """The last peak, in bytes, that could be read before a run ended by itself."""
    peak = None
    while (going_on := run.read(0.02)) is not False:
        if going_on is None or b"\n" in run.output:
            with contextlib.suppress(OSError, KeyError, Unavailable):  # the first or the last moment of the run
                peak = run.memory(ram_size).peak
    if peak is None:
        raise Unavailable(f"{run.command[0]} ended before its memory was read")
    return peak


@bench("resident/bare_idle", "resident/bare_mips", "resident/debian")
def resident(context):
    """resident memory of all processes beyond the guest RAM that the guest touched"""
    machines, values = context.machines, collections.defaultdict(dict)
    for system, command in machines.both(machines.bare("idle"), megabytes=128).items():
        with Run(command) as guest:
            guest.wait_for("idle")
            values["resident/bare_idle"][system] = guest.memory(128 * MIB).peak / MIB
    for system, command in machines.both(machines.bare("mips"), megabytes=128).items():
        with Run(command) as guest:
            values["resident/bare_mips"][system] = peak_at_work(guest, 128 * MIB) / MIB
    for system, command in machines.both(machines.linux).items():
        with Run(command) as guest:
            guest.wait_for(READY)
            values["resident/debian"][system] = guest.memory(512 * MIB).now / MIB
    for name, found in values.items():
        yield Row(name, "MiB", found)


@bench("idle/debian", "idle/bare")
def idle(context):
    """processor time of guests that have nothing to do; all of them wait side by side"""
    machines, window = context.machines, 5 if context.quick else 20
    with contextlib.ExitStack() as stack:
        guests = {}
        kinds = (("idle/debian", machines.linux, READY), ("idle/bare", machines.bare("idle"), "idle"))
        for name, how, ready in kinds:
            for system, command in machines.both(how).items():
                guests[name, system] = stack.enter_context(Run(command))
                guests[name, system].wait_for(ready)
        wait_until(time.monotonic() + SETTLE)
        start, before = time.monotonic(), {key: guest.cpu_seconds() for key, guest in guests.items()}
        wait_until(start + window)
        elapsed = time.monotonic() - start
        used = {key: (guest.cpu_seconds() - before[key]) / elapsed * 100 for key, guest in guests.items()}
    for name, _, _ in kinds:
        yield Row(name, "% of a CPU", {system: used[name, system] for system in ("hostel", "qemu")})


def wait_until(moment):
    """Time that passes is what idleness is measured over."""
    while (left := moment - time.monotonic()) > 0:
        time.sleep(left)


# ---- Speed in instructions -------------------------------------------------------------------------------------------


def mips_once(command):
    """(instructions retired, seconds by the guest's clock)"""
    with Run(command) as guest:
        guest.wait_for("mips total")
        while b"\n" not in guest.output and guest.read():
            pass
        retired, ticks = re.search(rb"retired=(\d+) ticks=(\d+)", guest.output).groups()
        return int(retired), int(ticks) / 1e7


@bench("bare/mips", "emulation/mips", "emulation/boot")
def mips(context):
    """guest instructions per second of a bare-metal integer mix, and the interpreter alone"""
    machines = context.machines
    if context.wants("bare/mips") or context.wants("emulation/mips"):
        work = machines.bare("mips")
        seconds = Best()
        for _ in range(context.rounds * 2):
            # The interpreter counts exactly; QEMU, as it is commonly used, counts time and calls it instructions.
            retired, took = mips_once(machines.hostel(work, megabytes=128, method="emulation"))
            seconds.see("emulation", took)
            for system, command in machines.both(work, megabytes=128).items():
                seconds.see(system, mips_once(command)[1])
        rate = {system: retired / took / 1e6 for system, took in seconds.items()}
        yield Row("emulation/mips", "million per s", {"hostel": rate.pop("emulation")}, more_is_better=True)
        yield Row("bare/mips", "million per s", rate, more_is_better=True)
    if context.wants("emulation/boot"):
        seconds, cpu = Best(), Best()
        boot_once(machines.hostel(machines.linux, method="emulation"), seconds, cpu, "hostel")
        yield Row("emulation/boot", "s", dict(seconds), dict(cpu))
