# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""LUKS headers."""

from malformed.case import Base, Case, both, fields, qemu_locked

HEADER = """
magic 0 4
version 6 2 2
cipher 8 8
mode 40 8
hash 72 8
payload 104 4
key-size 108 4 64
iterations 164 4
slot 208 4
slot-iterations 212 4
slot-offset 248 4
slot-stripes 252 4 4000
slot2 256 4
slot2-offset 296 4
slot2-stripes 300 4 4000
"""


def all_luks(folder):
    image = qemu_locked(folder, "luks", "key-secret=s,iter-time=50", "64k")
    base = Base("luks", "plain", image, fields(">", HEADER), locked=True)
    yield from both(base)
    for at, size in (8, 32), (40, 32), (72, 32), (168, 40):
        yield Case(base, f"unended-{at}", [(at, b"x" * size)])
    second = image[208:256]
    yield Case(base, "two-slots-alike", [(256, second)])
    yield Case(base, "slot-is-header", [(248, bytes(4))])
    yield Case(base, "payload-is-slot", [(104, image[248:252])])
