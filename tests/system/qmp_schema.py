# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Checks QMP messages against a schema as query-qmp-schema tells it, written after QEMU's qapi/introspect.json."""

JSON_TYPES = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "value": lambda value: True,
}


class Wrong(AssertionError):
    """A message is not as the schema says, or the schema not as it must be."""


class Schema:
    def __init__(self, rows):
        self.rows = {row["name"]: row for row in rows}
        if len(self.rows) != len(rows):
            raise Wrong("two entities have one name")

    def of(self, meta):
        return {name: row for name, row in self.rows.items() if row["meta-type"] == meta}

    # --- the schema itself ---

    def references(self, row):
        """The types that a row speaks of."""
        meta = row["meta-type"]
        if meta in ("command", "event"):
            return [row["arg-type"]] + ([row["ret-type"]] if meta == "command" else [])
        if meta == "array":
            return [row["element-type"]]
        if meta in ("object", "alternate"):
            return [member["type"] for member in row["members"]] + [case["type"] for case in row.get("variants", [])]
        return []

    def check_whole(self):
        """Every type that is spoken of exists, what must be an object is one; the types that nothing speaks of."""
        used = set()
        for row in self.rows.values():
            for name in self.references(row):
                if self.rows.get(name, {}).get("meta-type") in (None, "command", "event"):
                    raise Wrong(f"{row['name']} speaks of a type {name}")
                used.add(name)
            for key in ("arg-type", "ret-type"):
                meta = self.rows[row[key]]["meta-type"] if key in row else "object"
                if meta != "object" and key == "arg-type":
                    raise Wrong(f"the {key} of {row['name']} is {meta}")
            if "tag" in row:
                tag = next(member for member in row["members"] if member["name"] == row["tag"])
                if set(self.rows[tag["type"]]["values"]) != {case["case"] for case in row["variants"]}:
                    raise Wrong(f"the variants of {row['name']} are not those of its tag")
            if row["meta-type"] == "enum" and [m["name"] for m in row["members"]] != row["values"]:
                raise Wrong(f"the members of {row['name']} are not its values")
        return [name for name, row in self.rows.items()
                if row["meta-type"] not in ("command", "event") and name not in used]

    # --- values ---

    def check(self, type_name, value, place):
        row = self.rows[type_name]
        getattr(self, "_check_" + row["meta-type"])(row, value, place)

    def _check_builtin(self, row, value, place):
        if not JSON_TYPES[row["json-type"]](value):
            raise Wrong(f"{place} is {value!r}, not of type {row['json-type']}")

    def _check_enum(self, row, value, place):
        if value not in row["values"]:
            raise Wrong(f"{place} is {value!r}, not one of {row['values']}")

    def _check_array(self, row, value, place):
        if not isinstance(value, list):
            raise Wrong(f"{place} is {value!r}, not an array")
        for i, element in enumerate(value):
            self.check(row["element-type"], element, f"{place}[{i}]")

    def _members(self, row, value):
        """Of this object, those of its case included."""
        members = list(row["members"])
        if "tag" in row and row["tag"] in value:
            for case in row["variants"]:
                if case["case"] == value[row["tag"]]:
                    members += self._members(self.rows[case["type"]], value)
        return members

    def _check_object(self, row, value, place):
        if not isinstance(value, dict):
            raise Wrong(f"{place} is {value!r}, not an object")
        members = {member["name"]: member for member in self._members(row, value)}
        for name in value:
            if name not in members:
                raise Wrong(f"{place} has a member {name}, which the schema does not know")
        for name, member in members.items():
            if name in value:
                self.check(member["type"], value[name], f"{place}.{name}")
            elif "default" not in member:
                raise Wrong(f"{place} has no member {name}")

    def _check_alternate(self, row, value, place):
        for member in row["members"]:
            try:
                return self.check(member["type"], value, place)
            except Wrong:
                pass
        raise Wrong(f"{place} is {value!r}, none of what it may be")

    def check_arguments(self, command, arguments):
        self.check(self.rows[command]["arg-type"], arguments, command)

    def check_return(self, command, value):
        if self.rows.get(command, {}).get("meta-type") != "command":
            raise Wrong(f"{command} was answered and is not in the schema")
        self.check(self.rows[command]["ret-type"], value, command)

    def check_event(self, message):
        row = self.rows.get(message["event"])
        if not row or row["meta-type"] != "event":
            raise Wrong(f"the event {message['event']} is not in the schema")
        if set(message) - {"event", "data", "timestamp"}:
            raise Wrong(f"an event has the members {sorted(message)}")
        for part in ("seconds", "microseconds"):
            if not JSON_TYPES["int"](message["timestamp"][part]):
                raise Wrong(f"the time of an event is {message['timestamp']}")
        self.check(row["arg-type"], message.get("data", {}), message["event"])

    # --- two schemas ---

    def agrees(self, mine, other, theirs, place, given):
        """Complaints about this schema's type `mine` where a client knows `theirs` of the schema other: what a client
        may give must be taken as far as it is known, what it gets must be what it expects. Members called x- are
        our own."""
        yield from self._agrees(mine, other, theirs, place, given, set())

    def _agrees(self, mine, other, theirs, place, given, seen):
        a, b = self.rows[mine], other.rows[theirs]
        if (mine, theirs) in seen:
            return
        seen = seen | {(mine, theirs)}
        if b["meta-type"] == "builtin" and b["json-type"] == "value":
            return
        if a["meta-type"] != b["meta-type"]:
            yield f"{place} is of meta-type {a['meta-type']}, QEMU's is {b['meta-type']}"
        elif a["meta-type"] == "builtin" and a["json-type"] != b["json-type"]:
            yield f"{place} is {a['json-type']}, QEMU's is {b['json-type']}"
        elif a["meta-type"] == "enum":
            strange = [word for word in a["values"] if word not in b["values"] and not word.startswith("x-")]
            if strange and not given:
                yield f"{place} can be {strange}, which QEMU's cannot"
        elif a["meta-type"] == "array":
            yield from self._agrees(a["element-type"], other, b["element-type"], place + "[]", given, seen)
        elif a["meta-type"] == "object":
            yield from self._agrees_object(a, other, b, place, given, seen)

    def _agrees_object(self, a, other, b, place, given, seen):
        ours = {member["name"]: member for member in a["members"]}
        theirs = {member["name"]: member for member in b["members"]}
        for name, member in ours.items():
            if name in theirs:
                yield from self._agrees(member["type"], other, theirs[name]["type"], f"{place}.{name}", given, seen)
                if given and "default" in theirs[name] and "default" not in member:
                    yield f"{place}.{name} must be given, QEMU's may be left out"
                if not given and "default" not in theirs[name] and "default" in member:
                    yield f"{place}.{name} may be absent, QEMU's is always there"
            elif not name.startswith("x-"):
                yield f"{place}.{name} is no member of QEMU's"
            elif given and "default" not in member:
                yield f"{place}.{name} must be given, QEMU has no such member"
        for name, member in theirs.items():
            if name not in ours and "default" not in member:
                yield f"{place}.{name} is missing"
        if "tag" not in a or "tag" not in b:
            return
        cases = {case["case"]: case["type"] for case in b["variants"]}
        for case in a["variants"]:
            if case["case"] in cases:
                yield from self._agrees(case["type"], other, cases[case["case"]], f"{place}({case['case']})", given,
                                        seen)
