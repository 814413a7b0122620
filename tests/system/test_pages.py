#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""The commands in docs/*.md still say what the pages say they do. Output is TAP.

A ```console block is commands ("$ " first, lines that continue are indented) and what they print. Numbers that differ
from run to run or from compiler to compiler are not compared, nor is host code beyond its presence; guest code, IR,
cells and messages are. `--update` writes what the commands print now into the pages.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOSTEL = os.environ.get("HOSTEL", str(ROOT / "build" / "bin" / "hostel"))
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"```console\n(.*?)```", re.S)
# A row of a trace: what is left of the host code. And what is different each time.
HOST_CODE = re.compile(r" +[0-9a-f]{1,4}: [a-z].*$")
VARIES = [
    (re.compile(r"host code 0x[0-9a-f]+, \d+ bytes.*"), "host code"),
    (re.compile(r"code \d+ KiB"), "code"),
    (re.compile(r"landlock \d+, mdwe \d, seccomp \d \(\d+"), "landlock"),
]


def split(block):
    """([command], [line of output]) of a block."""
    commands, output = [], []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append(line[2:])
        elif line.startswith("      ") and commands and not output and commands[-1].endswith(("\\", "|")):
            commands[-1] += "\n" + line
        else:
            output.append(line)
    return commands, output


def run(commands, folder):
    env = {**os.environ, "PATH": os.path.dirname(HOSTEL) + ":" + os.environ["PATH"]}
    if "HOSTEL_VMM_PROGRAM" in os.environ:
        env["HOSTEL_VMM"] = os.environ["HOSTEL_VMM_PROGRAM"]
    output = ""
    for command in commands:
        done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True,
                              timeout=60, check=False)
        assert not done.stderr or done.returncode == 0, f"{command}: {done.stderr}"
        output += done.stdout + done.stderr
    return [line.rstrip() for line in output.rstrip("\n").splitlines()]


def key(line):
    """What of a line does not change."""
    line = HOST_CODE.sub("", line)
    for pattern, stays in VARIES:
        line = pattern.sub(stays, line)
    return " ".join(line.split())


def keys(lines):
    """Rows that hold host code alone count as one."""
    found = [key(line) for line in lines]
    return [line for line in found if line]


def blocks(page, folder):
    """(whole text of the block, commands, what the page says, what they print) of each block."""
    for match in BLOCK.finditer(page.read_text()):
        commands, documented = split(match.group(1))
        yield match.group(0), commands, documented, run(commands, folder)


def workplace():
    """A folder that looks like the top of the source tree to commands that write into it."""
    folder = tempfile.TemporaryDirectory(prefix="hostel-pages-")
    for name in ("docs", "src"):
        os.symlink(ROOT / name, os.path.join(folder.name, name))
    return folder


def update(page, folder):
    text = page.read_text()
    for whole, commands, _, printed in blocks(page, folder):
        lines = [f"$ {command}" for command in commands] + printed
        text = text.replace(whole, "```console\n" + "\n".join(lines) + "\n```")
    page.write_text(text)


def check(page, folder):
    for _, commands, documented, printed in blocks(page, folder):
        say, now = keys(documented), keys(printed)
        assert say == now, "\n".join([commands[-1], "the page says:", *say, "now:", *now])
        has_code = [any(HOST_CODE.search(line) for line in lines) for lines in (documented, printed)]
        assert has_code[0] == has_code[1], f"{commands[-1]}: host code is {'not ' if has_code[0] else ''}there now"


def main():
    if "--update" in sys.argv:
        with workplace() as folder:
            for page in PAGES:
                update(page, folder)
        return 0
    if os.environ.get("CAPSTONE") == "0":
        print("1..0 # SKIP the pages show host code, and Capstone is not installed")
        return 0
    print(f"1..{len(PAGES)}")
    failed = 0
    for number, page in enumerate(PAGES, 1):
        try:
            with workplace() as folder:
                check(page, folder)
            print(f"ok {number} - {page.name}")
        except AssertionError as fault:
            failed = 1
            print(f"not ok {number} - {page.name}")
            print("\n".join(f"# {line}" for line in str(fault).splitlines()))
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
