#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""layers.py [ROOT]: check every #include under src/ against the rows of src/LAYERS.

Found faults are printed as FILE:LINE: REASON, and the exit status is 1. What is checked:

  * a file of folder A includes "B/..." only when A's row names B (its own folder is always allowed);
  * quoted includes are written from src/ and name a file that exists;
  * folders marked no-gio include no header of GIO or GObject;
  * every folder of src/ has a row, and src/meson.build visits the folders in the order of the rows.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')
GIO = re.compile(r"gio/|glib-object\.h|gobject/|gmodule\.h")


class Layers:
    """The parsed table: `rows` keeps its order, folder -> set of folders it may include."""

    def __init__(self, path):
        self.rows = {}
        self.no_gio = set()
        self.faults = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            line = line.split("#", 1)[0].strip()
            if line:
                self._row(f"{path}:{number}", line)

    def _row(self, where, line):
        if line.startswith("no-gio "):
            self.no_gio.update(line.split()[1:])
            self._known(where, self.no_gio)
            return
        folder, _, allowed = line.partition(":")
        names = set(self.rows) if allowed.strip() == "*" else set(allowed.split())
        if folder in self.rows:
            self.faults.append(f"{where}: {folder} has two rows")
        self._known(where, names)
        self.rows[folder] = names

    def _known(self, where, names):
        for name in sorted(names - set(self.rows)):
            self.faults.append(f"{where}: {name} has no row above this one")


def check_include(src, layers, where, folder, mark, header):
    """The fault of one #include line, or None."""
    if mark == "<":
        if folder in layers.no_gio and GIO.match(header):
            return f"{where}: {folder} may not include <{header}>: GLib core only in a guest's process"
        return None
    owner = header.split("/", 1)[0]
    # A header that the build generates stands in the build folder under the same name as its folder in src/.
    if not (src / header).exists() and not (src / owner).is_dir():
        return f'{where}: "{header}" is not a path from src/'
    if owner != folder and owner not in layers.rows.get(folder, ()):
        return f'{where}: {folder} may not include "{header}" (see src/LAYERS)'
    return None


def check_files(src, layers):
    faults = []
    for path in sorted(src.rglob("*")):
        if path.suffix not in (".c", ".h", ".def", ".S") or not path.is_file():
            continue
        folder = path.relative_to(src).parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if match:
                where = f"{path}:{number}"
                fault = check_include(src, layers, where, folder, match[1], match[2])
                if fault:
                    faults.append(fault)
    return faults


def check_tree(src, layers):
    faults = []
    for path in sorted(src.iterdir()):
        if path.is_dir() and any(path.rglob("*.[chS]")) and path.name not in layers.rows:
            faults.append(f"{path}: folder has no row in src/LAYERS")
    build = (src / "meson.build").read_text()
    visited = re.findall(r"'([a-z]+)'", build[build.index("foreach layer"):build.index("]")])
    if visited != list(layers.rows):
        faults.append(f"{src}/meson.build: folders are not those of src/LAYERS, in its order")
    return faults


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent)
    src = root / "src"
    layers = Layers(src / "LAYERS")
    faults = layers.faults + check_tree(src, layers) + check_files(src, layers)
    for fault in faults:
        print(fault.replace(f"{root}/", ""))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
