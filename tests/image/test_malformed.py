#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Malformed images of every format through every subcommand of `hostel image`, and as a guest's disk; see malformed/.

Whatever the image: no signal, no hang, little memory, one line that says why; what only reads changes nothing; no
command opens what an image refers to unless it was told to. `MALFORMED=all` runs every subcommand on every case,
MALFORMED=N on every N-th; without it each case gets some in turn. CASES=TEXT chooses the cases whose name has
the text, FORMATS=A,B these formats.
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
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]
import malformed  # noqa: E402
from tap import Skip, tap  # noqa: E402

HOSTEL = os.environ["HOSTEL"]
MALFORMED = os.environ.get("MALFORMED", "").replace("all", "1")
ALL = bool(MALFORMED)
ONLY = os.environ.get("CASES", "")
WANTED = set(filter(None, os.environ.get("FORMATS", "").split(",")))
CRASH = 125  # the exit when a process that was started in turn ended by a signal
SECONDS, MEMORY_KIB = 5, 256 << 10  # of a processor: the host may be busy
WAIT = 60
AT_ONCE = 2
SANITIZED = b"__asan_init" in pathlib.Path(HOSTEL).read_bytes() if pathlib.Path(HOSTEL).is_file() else False
OPENED = re.compile(r'(?:open|openat|openat2)\((?:AT_FDCWD, |\d+(?:<[^>]*>)?, )?"([^"]*)"')
MAY_OPEN = re.compile(
    r"^(/etc/ld\.so|/etc/localtime|/lib|/usr|/proc/|/sys/|/dev/|image$|\./image$|out$|\.$|\./\.|\.out)")

# Commands that only read, and those that write; F is the format. "serve" gets a client; "run" attaches the disk to a
# guest that switches itself off.
READING = [
    "info -f F image", "info -f F --output json image", "check -f F image", "map -f F --output json image",
    "convert -f F -O raw image out", "snapshot -f F -l image", "measure -f F -O qcow2 image",
    "compare -f F -F raw image ../zeroes", "dd -f F -O raw bs=4096 count=4 if=image of=out", "info image",
    "bench -f F -c 4 -d 2 image", "convert -f F -O qcow2 -c image out", "ls -f F image", "cat -f F image /file",
    "serve -f F -r -k ../socket image", "run F readonly=on",
]
WRITING = [
    "check -f F -r all image", "check -f F -r leaks image", "resize -f F image +1M", "resize -f F --shrink image 512k",
    "snapshot -f F -c new image", "snapshot -f F -a 1 image", "snapshot -f F -d 1 image", "commit -f F image",
    "rebase -f F -u -b  image", "bitmap -f F --add image another", "bitmap -f F --clear image marked",
    "bitmap -f F --remove image marked", "amend -f F -o compat=0.10 image", "bench -f F -w -c 4 image",
    "serve -f F -k ../socket image", "run F readonly=off",
]
# Of formats that are only read one command that writes is enough; what is on a raw disk matters to few.
READ_ONLY = {"qcow", "bochs", "cloop", "dmg", "raw"}
ONLY_FILES = ["ls -f F image", "ls -f F --output json image /", "cat -f F image /file", "info -f F image"]
# A disk that claims to have petabytes of data takes as long as it says to whoever wants all of it.
LOOK = re.compile("info|check|snapshot|bitmap|amend|ls|cat|serve|run|resize|dd")
# Beside hostel, if they are built.
PROGRAMS = {"serve": "hostel-nbd", "ls": "hostel-files", "cat": "hostel-files", "run": "hostel-vmm"}
HERE_IS = pathlib.Path(HOSTEL).resolve().parent
OVERLAY = "driver=overlay,file.filename=image,backing.driver=raw,backing.file.filename=../zeroes"
CLIENT = ["-c", "read 0 64k", "-c", "alloc 0 64k"]
WRITING_CLIENT = [*CLIENT, "-c", "write 0 4k", "-c", "write -z 64k 64k", "-c", "discard 128k 64k", "-c", "flush"]
# Firmware that switches a riscv-virt off: stores 0x5555 at 0x100000.
OFF = struct.pack("<5I", 0x001002B7, 0x00005337, 0x55530313, 0x0062A023, 0x0000006F)
RUN = "run --isa riscv64 --memory 16M --rng off --console none --firmware ../off --disk"


class Watch:
    """Was a file of this folder opened? Others of the host may look at the folder itself."""

    IS_FOLDER = 0x40000000

    def __init__(self, folder):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.fd >= 0 and self.libc.inotify_add_watch(self.fd, os.fsencode(folder), 0x21) >= 0  # access, open

    def seen(self):
        try:
            events = os.read(self.fd, 65536)
        except BlockingIOError:
            return False
        at, files = 0, 0
        while at < len(events):
            _, mask, _, size = struct.unpack_from("iIII", events, at)
            files += not mask & self.IS_FOLDER
            at += 16 + size
        return files > 0


