# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Guests with names, in folders of the test's own: commands about them, and what there is to see of them."""

import array
import json
import os
import pathlib
import re
import socket
import tempfile

from debian import BOOT
from guest import hostel

SCRATCH = tempfile.TemporaryDirectory(prefix="hostel-named-")
HERE = pathlib.Path(SCRATCH.name)
RUNTIME = HERE / "run"
RUNTIME.mkdir(mode=0o700)
os.environ["XDG_DATA_HOME"] = f"{HERE}/data"
os.environ["XDG_RUNTIME_DIR"] = str(RUNTIME)
GUESTS = HERE / "data/hostel/guests"


def good(*args, **more):
    done = hostel(*args, timeout=BOOT, **more)
    assert done.returncode == 0, (args, done)
    return done.stdout


def bad(word, *args):
    """Refused, with a reason on one line."""
    done = hostel(*args)
    assert done.returncode and done.stderr.count("\n") == 1 and word in done.stderr, (args, done)


def row(name):
    """What `hostel ps` says of it, or {}."""
    return {one["name"]: one for one in json.loads(good("ps", "-a", "-o", "json"))}.get(name, {})


def status(name):
    return row(name).get("status")


def said(name):
    """What the guest has said in all its runs."""
    journals = sorted(GUESTS.glob(f"{name}/console.log*"), reverse=True)
    return "".join(path.read_text(errors="replace") for path in journals)


def last_round(name):
    """Of one that counts aloud."""
    rounds = re.findall(r"round (\d+)\s", said(name))
    return int(rounds[-1]) if rounds else 0


def qmp(name, *commands, fd=None):
    """The answers to these commands, each a name with its arguments."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(BOOT)
        client.connect(str(next(RUNTIME.glob(f"hostel/*/{name}/control"))))
        stream = client.makefile("r", encoding="utf-8")
        assert "QMP" in json.loads(stream.readline())
        answers = []
        for command, arguments in [("qmp_capabilities", {}), *commands]:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if command == "add-fd" else []
            client.sendmsg([json.dumps({"execute": command, "arguments": arguments}).encode()], rights)
            answer = json.loads(stream.readline())
            while "event" in answer:
                answer = json.loads(stream.readline())
            answers.append(answer)
        return [answer["return"] for answer in answers[1:]]


def none_left():
    """Removes all guests."""
    for path in GUESTS.iterdir():
        if not path.name.startswith("."):
            hostel("rm", "--force", path.name)
    assert not [path for path in GUESTS.iterdir() if not path.name.startswith(".")]
