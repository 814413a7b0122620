#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""The command line: exit codes, pipes, files, and one clear line for each mistake."""

import os
import pathlib
import signal
import subprocess
import tempfile
import time

from guest import HOSTEL, MONITOR, RUN, VMM, Pipes, alive, hostel, tap, until


def refused(code, *words, args, **more):
    """hostel ends with code before a guest ran, and says why on one line that holds the words."""
    done = hostel(*args, **more)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == "", done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0], (word, lines[0])


def run_args(*args, isa="riscv64", firmware=MONITOR):
    return ["run", "--isa", isa, "--firmware", firmware, *args]


def test_power_off_exits_0():
    with Pipes() as guest:
        guest.wait_for(b"ready\n")
        guest.send(b"xP")
        guest.wait_for(b"<x>")
        assert guest.end() == 0


def test_failure_code_is_passed_on():
    with Pipes() as guest:
        guest.wait_for(b"ready\n")
        guest.send(b"F")
        assert guest.end() == 42


def test_reset_starts_again():
    with Pipes() as guest:
        for _ in range(3):
            guest.wait_for(b"ready\n")
            guest.send(b"R")
        guest.wait_for(b"ready\n")
        guest.send(b"P")
        assert guest.end() == 0


def test_end_of_input_is_not_the_end_of_the_guest():
    with Pipes() as guest:
        guest.wait_for(b"ready\n")
        guest.send(b"LF")
        guest.close_input()
        guest.wait_for(b"end\n")
        assert guest.end() == 42


def test_output_is_complete_and_in_order():
    with Pipes() as guest:
        guest.wait_for(b"ready\n")
        guest.send(b"LP")
        time.sleep(0.3)  # nobody reads: every buffer on the way fills
        text = guest.wait_for(b"end\n")
        assert text == b"".join(b"%08x\n" % i for i in range(6000)) + b"end\n"
        assert guest.end() == 0


def test_control_bracket_passes_through_a_pipe():
    with Pipes() as guest:
        guest.wait_for(b"ready\n")
        guest.send(b"\x1dqP")
        guest.wait_for(b"<\x1d><q>")
        assert guest.end() == 0


def test_output_that_nobody_reads_any_more_ends_the_guest():
    with Pipes() as guest:
        guest.wait_for(b"ready\n")
        vmm = guest.vmm()
        process, guest.reader = guest.process, os.close(guest.reader) or -1
        guest.send(b"O")
        assert process.wait(15) == 1
        assert not alive(vmm)


def test_console_to_a_file():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "console"
        process = subprocess.Popen([*RUN, "--console", f"file={path}"], stdin=subprocess.DEVNULL)
        until(lambda: path.exists() and path.read_bytes() == b"ready\n", "output in the file")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
        assert path.stat().st_mode & 0o077 == 0


