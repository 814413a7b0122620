#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
# Runs guest programs on QEMU, the oracle, and on Hostel by each method, and compares their lines. Output is TAP.
"""
Lines a program prints are of three kinds:

  self NAME: ok | FAIL ...   checked by the program itself; must be ok, for QEMU except as deviations.txt says
  note ...                   for the reader: where the specification leaves a choice, or measurements
  anything else              must be the same on QEMU and on Hostel, in the same order

  run.py --elf-dir build/tests/guest/riscv [--hostel build/bin/hostel] [--method emulation] [program ...]
  run.py --elf-dir ... --vectors insn_oracle fadd.s    prints the first vectors that differ
"""
import argparse
import difflib
import fnmatch
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
QEMU = "qemu-system-riscv64"
SCRATCH = tempfile.TemporaryDirectory()
# H off because Hostel has no hypervisor extension; the others are off by default in 7.2.
CPU = "rv64,h=false,svinval=true,svnapot=true"


class Program:
    """How a program is run: on how many harts, with which options of each, and the exit status that is right.

    In options {file} and {flash} stand for scratch files, made for each run.
    """

    def __init__(self, name, cpus=(1,), qemu=(), hostel=(), oracle=True, status=0, timeout=40,
                 elf=None, as_bios=False):
        self.name, self.cpus, self.qemu, self.hostel, self.oracle = name, cpus, list(qemu), list(hostel), oracle
        self.status, self.timeout, self.elf = status, timeout, elf or name
        self.as_bios = as_bios  # to QEMU: with flash, a kernel is not loaded


PROGRAMS = [
    Program("insn_oracle"),
    Program("insn_blocks"),
    Program("insn_formula", oracle=False),
    # Each of its 100,000 traps is new code to a translator.
    Program("decode_sweep", timeout=100),
    Program("traps"),
    Program("csr"),
    # Exact instruction counts exist in QEMU only with -icount.
    Program("counters", qemu=["-icount", "shift=0"]),
    Program("irq"),
    Program("memory"),
    Program("paging"),
    Program("pmp"),
    Program("precise"),
    Program("finisher", status=42),
    Program("flash", cpus=(1, 3)),
    Program("flash_file", elf="flash", qemu=["-drive", "if=pflash,unit=1,format=raw,file={flash}"],
            hostel=["--flash", "{flash},start=off", "--flash", "{flash}"], as_bios=True),
    Program("fw_cfg"),
    # QEMU's board has the device too late for -fw_cfg.
    Program("fw_cfg_files", oracle=False,
            hostel=["--fw-cfg", "name=opt/test/string,string=hello", "--fw-cfg", "name=opt/test/file,file={file}"]),
    Program("torture", cpus=(1, 2, 4), timeout=100),
    Program("mips_short", cpus=(1, 2)),
    Program("mips_count", qemu=["-icount", "shift=0"]),
    Program("first_byte"),
    Program("ticks"),
]


class Result:
    def __init__(self, lines, status, seconds, problem):
        self.lines, self.status, self.seconds, self.problem = lines, status, seconds, problem

    def plain(self):
        return [l for l in self.lines if not l.startswith(("self ", "note "))]

    def self_checks(self):
        """(name, passed, line) of every self-check."""
        for line in self.lines:
            if line.startswith("self "):
                name, sep, _ = line[5:].rpartition(": ok")
                if not sep:
                    name = line[5:].split(": FAIL")[0]
                yield name, bool(sep), line


running = None  # the command under way, for the signal handler


def stop(number, _frame):
    """Told to end: nothing stays behind. A VMM ends when the command that started it is gone."""
    if running:
        running.kill()
    sys.exit(128 + number)


def execute(command, timeout):
    """Runs a command with no input; on a time-out asks it to end, then makes it."""
    global running
    begin = time.monotonic()
    process = running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT)
    problem = None
    try:
        data, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        problem = f"no end after {timeout} s"
        process.terminate()
        try:
            data, _ = process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            data, _ = process.communicate()
    running = None
    text = data.decode("latin-1").replace("\r", "")
    return Result(text.splitlines(), process.returncode, time.monotonic() - begin, problem)


