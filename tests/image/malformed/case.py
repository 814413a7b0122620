# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""A sound image, what its fields are, and the cases that are made from them."""

import collections
import pathlib
import struct
import subprocess

KIB, MIB = 1 << 10, 1 << 20
PASSPHRASE = "malformed"

# limit: the largest value that makes sense, if there is one
Field = collections.namedtuple("Field", "name at kind limit", defaults=[None])


class Base:
    """A sound image: what it is called, its bytes, its fields, and what makes its checksums right again."""

    def __init__(self, form, name, image, fields=(), mend=None, locked=False):
        self.form, self.name, self.image, self.mend = form, name, bytes(image), mend
        self.fields = list(fields)
        self.locked = locked  # by the passphrase

    def get(self, at, kind):
        return struct.unpack_from(kind, self.image, at)[0]


class Case:
    def __init__(self, base, name, patches=(), size=None, image=None):
        self.form, self.name, self.locked = base.form, f"{base.name}-{name}", base.locked
        self.follow, self.beside = False, {}  # may its references be followed; to files of which bytes
        self._base, self._patches, self._size, self._image = base, list(patches), size, image

    def image(self):
        if self._image is not None:
            return self._image
        out = bytearray(self._base.image)
        for at, data in self._patches:
            out += bytes(max(0, at - len(out)))
            out[at:at + len(data)] = data
        if self._base.mend:
            self._base.mend(out)
        return bytes(out[:self._size]) if self._size is not None else bytes(out)

    def following(self, **beside):
        self.follow, self.beside = True, beside
        return self

    def also(self, first, end, shift):
        """What is changed between first and end is changed further on, too: in a copy."""
        self._patches += [(at + shift, data) for at, data in self._patches if first <= at < end]


def values(base, field):
    """What a field is set to: the names are part of the case's."""
    bits = struct.calcsize(field.kind) * 8
    now, top, end = base.get(field.at, field.kind), (1 << bits) - 1, len(base.image)
    found = {"0": 0, "1": 1, "2": 2, "less": now - 1, "more": now + 1, "twice": now * 2, "half": now // 2,
             "all": top, "all-but-one": top - 1, "sign": 1 << (bits - 1),
             "below-sign": (1 << (bits - 1)) - 1, "odd": now ^ 0x1FF}
    if field.limit is not None:
        found |= {"limit": field.limit, "limit+1": field.limit + 1}
    if bits >= 32:
        found |= {"end": end, "end-less": end - 512, "self": field.at & ~511, "sectors": end // 512, "large": 1 << 28,
                  "flag": now | 1 << (bits - 2), "million": 1 << 20}
        found |= {f"as-{value:#x}": value for value in places(base, field.kind)}
    if bits == 64:
        found |= {"2^40": 1 << 40, "2^56": 1 << 56, "2^63-64k": (1 << 63) - 65536, "-512": top - 511, "2^32": 1 << 32}
    seen = {now}
    for name, value in found.items():
        if 0 <= value <= top and value not in seen:
            seen.add(value)
            yield name, value


def places(base, kind):
    """What other fields of this size say: where one table is, there the next one may be said to be, too."""
    size = struct.calcsize(kind)
    others = {base.get(field.at, field.kind) for field in base.fields
              if struct.calcsize(field.kind) == size and field.at + size <= len(base.image)}
    others = sorted(value for value in others if 2 < value & ((1 << 62) - 1) <= len(base.image))
    return others[::-(-len(others) // 10)] if others else []


def from_fields(base):
    for field in base.fields:
        if field.at + struct.calcsize(field.kind) <= len(base.image):
            for what, value in values(base, field):
                yield Case(base, f"{field.name}={what}", [(field.at, struct.pack(field.kind, value))])


def cut_off(base):
    end = len(base.image)
    sizes = {0, 1, 4, 100, 511, 512, 513, 1024, 4096, 65536, end // 2, end - 512, end - 1}
    for size in sorted(size for size in sizes if 0 <= size < end):
        yield Case(base, f"cut-{size}", size=size)


def both(base, by_hand=None):
    yield from from_fields(base)
    yield from cut_off(base)
    if by_hand:
        yield from by_hand(base)


def fields(order, text, start=0, prefix=""):
    """Lines of name, offset, size in bytes, and perhaps a limit."""
    letters = {1: "B", 2: "H", 4: "I", 8: "Q"}
    for name, at, size, *limit in (line.split() for line in text.splitlines() if line):
        yield Field(prefix + name, start + int(at, 0), order + letters[int(size)], *(int(word, 0) for word in limit))


def entries(name, at, order, size, count=2):
    return fields(order, "\n".join(f"{name}{i} {at + i * size} {size}" for i in range(count)))


def qemu(folder, form, options, size, *commands):
    """An image that qemu-img makes. Commands are qemu-io's, or lists of words that get its name."""
    path = pathlib.Path(folder) / "made"
    path.unlink(missing_ok=True)
    more = ["-o", options] if options else []
    subprocess.run(["qemu-img", "create", "-q", "-f", form, *more, path, size], check=True)
    for command in commands:
        if isinstance(command, str):
            command = ["qemu-io", "-f", form, "-c", command]
        subprocess.run([*command, path], check=True, stdout=subprocess.DEVNULL)
    return path.read_bytes()


def qemu_locked(folder, form, options, size):
    """As above, made with the passphrase."""
    path = pathlib.Path(folder) / "made"
    path.unlink(missing_ok=True)
    for _ in range(50):  # it measures the host, which may be too busy for that
        if not subprocess.run(["qemu-img", "create", "-q", "-f", form, "--object", f"secret,id=s,data={PASSPHRASE}",
                               "-o", options, path, size], stderr=subprocess.DEVNULL).returncode:
            break
    return path.read_bytes()