def test_no_console():
    process = subprocess.Popen([*RUN, "--console", "none"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    assert process.communicate(timeout=10)[0] == b""
    assert process.returncode == -signal.SIGTERM


def test_a_vmm_that_is_killed_is_reported():
    for number, word in ((signal.SIGKILL, b"signal 9 (Killed)"), (signal.SIGSEGV, b"signal 11 (Segmentation fault)")):
        with Pipes() as guest:
            guest.wait_for(b"ready\n")
            os.kill(guest.vmm(), number)
            assert guest.end() == 125
            assert word in guest.drain(), guest.seen


def test_the_vmm_ends_when_hostel_is_killed():
    with Pipes() as guest:
        guest.wait_for(b"ready\n")
        vmm = guest.vmm()
        os.kill(guest.process.pid, signal.SIGKILL)
        until(lambda: not alive(vmm), "the end of the VMM")


def test_signals_end_hostel_and_the_guest():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        with Pipes() as guest:
            guest.wait_for(b"ready\n")
            vmm = guest.vmm()
            guest.process.send_signal(number)
            assert guest.end() == -number
            assert not alive(vmm)


def test_stats_are_printed():
    with Pipes("--stats") as guest:
        guest.wait_for(b"ready\n")
        guest.send(b"P")
        assert guest.end() == 0
        text = guest.drain()
        for words in ("instructions", "blocks made", "TLB misses", "returns to the dispatcher:", "invalidations:"):
            assert f"hostel-vmm: {words} ".encode() in text, (words, text)


def traced(*args):
    """What a run to the guest's end prints on standard error, line by line."""
    done = hostel("run", "--isa", "riscv64", "--memory", "16M", "--firmware", MONITOR, *args, input="P")
    assert done.returncode == 0, done
    return done.stderr.splitlines()


def test_trace_shows_blocks():
    for method in ("emulation", "translation"):
        if "not here" in next(line for line in hostel("methods").stdout.splitlines() if line.startswith(method)):
            continue
        lines = traced("--method", method, "--trace", "translate", "--trace-at", "0x80000000")
        assert all(line.startswith("hostel-vmm[translate]: ") for line in lines), lines
        assert any("block 0x80000000 " in line for line in lines), lines
        assert any(" getreg " in line or " putreg " in line for line in lines), lines
        assert ("host code 0x" in "".join(lines)) == (method == "translation"), lines


def test_trace_is_limited():
    everything, nothing = traced("--trace", "code"), traced("--trace", "code", "--trace-at", "0x10:16")
    assert any("made 0x80000000" in line for line in everything), everything
    assert not any("made" in line or "link" in line for line in nothing), nothing


def test_lists():
    assert "riscv-virt" in hostel("boards").stdout
    assert "riscv64" in hostel("isas").stdout
    assert "emulation" in hostel("methods").stdout
    assert hostel("--version").stdout == hostel("version").stdout
    for args in (["--help"], ["help"], ["help", "run"], ["run", "--help"], ["help", "boards"]):
        done = hostel(*args)
        assert done.returncode == 0 and done.stdout and not done.stderr, args


def test_wrong_words():
    refused(2, "no command 'runn'", args=["runn"])
    refused(2, "unexpected argument 'x'", args=["boards", "x"])
    refused(2, "'--memroy'", "did you mean --memory?", args=run_args("--memroy", "1G"))
    refused(2, "'-m'", "did you mean --memory?", args=run_args("-m", "1G"))
    refused(2, "'-smp'", "did you mean --cpus?", args=run_args("-smp", "2"))
    refused(2, "'--zzzzzz'", "--help lists them", args=run_args("--zzzzzz"))
    refused(2, "unexpected argument 'Image'", "--kernel", args=run_args("Image"))
    refused(2, "--memory needs an argument", args=run_args("--memory"))
    refused(2, "--stats takes no argument", args=run_args("--stats=1"))
    for wrong in ("", "here", "0x80000000:", "0x80000000:0", "-1", "0xffffffffffffffff:2"):
        refused(2, "--trace-at", "address", args=run_args("--trace-at", wrong))
    refused(2, "'--control'", args=run_args("--control", "fd:3"))


def test_wrong_values():
    refused(2, "--isa is missing", args=["run", "--firmware", MONITOR])
    refused(2, "no ISA 'pdp11'", "hostel isas", args=run_args(isa="pdp11"))
    refused(2, "no board 'x'", "hostel boards", args=run_args("--board", "x"))
    refused(2, "no method 'x'", "hostel methods", args=run_args("--method", "x"))
    refused(2, "--cpus 0", args=run_args("--cpus", "0"))
    refused(2, "1000", "1 to", args=run_args("--cpus", "1000"))
    refused(2, "--memory lots", args=run_args("--memory", "lots"))
    refused(2, "--memory 512", "write 512M", args=run_args("--memory", "512"))
    refused(2, "at least", args=run_args("--memory", "1M"))
    refused(2, "backend=bridge", "user|tap|none", args=run_args("--net", "bridge"))
    refused(2, "--console tty", args=run_args("--console", "tty"))
    refused(2, "--trace nonsense", "mmu", args=run_args("--trace", "nonsense"))
    refused(2, "nothing to boot", args=["run", "--isa", "riscv64"])


def test_wrong_files():
    with tempfile.TemporaryDirectory() as folder:
        empty = pathlib.Path(folder) / "empty"
        empty.touch()
        text = pathlib.Path(folder) / "text"
        text.write_text("This is not a kernel. " * 100)
        fifo = pathlib.Path(folder) / "fifo"
        os.mkfifo(fifo)
        refused(1, "--kernel /nonexistent", "No such file", args=run_args("--kernel", "/nonexistent"))
        refused(1, "directory", args=run_args("--kernel", folder))
        refused(1, "empty", args=run_args("--initrd", str(empty)))
        refused(1, "not a regular file", args=run_args("--firmware", str(fifo)))
        refused(1, "cannot write", args=run_args("--console", "file=/nonexistent/x"))
        refused(1, "text", args=["run", "--isa", "riscv64", "--kernel", str(text)])
        untouched = pathlib.Path(folder) / "console"
        refused(1, "No such file", args=run_args("--console", f"file={untouched}", "--kernel", "/nonexistent"))
        assert not untouched.exists()


def test_a_vmm_takes_no_paths():
    done = subprocess.run([VMM, "--isa", "riscv64", "--firmware", MONITOR], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "opens no paths" in done.stderr, done
    done = subprocess.run([VMM, "--isa", "riscv64", "--firmware", "fd:77"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "not an open descriptor" in done.stderr, done


def test_a_vmm_that_is_not_there():
    env = {**os.environ, "HOSTEL_VMM": "/nonexistent/hostel-vmm"}
    refused(1, "cannot start /nonexistent/hostel-vmm", "No such file", args=run_args(), env=env)


def test_installed_anywhere():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["meson", "install", "-C", os.environ["BUILD_ROOT"], "--no-rebuild", "--quiet", "--destdir",
                        folder], check=True, capture_output=True)
        root = pathlib.Path(folder)
        program, = root.glob("**/bin/hostel")
        names = {str(path.relative_to(program.parents[1])) for path in root.glob("**/*") if path.is_file()}
        assert names >= {"libexec/hostel/hostel-vmm", "share/man/man1/hostel.1", "share/man/man1/hostel-vmm.1",
                         "share/bash-completion/completions/hostel"}, names
        assert "emulation" in subprocess.run([program, "methods"], capture_output=True, text=True, check=True).stdout


def test_found_through_a_link():
    with tempfile.TemporaryDirectory() as folder:
        link = pathlib.Path(folder) / "hostel"
        link.symlink_to(HOSTEL)
        assert subprocess.run([link, "isas"], capture_output=True, check=False).returncode == 0


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