def spawn(words, at):
    """Start hostel; its process, and where it writes errors to."""
    err = os.open(at / "stderr", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    pid = os.posix_spawn(HOSTEL, [HOSTEL, *words], os.environ, file_actions=[
        (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, err, 2)])
    os.close(null)
    return pid, err


def ended(end, seconds):
    return bool(select.select([end], [], [], seconds)[0])


def meet(pid, end, at, writes):
    """Be the client of the server as soon as it listens; a server goes with its last client. False: no answer."""
    socket = at / "socket"
    limit = time.monotonic() + WAIT
    while not socket.exists():
        if ended(end, 0.002):
            return True
        if time.monotonic() > limit:
            return False
    client = ["qemu-io", *([] if writes else ["-r"]), "-f", "raw", f"nbd+unix:///?socket={socket}"]
    try:
        done = subprocess.run([*client, *(WRITING_CLIENT if writes else CLIENT)], capture_output=True, timeout=WAIT)
    except subprocess.TimeoutExpired:
        return False
    if b"Failed to connect" in done.stderr:
        os.kill(pid, signal.SIGTERM)  # nobody was there, so it would wait for ever
    return True


def run(words, name, at, client):
    """One command; its exit, and what is wrong with how it went or None. client: None, reads or writes."""
    pid, err = spawn(words, at)
    end = os.pidfd_open(pid)
    answered = client is None or meet(pid, end, at, client == "writes")
    late = not answered or not ended(end, WAIT)
    if late:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    said = os.pread(err, 1 << 16, 0).decode(errors="replace")
    for fd in (err, end):
        os.close(fd)
    return os.waitstatus_to_exitcode(status), wrong_with(status, usage, late, said, f"{name}: hostel {' '.join(words)}")


def wrong_with(status, usage, late, said, what):
    code = os.waitstatus_to_exitcode(status)
    seconds = usage.ru_utime + usage.ru_stime
    if late or seconds > SECONDS:
        return f"{what}: {'not done' if late else 'done'} after {seconds:.1f} s of a processor"
    if code < 0 or code == CRASH or "Sanitizer" in said or "runtime error" in said:
        return f"{what}: exit {code}\n{said[-1500:]}"
    if usage.ru_maxrss > MEMORY_KIB and not SANITIZED:
        return f"{what}: took {usage.ru_maxrss >> 10} MiB"
    if code == 2 and "--help" in said or "install Hostel again" in said:
        return f"{what}: the test's own mistake: {said}"
    return None


def words_of(line, case):
    """The command line: what is left empty stands as two blanks."""
    form = case.form
    words = ["" if word == "EMPTY" else form if word == "F" else word
             for word in line.replace("-b  ", "-b EMPTY ").split(" ")]
    if words[0] == "run":
        more = [*(["key=../key"] if case.locked else []), *(["follow=folder"] if case.follow else []),
                *(["base=../zeroes"] if form == "overlay" else [])]
        return [*RUN.split(" "), ",".join(["file=image", f"format={form}", words[2], *more])]
    if form == "overlay" and "-f" in words:
        at = words.index("-f")
        words[at:at + 2] = ["--image-opts"]
        words = [OVERLAY if word == "image" else f"if={OVERLAY}" if word == "if=image" else word for word in words]
    key = ["--key-file", "../key"] if case.locked and words[0] != "dd" else []
    return ["image", words[0], *key, *(["--follow"] if case.follow else []), *words[1:]]


def write_sparse(path, image):
    """Quickly, if it is small; few of the large ones are more than zeroes."""
    if len(image) <= 8 << 20:
        path.write_bytes(image)
        return
    with open(path, "wb") as file:
        for at in range(0, len(image), 65536):
            part = image[at:at + 65536]
            if part.count(0) != len(part):
                file.seek(at)
                file.write(part)
        file.truncate(len(image))


class Runner:
    """One folder in which cases run, one after the other; a process of its own, as it has its own folder.

    start runs a function in a process that holds no images: a program that is started counts as its own the memory of
    who starts it.
    """

    def __init__(self, folder, start):
        self.start = start
        self.folder = pathlib.Path(folder)
        (self.folder / "canary").mkdir()
        (self.folder / "canary" / "backing").write_bytes(bytes(1 << 20))
        (self.folder / "zeroes").write_bytes(bytes(1 << 20))
        (self.folder / "off").write_bytes(OFF)
        (self.folder / "key").write_text(malformed.PASSPHRASE)
        self.here = self.folder / "here"
        self.here.mkdir()
        os.chdir(self.here)
        self.watch = Watch(self.folder / "canary")
        self.wrong, self.exits = [], collections.Counter()

    def command(self, case, line, image, reads):
        path = pathlib.Path("image")
        out = pathlib.Path("out")
        if not reads or not path.exists() or path.stat().st_mtime_ns != 10 ** 18:
            write_sparse(path, image)
            os.utime(path, ns=(10 ** 18, 10 ** 18))
        client = ("reads" if reads else "writes") if line.startswith("serve") else None
        code, wrong = self.start(run, words_of(line, case), case.name, self.folder, client).result()
        self.exits[code] += not wrong
        if not wrong and reads and path.stat().st_mtime_ns != 10 ** 18:
            wrong = f"{case.name}: hostel image {line}: wrote to the image"
        if not wrong and self.watch.seen():
            wrong = f"{case.name}: hostel image {line}: opened what the image refers to"
        if wrong:
            self.complain(wrong)
        out.unlink(missing_ok=True)
        (self.folder / "socket").unlink(missing_ok=True)

    def complain(self, wrong):
        self.wrong.append(wrong)
        print("".join(f"# {line}\n" for line in wrong.splitlines()), end="", flush=True)  # a long run is long

    def case(self, number, case):
        image = case.image()
        for name, content in case.beside.items():
            write_sparse(pathlib.Path(name), content)
        reading, writing = commands(case, number)
        for line in reading:
            self.command(case, line, image, True)
        if reading and pathlib.Path("image").read_bytes() != image:
            self.complain(f"{case.name}: after commands that read the image is another one")
        for line in writing:
            self.command(case, line, image, False)
        for name in "image", *case.beside:
            pathlib.Path(name).unlink(missing_ok=True)


def commands(case, number):
    """What reads and what writes of this case: all, or some in turn."""
    reading, writing = READING, WRITING[:1] if case.form in READ_ONLY else WRITING
    if case.form == "raw":
        reading, writing = ONLY_FILES, []
    if not ALL:
        reading = [reading[(number + i) % len(reading)] for i in (0, 5)]
        writing = [writing[number % len(writing)]] if writing else []
    return [line for line in reading if is_for(line, case)], [line for line in writing if is_for(line, case)]


def is_for(line, case):
    """Is the program that does it there, and is it a command for such a case?"""
    program = PROGRAMS.get(line.split(" ")[0])
    return not (program and not (HERE_IS / program).exists() or "-vast" in case.name and not LOOK.match(line))


def run_part(form, part):
    """Every AT_ONCE-th case; (how many, what was wrong, the exits)."""
    with (tempfile.TemporaryDirectory(prefix="hostel-malformed-") as folder,
          concurrent.futures.ProcessPoolExecutor(1) as starter):
        runner = Runner(folder, starter.submit)
        starter.submit(os.getpid).result()  # it is there from now on
        cases = [case for case in malformed.FORMATS[form](folder) if ONLY in case.name]
        for number, case in list(enumerate(cases))[part::AT_ONCE]:
            turn, left = divmod(number // AT_ONCE, stride(len(cases)))
            if not left or not ALL and ("bomb" in case.name or "alike" in case.name):
                runner.case(turn * AT_ONCE + part, case)
        os.chdir("/")
        return len(cases), runner.wrong, runner.exits


def stride(count):
    """Of formats with very many cases, a part has to do: at least 150 are run."""
    return int(MALFORMED) if ALL else 1 if ONLY else max(1, count // 200)


def formats():
    said = subprocess.run([HOSTEL, "image", "--help"], capture_output=True, text=True).stdout
    return set(re.search(r"^Formats: (.*)\.$", said, re.M)[1].split(", "))


def one_format(form):
    def test():
        if not shutil.which("qemu-img"):
            raise Skip("qemu-img is not installed")
        if WANTED and form not in WANTED:
            raise Skip("it is not among FORMATS")
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
    forms = sorted(set(malformed.FORMATS) & formats() - {"luks", "overlay", "raw"})
    with concurrent.futures.ProcessPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(trace_format, form) for form in forms]:
            done.result()


def trace_format(form):
    with tempfile.TemporaryDirectory(prefix="hostel-malformed-") as folder:
        cases = [case for case in malformed.FORMATS[form](folder) if not case.locked and not case.follow]
        telling = [case for case in cases if re.search("backing|data-|parent|descriptor-|text-", case.name)]
        for case in (cases if ALL else cases[5::len(cases) // 2]) + telling[::1 if ALL else 4]:
            write_sparse(pathlib.Path(folder) / "image", case.image())
            for line in ("info -f F image", "check -f F -r all image", "convert -f F -O raw image out"):
                if is_for(line, case):
                    trace_one(folder, case, words_of(line, case))


def trace_one(folder, case, words):
    log = pathlib.Path(folder) / "trace"
    trace = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,connect", "-o", log]
    subprocess.run([*trace, HOSTEL, *words], cwd=folder, capture_output=True, timeout=60)
    for line in log.read_text(errors="replace").splitlines():
        found = OPENED.search(line)
        if found:
            path = found[1].removeprefix(f"{folder}/").replace(folder, ".")
            assert MAY_OPEN.match(path) or HOSTEL.startswith(path), f"{case.name}: {' '.join(words)}: {line}"
        assert " connect(" not in line, f"{case.name}: {' '.join(words)}: {line}"


if __name__ == "__main__":
    tap([one_format(name) for name in malformed.FORMATS] + [test_nothing_else_is_opened])
