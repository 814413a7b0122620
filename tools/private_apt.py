# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Debian packages of another architecture or release, unpacked into a cache folder without touching the host.

A private apt root (own lists, own status, own sources) asks the mirror that the host's apt already uses, so no
server is named here and no foreign architecture is added to the host. apt checks the archive's signature and the
packages' hashes. Needs no root.
"""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class PrivateAptError(Exception):
    """One line: what was tried, what was found, what to do."""


def cache_dir():
    """Hostel's cache folder, $XDG_CACHE_HOME/hostel or ~/.cache/hostel; created when it is not there."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    path = pathlib.Path(base) / "hostel"
    path.mkdir(parents=True, exist_ok=True)
    return path


def host_codename():
    text = pathlib.Path("/etc/os-release").read_text()
    match = re.search(r'^VERSION_CODENAME="?(\w+)', text, re.M)
    return match[1] if match else ""


def mirror():
    """The URI of the Debian archive that the host's own apt uses for its main suite."""
    form = "$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(COMPONENT)"
    try:
        out = subprocess.run(["apt-get", "indextargets", "--format", form], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as e:
        raise PrivateAptError(f"apt-get indextargets failed ({e}); Hostel's test guests come from Debian's archive, "
                              "so run this on Debian") from e
    rows = [line.split("|") for line in out.stdout.splitlines() if line.count("|") == 3]
    main = [row for row in rows if row[3] == "main"]
    code = host_codename()
    for names in ({code}, {"stable", "testing", "unstable", "trixie", "sid"}):
        for uri, release, codename, _ in main:
            if names & {release, codename}:
                return uri
    raise PrivateAptError(f"no source of Debian's main archive ({code or 'unknown release'}) in the host's apt "
                          "configuration; add one to /etc/apt/sources.list and try again")


class PrivateApt:
    """An apt of one release and architecture, living under `root`, which the caller removes."""

    def __init__(self, root, release, arch, sources=False):
        self.root = pathlib.Path(root)
        self.arch = arch
        for name in ("lists/partial", "cache/archives/partial", "etc", "debs"):
            (self.root / name).mkdir(parents=True)
        (self.root / "status").touch()
        if not KEYRING.exists():
            raise PrivateAptError(f"{KEYRING} is missing; install debian-archive-keyring")
        where = f"{mirror()} {release} main\n"
        line = f"deb-src [signed-by={KEYRING}] {where}" if sources else ""
        (self.root / "etc/sources.list").write_text(f"deb [arch={arch} signed-by={KEYRING}] {where}{line}")
        self._apt("apt-get", "update", "-q")

    def _apt(self, program, *args):
        root = self.root
        command = [
            program, "-q",
            "-o", f"Dir::State::lists={root}/lists", "-o", f"Dir::State::status={root}/status",
            "-o", f"Dir::Cache={root}/cache", "-o", f"Dir::Etc::sourcelist={root}/etc/sources.list",
            "-o", "Dir::Etc::sourceparts=/dev/null",
            "-o", f"APT::Architecture={self.arch}", "-o", f"APT::Architectures={self.arch}",
            "-o", "Acquire::Retries=3", "-o", f"APT::Sandbox::User={os.environ.get('USER') or 'root'}",
            *args]
        done = subprocess.run(command, cwd=root / "debs", capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise PrivateAptError(f"{program} {args[0]} failed: {last}")
        return done.stdout

    def depends_on(self, package, prefix):
        """The name of the package that a meta-package depends on and that begins with `prefix`."""
        out = self._apt("apt-cache", "depends", package)
        match = re.search(rf"Depends: ({re.escape(prefix)}\S*)", out)
        if not match:
            raise PrivateAptError(f"{package} depends on no {prefix}* in this release")
        return match[1]

    def download(self, packages):
        """Fetch packages; returns {name: path of the .deb}."""
        self._apt("apt-get", "download", *packages)
        debs = {path.name.split("_")[0]: path for path in (self.root / "debs").glob("*.deb")}
        missing = [name for name in packages if name not in debs]
        if missing:
            raise PrivateAptError(f"apt-get download left out {', '.join(missing)}")
        return debs

    def source(self, package):
        """Fetch the upstream source of a package, with `sources` at the beginning; the path of its archive."""
        self._apt("apt-get", "source", "--download-only", "--only-source", package)
        found = sorted((self.root / "debs").glob("*.orig.tar.*"))
        if not found:
            raise PrivateAptError(f"apt-get source {package} brought no archive")
        return found[0]


def unpack(deb, into, members=()):
    """Unpack a .deb below `into`: all of it, or the tar members that match the given wildcards."""
    into.mkdir(parents=True, exist_ok=True)
    if not members:
        subprocess.run(["dpkg-deb", "-x", deb, into], check=True)
        return
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as source:
        subprocess.run(["tar", "-x", "-C", into, "--wildcards", *members], stdin=source.stdout, check=True)
    if source.returncode:
        raise PrivateAptError(f"{deb.name}: dpkg-deb could not read it")


@contextlib.contextmanager
def building(final):
    """Yield a scratch folder; what it holds under "result" becomes `final` in one rename, or nothing does.

    A lock beside it makes concurrent callers wait; the caller looks again, inside, whether there is work left."""
    with open(final.parent / f".{final.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in final.parent.glob(f".{final.name}.*/"):  # left by a caller that was killed
            shutil.rmtree(stale, ignore_errors=True)
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        try:
            yield scratch
            result = scratch / "result"
            if result.is_dir():
                if final.exists():
                    final.rename(scratch / "old")
                result.rename(final)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
