#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""query-qmp-schema says what is there, no more and no less, and what is called as in QEMU is as in QEMU's schema."""

import json
import shutil
import subprocess

from guest import Qmp, Skip, tap
from qmp_schema import Schema, Wrong

# Members of arguments that QEMU demands and we do not have, with the reason.
# What QEMU's schema does not say although QEMU takes it: device_add's members are those of the driver.
EXCEPTIONS = {f"device_add.{name} is no member of QEMU's"
              for name in ("drive", "serial", "rerror", "werror", "netdev", "mac", "host_mtu")}
EXCEPTIONS |= {f"query-{name}.children is no member of QEMU's"  # later versions of it have them
               for name in ("block->[].inserted", "named-block-nodes->[]")}


def negotiated():
    vmm = Qmp()
    assert vmm.command("qmp_capabilities") == {"return": {}}
    return vmm


def test_the_schema_is_whole():
    assert not Qmp.learn().check_whole()


def test_the_schema_describes_itself():
    with negotiated() as vmm:
        vmm.command("query-qmp-schema")  # is checked on the way


def test_commands_listed_are_commands_described():
    with negotiated() as vmm:
        listed = [row["name"] for row in vmm.command("query-commands")["return"]]
        assert len(listed) == len(set(listed))
        assert set(listed) == set(Qmp.learn().of("command"))


def test_every_query_answers_as_described():
    with negotiated() as vmm:
        for name, row in Qmp.learn().of("command").items():
            needs = [member for member in Qmp.schema.rows[row["arg-type"]]["members"] if "default" not in member]
            if name.startswith(("query-", "x-query-")) and not needs:
                answer = vmm.command(name)  # checks it
                assert "return" in answer or answer["error"]["desc"], (name, answer)


def wrong_values(schema, type_name):
    """Values that a member of this type cannot have."""
    row = schema.rows[type_name]
    kinds = {"builtin": lambda: row["json-type"], "enum": lambda: "string", "array": lambda: "array",
             "object": lambda: "object", "alternate": lambda: "value"}
    kind = kinds[row["meta-type"]]()
    values = {"string": "no-such-word", "int": 7, "boolean": True, "null": None, "object": {"no-such-member": 1},
              "array": [{"no-such-member": 1}], "number": 0.5}
    for other, value in values.items():
        fits = kind in ("value", other) or (kind == "number" and other == "int")
        if not fits or (row["meta-type"] == "enum" and other == "string"):
            yield value


def test_wrong_arguments_are_refused_as_described():
    with negotiated() as vmm:
        schema = Qmp.learn()
        for name, row in schema.of("command").items():
            if name == "qmp_capabilities":
                continue  # has its own tests: it cannot be said twice
            members = schema.rows[row["arg-type"]]["members"]
            good = {member["name"]: None for member in members if "default" not in member}
            trials = [good | {"no-such-argument": 1}]
            for member in members:
                trials += [{member["name"]: value} for value in wrong_values(schema, member["type"])]
            if good:
                trials.append({})
            for trial in trials:
                answer = vmm.command(name, **trial) if trial else vmm.send(json.dumps({"execute": name}).encode())
                assert answer.get("error", {}).get("class") == "GenericError", (name, trial, answer)
                assert "parameter" in answer["error"]["desc"], (name, trial, answer)
        assert vmm.command("query-status")["return"]["running"]


def qemu_schema():
    qemu = shutil.which("qemu-system-riscv64")
    if not qemu:
        raise Skip("needs qemu-system-riscv64")
    words = "".join(f'{{"execute": "{name}"}}\n' for name in ("qmp_capabilities", "query-qmp-schema", "quit"))
    out = subprocess.run([qemu, "-M", "none", "-display", "none", "-S", "-qmp", "stdio"], input=words, text=True,
                         capture_output=True, timeout=60, check=True).stdout
    lists = [message["return"] for message in map(json.loads, out.splitlines())
             if isinstance(message.get("return"), list)]
    schema = Schema(lists[0])
    schema.check_whole()
    return schema


def test_what_is_called_as_in_qemu_is_as_in_qemu():
    theirs, ours = qemu_schema(), Qmp.learn()
    complaints, shared = [], 0
    for name, row in ours.rows.items():
        if row["meta-type"] not in ("command", "event") or name not in theirs.rows:
            continue
        other = theirs.rows[name]
        shared += 1
        complaints += ours.agrees(row["arg-type"], theirs, other["arg-type"], name, row["meta-type"] == "command")
        if row["meta-type"] == "command":
            complaints += ours.agrees(row["ret-type"], theirs, other["ret-type"], name + "->", False)
    complaints = [text for text in complaints if text not in EXCEPTIONS]
    assert shared >= 15 and not complaints, "\n".join(complaints)


def test_what_qemu_lacks_is_called_so():
    theirs, ours = qemu_schema(), Qmp.learn()
    for name, row in ours.rows.items():
        if row["meta-type"] in ("command", "event") and name not in theirs.rows:
            assert name.lower().startswith("x-"), name


def test_the_validator_itself_can_fail():
    schema = Qmp.learn()
    for command, value in (("query-status", {"running": True, "singlestep": False}),
                           ("query-status", {"running": 1, "singlestep": False, "status": "running"}),
                           ("query-status", {"running": True, "singlestep": False, "status": "idle"}),
                           ("query-status", {"running": True, "singlestep": False, "status": "paused", "more": 1}),
                           ("query-commands", {}), ("query-commands", [1]), ("no-such-command", {})):
        try:
            schema.check_return(command, value)
        except Wrong:
            continue
        raise AssertionError(f"{command}: {value} passed")


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