def with_files(options):
    """The options with names of fresh files in place of {file} and {flash}, a bank's worth of zeros."""
    out = []
    for option in options:
        for word, content, size in (("{file}", bytes(range(1, 20)), 19), ("{flash}", b"", 32 << 20)):
            if word in option:
                name = os.path.join(SCRATCH.name, f"{len(os.listdir(SCRATCH.name))}")
                with open(name, "wb") as f:
                    f.write(content)
                    f.truncate(size)
                option = option.replace(word, name)
        out.append(option)
    return out


def run_qemu(program, elf, cpus, timeout):
    boot = ["-bios", elf] if program.as_bios else ["-bios", "none", "-kernel", elf]
    return execute([QEMU, "-M", "virt", *boot, "-nographic", "-m", "128M", "-cpu", CPU,
                    "-smp", str(cpus)] + with_files(program.qemu), timeout)


def run_hostel(program, hostel, method, elf, cpus, timeout, tuning=""):
    return execute([hostel, "run", "--isa", "riscv64", "--board", "riscv-virt", "--method", method, "--cpus", str(cpus),
                    "--memory", "128M", "--firmware", elf, "--console", "stdio", "--net", "none"] +
                   (["--x-tuning", tuning] if tuning else []) + with_files(program.hostel), timeout)


