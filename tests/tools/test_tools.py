#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""The checkers find what they are for: each is given a fault, and a twin without it. Output is TAP."""

import importlib.machinery
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOOLS))


def load(name):
    """A tool as a module; most have no .py in their name."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(TOOLS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def layers_of(files):
    """Exit status and output of layers.py on a tree with Hostel's LAYERS and the given {path: text}."""
    with tempfile.TemporaryDirectory() as name:
        src = pathlib.Path(name) / "src"
        for path, text in files.items():
            (src / path).parent.mkdir(parents=True, exist_ok=True)
            (src / path).write_text(text)
        for path in ("LAYERS", "meson.build"):
            shutil.copy(ROOT / "src" / path, src / path)
        done = subprocess.run([TOOLS / "layers.py", name], capture_output=True, text=True)
        return done.returncode, done.stdout


def test_layers_accept():
    assert layers_of({"base/a.h": "", "os/b.c": '#include "base/a.h"\n#include <glib.h>\n'}) == (0, "")


def test_layers_upward_include():
    status, out = layers_of({"base/a.c": '#include "os/b.h"\n', "os/b.h": ""})
    assert status == 1 and 'src/base/a.c:1: base may not include "os/b.h"' in out, out


def test_layers_device_never_sees_accel():
    status, out = layers_of({"accel/a.h": "", "device/d.c": '\n  #  include "accel/a.h"\n'})
    assert status == 1 and "src/device/d.c:2: " in out, out


def test_layers_engine_knows_no_guest():
    assert layers_of({"isa/isa.h": "", "engine/e.c": '#include "isa/isa.h"\n'})[0] == 1


def test_layers_gio_stays_out_of_the_guest_process():
    assert layers_of({"vm/v.c": "#include <gio/gio.h>\n"})[0] == 1
    assert layers_of({"host/h.c": "#include <gio/gio.h>\n"})[0] == 0


def test_layers_unknown_folder():
    status, out = layers_of({"extra/e.c": ""})
    assert status == 1 and "no row" in out, out


def test_layers_include_not_from_src():
    assert layers_of({"base/a.c": '#include "b.h"\n', "base/b.h": ""})[0] == 1


def style_of(name, text):
    style = load("check-style")
    with tempfile.TemporaryDirectory() as folder:
        style.ROOT = pathlib.Path(folder)
        (style.ROOT / name).write_text(text)
        return [reason for _, reason in style.check(name)]


HEAD = "/* SPDX-License-Identifier: GPL-2.0-or-later */\n/* Copyright (C) the Hostel authors */\n"


def test_style_accept():
    assert style_of("a.c", HEAD + "/* Says what it is. */\nint a;\n") == []


def test_style_head():
    assert "licence" in style_of("a.c", "int a;\n")[0]
    assert "copyright" in style_of("a.c", HEAD.splitlines()[0] + "\nint a;\n")[0]
    assert "sentence" in style_of("a.c", HEAD + "int a;\n")[0]


def test_style_lines():
    body = "/* What it is. */\n"
    assert "tab" in style_of("a.c", HEAD + body + "\tint a;\n")[0]
    assert "blanks" in style_of("a.c", HEAD + body + "int a; \n")[0]
    assert "newline" in style_of("a.c", HEAD + body + "int a;")[0]
    assert "lines" in style_of("a.c", HEAD + body + "int a;\n" * 900)[0]
    assert "machine" in style_of("a.md", "see /" + "home/somebody/notes\n")[0]


def test_tap_tally():
    tests = load("run-tests")
    tally = tests.tap_tally("1..5\nok 1 a\nnot ok 2 b\nok 3 c # SKIP no kvm\nnot ok 4 d # TODO\n    ok 1 inner\n# ok\n")
    assert (tally.passed, tally.failed, tally.skipped) == (2, 1, 1), str(tally)


def test_tally_of_a_test_that_died():
    tests = load("run-tests")
    died = tests.test_tally({"result": "ERROR", "stdout": "1..3\nok 1 a\n"})
    assert (died.passed, died.failed) == (1, 1), str(died)
    silent = tests.test_tally({"result": "TIMEOUT"})
    assert (silent.passed, silent.failed) == (0, 1), str(silent)
    plain = tests.test_tally({"result": "OK"})
    assert (plain.passed, plain.failed) == (1, 0), str(plain)


def compile_program(folder, source, *flags):
    path = pathlib.Path(folder) / "program"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-x", "c", "-", "-o", path, *flags], input=source, text=True, check=True)
    return path


def elf_faults(source, *flags):
    elf = load("check-elf")
    with tempfile.TemporaryDirectory() as folder:
        return {what for what, fault in elf.faults(compile_program(folder, source, *flags)) if fault}


SAFE = r"""
#include <stdio.h>
int main(int n, char **v) { char b[9]; snprintf(b, 9, "%s", v[n - 1]); return puts(b); }
"""
HARD = ["-O2", "-fPIE", "-pie", "-fstack-protector-strong", "-Wl,-z,relro,-z,now,-z,noexecstack"]


def test_elf_accept():
    assert elf_faults(SAFE, *HARD) == set()


def test_elf_unhardened():
    found = elf_faults(SAFE, "-no-pie", "-fno-stack-protector", "-Wl,-z,norelro,-z,lazy,-z,execstack")
    assert found == {"position independent", "relocations read-only", "bound at start", "stack not executable",
                     "stack protector"}, found


def test_elf_unbounded():
    unsafe = "#include <string.h>\n" + SAFE.replace('snprintf(b, 9, "%s", v[n - 1])', "strcpy(b, v[n - 1])")
    assert elf_faults(unsafe, *HARD) == {"no unbounded functions"}


def test_initramfs():
    """cpio, an implementation that is not ours, lists what we wrote."""
    guest = load("debian-guest")
    if not shutil.which("cpio"):
        return "cpio is not installed"
    import gzip
    archive = gzip.decompress(guest.initramfs(b"\x7fELF-stand-in", b"echo hi\n"))
    done = subprocess.run(["cpio", "-tv", "--quiet"], input=archive, capture_output=True, check=True)
    rows = {line.split()[-1]: line.split()[0] for line in done.stdout.decode().splitlines()}
    assert rows["init"] == "-rwxr-xr-x" and rows["script"] == "-rwxr-xr-x" and rows["dev/console"] == "crw-------", rows
    assert "bin/busybox" in rows, rows
    return None


def test_modules():
    """Modules come after those they need, once; a circle and an unknown name are refused."""
    guest = load("debian-guest")
    files = {"a": b"\0depends=b,c\0", "b": b"x\0depends=c\0", "c": b"\0depends=\0", "x": b"\0depends=y\0",
             "y": b"\0depends=x\0"}
    assert guest.closure(["a", "b"], files.__getitem__) == ["c", "b", "a"]
    with tempfile.TemporaryDirectory() as folder:
        for names in ("x", "z"):
            try:
                guest.closure([names], files.__getitem__) if names == "x" else \
                    guest.chosen_modules(pathlib.Path(folder), names)
                raise AssertionError(names)
            except guest.PrivateAptError:
                pass


def main():
    tests = [(name, test) for name, test in globals().items() if name.startswith("test_")]
    print(f"1..{len(tests)}")
    failed = 0
    for number, (name, test) in enumerate(tests, 1):
        try:
            skip = test()
            print(f"ok {number} {name}" + (f" # SKIP {skip}" if skip else ""))
        except (AssertionError, subprocess.CalledProcessError) as e:
            failed += 1
            print(f"not ok {number} {name}\n# {e!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
