#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Malformed images of every format through every subcommand of `hostel image`; see malformed.py.

Whatever the image: no signal, no hang, little memory, one line that says why; what only reads changes nothing; no
command opens what an image refers to unless it was told to. `MALFORMED=all` runs every subcommand on every case, and
CASES=TEXT only the cases whose name has the text; without it each case gets some subcommands in turn.
"""

import collections
import concurrent.futures
import ctypes
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]
import malformed  # noqa: E402
from tap import Skip, tap  # noqa: E402

HOSTEL = os.environ["HOSTEL"]
ALL = os.environ.get("MALFORMED") == "all"
ONLY = os.environ.get("CASES", "")
SECONDS, MEMORY_KIB = 5, 256 << 10  # of a processor: the host may be busy
WAIT = 60
AT_ONCE = 2
SANITIZED = b"__asan_init" in pathlib.Path(HOSTEL).read_bytes() if pathlib.Path(HOSTEL).is_file() else False
OPENED = re.compile(r'(?:open|openat|openat2)\((?:AT_FDCWD, |\d+(?:<[^>]*>)?, )?"([^"]*)"')
MAY_OPEN = re.compile(
    r"^(/etc/ld\.so|/etc/localtime|/lib|/usr|/proc/|/sys/|/dev/|image$|\./image$|out$|\.$|\./\.|\.out)")

# Subcommands that only read, and those that write; F is the format.
READING = [
    "info -f F image", "info -f F --output json image", "check -f F image", "map -f F --output json image",
    "convert -f F -O raw image out", "snapshot -f F -l image", "measure -f F -O qcow2 image",
    "compare -f F -F raw image ../zeroes", "dd -f F -O raw bs=4096 count=4 if=image of=out", "info image",
    "bench -f F -c 4 -d 2 image", "convert -f F -O qcow2 -c image out",
]
WRITING = [
    "check -f F -r all image", "check -f F -r leaks image", "resize -f F image +1M", "resize -f F --shrink image 512k",
    "snapshot -f F -c new image", "snapshot -f F -a 1 image", "snapshot -f F -d 1 image", "commit -f F image",
    "rebase -f F -u -b  image", "bitmap -f F --add image another", "bitmap -f F --clear image marked",
    "bitmap -f F --remove image marked", "amend -f F -o compat=0.10 image", "bench -f F -w -c 4 image",
]
READ_ONLY = {"qcow", "bochs", "cloop", "dmg"}  # of these one subcommand that writes is enough


class Watch:
    """Was anything opened in this folder?"""

    def __init__(self, folder):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.fd >= 0 and self.libc.inotify_add_watch(self.fd, os.fsencode(folder), 0x21) >= 0  # access, open

    def seen(self):
        try:
            return bool(os.read(self.fd, 65536))
        except BlockingIOError:
            return False


def run(words, name, at, exits):
    """One command; what is wrong with how it went, or None. Counts its exit in exits."""
    err = os.open(at / "stderr", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    pid = os.posix_spawn(HOSTEL, [HOSTEL, "image", *words], os.environ, file_actions=[
        (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, err, 2)])
    end = os.pidfd_open(pid)
    late = not select.select([end], [], [], WAIT)[0]
    if late:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    said = os.pread(err, 1 << 16, 0).decode(errors="replace")
    for fd in (err, null, end):
        os.close(fd)
    what = f"{name}: hostel image {' '.join(words)}"
    if late or usage.ru_utime + usage.ru_stime > SECONDS:
        return f"{what}: {'not done' if late else 'done'} after {usage.ru_utime + usage.ru_stime:.1f} s of a processor"
    if os.WIFSIGNALED(status) or "Sanitizer" in said or "runtime error" in said:
        return f"{what}: signal {os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}\n{said[-1500:]}"
    if usage.ru_maxrss > MEMORY_KIB and not SANITIZED:
        return f"{what}: took {usage.ru_maxrss >> 10} MiB"
    if os.WEXITSTATUS(status) == 2 and "--help" in said:
        return f"{what}: the test's own mistake: {said}"
    exits[os.WEXITSTATUS(status)] += 1
    return None


def words_of(line, form, key):
    words = ["" if word == "EMPTY" else form if word == "F" else word
             for word in line.replace("-b  ", "-b EMPTY ").split(" ")]
    return [*words[:1], "--key-file", str(key), *words[1:]] if key and words[0] not in ("dd",) else words


def write_sparse(path, image):
    with open(path, "wb") as file:
        for at in range(0, len(image), 65536):
            part = image[at:at + 65536]
            if part.count(0) != len(part):
                file.seek(at)
                file.write(part)
        file.truncate(len(image))


class Runner:
    """One folder in which cases run, one after the other; a process of its own, as it has its own folder."""

    def __init__(self, form, folder):
        self.form = form
        self.folder = pathlib.Path(folder)
        (self.folder / "canary").mkdir()
        (self.folder / "canary" / "backing").write_bytes(bytes(1 << 20))
        (self.folder / "zeroes").write_bytes(bytes(1 << 20))
        self.here = self.folder / "here"
        self.here.mkdir()
        os.chdir(self.here)
        self.watch = Watch(self.folder / "canary")
        self.key = None
        if form == "luks":
            self.key = self.folder / "key"
            self.key.write_text(malformed.PASSPHRASE)
        self.wrong, self.exits = [], collections.Counter()

    def command(self, case, line, image, reads):
        path = pathlib.Path("image")
        out = pathlib.Path("out")
        if not reads or not path.exists() or path.stat().st_mtime_ns != 10 ** 18:
            write_sparse(path, image)
            os.utime(path, ns=(10 ** 18, 10 ** 18))
        wrong = run(words_of(line, self.form, self.key), case.name, self.folder, self.exits)
        if not wrong and reads and path.stat().st_mtime_ns != 10 ** 18:
            wrong = f"{case.name}: hostel image {line}: wrote to the image"
        if not wrong and reads and path.read_bytes() != image:
            wrong = f"{case.name}: hostel image {line}: the image is another one"
        if not wrong and self.watch.seen():
            wrong = f"{case.name}: hostel image {line}: opened what the image refers to"
        if wrong:
            self.wrong.append(wrong)
        out.unlink(missing_ok=True)

    def case(self, number, case):
        image = case.image()
        reading, writing = READING, WRITING[:1] if self.form in READ_ONLY else WRITING
        if not ALL:
            reading = [READING[(number + i) % len(READING)] for i in (0, 5)]
            writing = [writing[number % len(writing)]]
        for line in reading:
            self.command(case, line, image, True)
        for line in writing:
            self.command(case, line, image, False)
        pathlib.Path("image").unlink(missing_ok=True)


def run_part(form, part):
    """Every AT_ONCE-th case; (how many, what was wrong, the exits)."""
    with tempfile.TemporaryDirectory(prefix="hostel-malformed-") as folder:
        runner = Runner(form, folder)
        cases = [case for case in malformed.FORMATS[form](folder) if ONLY in case.name]
        for number, case in list(enumerate(cases))[part::AT_ONCE]:
            if ALL or ONLY or number % stride(len(cases)) == 0 or "bomb" in case.name or "alike" in case.name:
                runner.case(number // stride(len(cases)), case)
        os.chdir("/")
        return len(cases), runner.wrong, runner.exits


def stride(count):
    """Of formats with very many cases, a part has to do: at least 150 are run."""
    return 1 if ALL or ONLY else max(1, count // 300) | 1


def formats():
    said = subprocess.run([HOSTEL, "image", "--help"], capture_output=True, text=True).stdout
    return set(re.search(r"^Formats: (.*)\.$", said, re.M)[1].split(", "))


def one_format(form):
    def test():
        if not shutil.which("qemu-img"):
            raise Skip("qemu-img is not installed")
        if form not in formats():
            raise Skip(f"there is no format {form}")
        with concurrent.futures.ProcessPoolExecutor(AT_ONCE) as pool:
            parts = [pool.submit(run_part, form, part) for part in range(AT_ONCE)]
            results = [part.result() for part in parts]
        count = results[0][0]
        wrong = [line for _, lines, _ in results for line in lines]
        exits = sorted(sum((exits for _, _, exits in results), collections.Counter()).items())
        print(f"# {form}: {count} cases; exits and how many commands: {exits}", flush=True)
        assert ONLY or count >= 150, f"only {count} cases"
        assert not wrong, "\n".join([f"{len(wrong)} went wrong:", *wrong[:20]])

    test.__name__ = f"test_{form}"
    return test


def test_nothing_else_is_opened():
    """What strace sees of a few cases of each format."""
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    if subprocess.run(["strace", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL).returncode:
        raise Skip("strace may not trace here")
    if not shutil.which("qemu-img"):
        raise Skip("qemu-img is not installed")
    with tempfile.TemporaryDirectory(prefix="hostel-malformed-") as folder:
        known = formats()
        for form in sorted(set(malformed.FORMATS) & known - {"luks"}):
            cases = list(malformed.FORMATS[form](folder))
            telling = [case for case in cases if re.search("backing|data-|parent|descriptor-|text-", case.name)]
            for case in (cases if ALL else cases[5::len(cases) // 2]) + telling[::1 if ALL else 4]:
                write_sparse(pathlib.Path(folder) / "image", case.image())
                for line in ("info -f F image", "check -f F -r all image", "convert -f F -O raw image out"):
                    trace_one(folder, case, words_of(line, form, None))


def trace_one(folder, case, words):
    log = pathlib.Path(folder) / "trace"
    trace = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,connect", "-o", log]
    subprocess.run([*trace, HOSTEL, "image", *words], cwd=folder, capture_output=True, timeout=60)
    for line in log.read_text(errors="replace").splitlines():
        found = OPENED.search(line)
        if found:
            path = found[1].removeprefix(f"{folder}/").replace(folder, ".")
            assert MAY_OPEN.match(path) or HOSTEL.startswith(path), f"{case.name}: {' '.join(words)}: {line}"
        assert " connect(" not in line, f"{case.name}: {' '.join(words)}: {line}"


if __name__ == "__main__":
    tap([one_format(name) for name in malformed.FORMATS] + [test_nothing_else_is_opened])