def load_deviations():
    known = []
    with open(os.path.join(HERE, "deviations.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                known.append([part.strip() for part in line.split("|", 2)])
    return known


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def result(self, passed, name, details=(), skip=None):
        self.count += 1
        self.failed += not passed
        print(f"{'ok' if passed else 'not ok'} {self.count} - {name}" + (f" # SKIP {skip}" if skip else ""))
        for line in details:
            print(f"# {line}")
        sys.stdout.flush()


def judge_run(program, result):
    """Problems of a run by itself: hang, exit status."""
    if result.problem:
        return [result.problem] + [f"last lines: {l}" for l in result.lines[-3:]]
    if result.status != program.status:
        last = [f"last lines: {l}" for l in result.lines[-3:]]
        return [f"exit status {result.status}, expected {program.status}"] + last
    return []


def check_qemu(tap, program, result, label, deviations):
    details = judge_run(program, result)
    mine = [(glob, why) for name, glob, why in deviations if name == program.name]
    used = set()
    for name, passed, line in result.self_checks():
        matching = [glob for glob, _ in mine if fnmatch.fnmatchcase(name, glob)]
        if not passed and matching:
            used.update(matching)
        elif not passed:
            details.append(line)
    details += [line for line in result.plain() if ": FAIL got" in line]
    notes = [f"QEMU deviates: {glob}: {why}" for glob, why in mine if glob in used]
    notes += [f"deviation no longer seen: {glob}" for glob, _ in mine if glob not in used]
    tap.result(not details, f"{label} on qemu: self-checks ({result.seconds:.1f} s)", details + notes)


def check_hostel(tap, program, result, oracle, label):
    details = judge_run(program, result)
    bad = [line for _, passed, line in result.self_checks() if not passed]
    details += [f"{len(bad)} self-checks failed"] * bool(bad) + bad[:20]
    good = sum(passed for _, passed, _ in result.self_checks())
    if oracle is not None:
        details += difference(oracle.plain(), result.plain())
    elif not good:
        details.append("no self-check ran")
    for line in result.plain():
        if oracle is None and ": FAIL" in line:
            details.append(line)
    compared = f"{len(oracle.plain())} lines as on qemu" if oracle is not None else "no oracle"
    tap.result(not details, f"{label}: {compared}, {good} self-checks ({result.seconds:.1f} s)", details)


def difference(want, got):
    """The first differing line, how many lines differ, and the first of them in context."""
    if want == got:
        return []
    changed = [l for l in difflib.ndiff(want, got) if l[:1] in "-+"] if len(want) < 3000 else []
    first = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
    details = [f"first difference at line {first + 1} of {len(want)} (Hostel has {len(got)})",
               f"qemu:   {want[first] if first < len(want) else '(end)'}",
               f"hostel: {got[first] if first < len(got) else '(end)'}"]
    wrong = [l[2:] for l in changed if l[0] == "-"]
    details.append(f"{len(wrong)} of qemu's lines are missing:")
    return details + [f"  {l}" for l in wrong[:30]] + (["  ..."] if len(wrong) > 30 else [])


def run_program(tap, args, program, deviations):
    elf = os.path.join(args.elf_dir, program.elf + ".elf")
    if not os.path.exists(elf):
        tap.result(False, program.name, [f"{elf} is not there"])
        return
    for cpus in args.cpus or program.cpus:
        label = f"{program.name}" + (f" with {cpus} harts" if cpus > 1 else "")
        oracle = None
        if program.oracle:
            if not shutil.which(QEMU):
                tap.result(True, f"{label} on qemu", skip=f"no {QEMU}")
            else:
                oracle = run_qemu(program, elf, cpus, program.timeout)
                check_qemu(tap, program, oracle, label, deviations)
        for method, tuning in itertools.product(args.method, args.tuning or [""]):
            name = f"{label} on hostel, {method}" + (f", {tuning}" if tuning else "")
            if tuning.startswith("check=") and cpus > 1:
                continue  # lockstep is for one vCPU
            if not os.path.exists(args.hostel):
                tap.result(True, name, skip=f"{args.hostel} is not built")
                continue
            if program.oracle and oracle is None:
                tap.result(True, name, skip="nothing to compare with")
                continue
            result = run_hostel(program, args.hostel, method, elf, cpus, program.timeout, tuning)
            check_hostel(tap, program, result, oracle, name)
            if result.problem:
                return  # one hang is enough: the next would cost as much time again


def show_vectors(args, name, prefix):
    """Runs the verbose form of a program on both and prints the first vectors that differ."""
    elf = os.path.join(args.elf_dir, name + "_verbose.elf")
    program = Program(name)
    want = run_qemu(program, elf, 1, 300).plain()
    got = run_hostel(program, args.hostel, args.method[0], elf, 1, 600).plain()
    shown = 0
    for a, b in zip(want, got):
        if a != b and a.startswith(prefix):
            print(f"qemu:   {a}\nhostel: {b}")
            shown += 1
            if shown == 20:
                break
    print(f"{shown} differences shown; {len(want)} lines from qemu, {len(got)} from hostel")
    return 1 if shown or len(want) != len(got) else 0


def methods_of(hostel):
    """The first words of what `hostel methods` prints."""
    if os.path.exists(hostel):
        result = execute([hostel, "methods"], 10)
        if result.status == 0 and result.lines:
            return [line.split()[0] for line in result.lines if line.strip()]
    return ["emulation"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("programs", nargs="*")
    parser.add_argument("--elf-dir", default=".")
    parser.add_argument("--hostel", default=os.environ.get("HOSTEL", "build/bin/hostel"))
    parser.add_argument("--method", action="append", help="repeatable; default HOSTEL_METHODS, or all of this host's")
    parser.add_argument("--tuning", action="append", help="words for --x-tuning; repeatable, a run each")
    parser.add_argument("--cpus", action="append", type=int, help="repeatable; default as each program says")
    parser.add_argument("--vectors", nargs=2, metavar=("PROGRAM", "PREFIX"), help="find differing vectors")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--skip", metavar="REASON")
    args = parser.parse_args()
    args.method = args.method or os.environ.get("HOSTEL_METHODS", "").split() or methods_of(args.hostel)
    return args


def main():
    args = parse()
    if args.skip:
        print(f"1..0 # SKIP {args.skip}")
        return 0
    if args.list:
        print("\n".join(p.name for p in PROGRAMS))
        return 0
    if args.vectors:
        return show_vectors(args, *args.vectors)
    unknown = set(args.programs) - {p.name for p in PROGRAMS}
    if unknown:
        print(f"Bail out! no such program: {', '.join(sorted(unknown))}")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    tap, deviations = Tap(), load_deviations()
    for program in PROGRAMS:
        if not args.programs or program.name in args.programs:
            run_program(tap, args, program, deviations)
    print(f"1..{tap.count}")
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
