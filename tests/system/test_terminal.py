#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""The terminal: raw while a guest has it, restored however the guest, the VMM or hostel ends; and the menu."""

import os
import signal
import time

from guest import RUN, Terminal, alive, children, signal_name, status_of, tap, until

MENU = b"\x1d"


def cpu_time(pid):
    """Ticks that a process has spent."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return sum(int(word) for word in file.read().rsplit(")", 1)[1].split()[11:13])


def started():
    guest = Terminal()
    guest.wait_for(b"ready\r\n")
    assert guest.is_raw()
    return guest


def ends(guest, code):
    got = guest.end()
    assert got == code, (got, guest.seen)
    assert guest.is_restored(), "the terminal was not restored"


def test_restored_after_power_off():
    with started() as guest:
        guest.send(b"P")
        ends(guest, 0)


def test_restored_after_failure():
    with started() as guest:
        guest.send(b"F")
        ends(guest, 42)


def test_restored_after_the_vmm_died():
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGSYS):
        with started() as guest:
            os.kill(guest.vmm(), number)
            ends(guest, 125)
            assert b"hostel: error: the guest's process ended by signal %d" % number in guest.drain(), guest.seen


def test_restored_after_signals():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGSEGV):
        with started() as guest:
            vmm = guest.vmm()
            guest.process.send_signal(number)
            assert guest.end() == -number, signal_name(number)
            assert guest.is_restored(), signal_name(number)
            until(lambda: not alive(vmm), "the end of the VMM")


def test_restored_after_a_vmm_that_does_not_end():
    with started() as guest:
        vmm = guest.vmm()
        os.kill(vmm, signal.SIGSTOP)
        guest.process.send_signal(signal.SIGTERM)
        guest.process.send_signal(signal.SIGTERM)
        ends(guest, -signal.SIGTERM)
        assert not alive(vmm)


def test_restored_after_a_guest_that_never_started():
    with Terminal("--memory", "1M") as guest:
        ends(guest, 2)


def test_restored_after_kill():
    """Nobody asks hostel; the shell that waits for it stays."""
    shell = ["sh", "-c", '"$@"; echo status $?; read line', "sh"]
    with Terminal(command=[*shell, *RUN]) as guest:
        guest.wait_for(b"ready\r\n")
        until(guest.is_raw, "the terminal")
        os.kill(children(guest.process.pid)[0], signal.SIGKILL)
        guest.wait_for(b"status 137")
        until(guest.is_restored, "the terminal's modes")
    with Terminal(command=[*shell, *RUN]) as guest:  # in order: the guard does nothing, however late
        guest.wait_for(b"ready\r\n")
        guest.send(b"P")
        guest.wait_for(b"status 0")
        assert guest.is_restored()


def test_every_key_reaches_the_guest():
    keys = b"\x03\x1a\x1c\x11\x13\x04 \x7f\r\n"
    with started() as guest:
        guest.send(keys + b"P")
        guest.wait_for(b"".join(b"<%c>" % key for key in keys).replace(b"\n", b"\r\n"))
        ends(guest, 0)


def test_menu_quit():
    with started() as guest:
        guest.send(MENU)
        guest.wait_for(b"q: quit")
        guest.send(b"q")
        ends(guest, 0)


def test_menu_reset():
    with started() as guest:
        guest.send(MENU + b"r")
        guest.wait_for(b"ready\r\n")
        guest.send(b"P")
        ends(guest, 0)


def test_menu_break():
    with started() as guest:
        guest.send(MENU + b"b")
        guest.wait_for(b"break\r\nbreak\r\n")  # ours, then the guest's
        guest.send(b"P")
        ends(guest, 0)


def test_menu_sends_itself():
    with started() as guest:
        guest.send(b"a" + MENU + MENU + b"bP")
        guest.wait_for(b"<a>")
        guest.wait_for(b"<\x1d><b>")
        ends(guest, 0)


def test_menu_other_key_returns():
    with started() as guest:
        guest.send(MENU + b"xyP")
        guest.wait_for(b"<y>")
        ends(guest, 0)


def test_menu_works_when_the_guest_takes_no_input():
    with started() as guest:
        guest.send(b"N")
        for _ in range(300):
            guest.send(b"z" * 1000)
        guest.send(MENU + b"q")
        ends(guest, 0)


def test_menu_works_under_a_flood():
    with started() as guest:
        guest.send(b"O")
        guest.wait_for(b"o" * 10000)
        guest.send(MENU + b"q")
        ends(guest, 0)


def test_stop_and_continue():
    with started() as guest:
        guest.process.send_signal(signal.SIGTSTP)
        pid = guest.process.pid
        until(lambda: status_of(pid)["State"].startswith("T"), "hostel stopped")
        assert guest.is_restored()
        vmm = children(pid)[0]
        before = cpu_time(vmm)
        time.sleep(0.2)
        assert cpu_time(vmm) <= before + 1, "the guest went on"
        guest.process.send_signal(signal.SIGCONT)
        until(guest.is_raw, "raw again")
        guest.send(b"kP")
        guest.wait_for(b"<k>")
        ends(guest, 0)


def test_hang_up_of_the_terminal():
    guest = started()
    vmm = guest.vmm()
    os.close(guest.slave)
    os.close(guest.reader)
    assert guest.process.wait(15) in (-signal.SIGHUP, 1)
    until(lambda: not alive(vmm), "the end of the VMM")


def test_without_a_console_the_terminal_is_left_alone():
    with Terminal("--console", "none") as guest:
        guest.vmm()
        assert guest.is_restored()
        guest.send(b"\x03")  # the terminal still makes it a signal
        ends_by = guest.end()
        assert ends_by == -signal.SIGINT, ends_by


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
