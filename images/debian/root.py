# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Inside mmdebstrap: from extracted foreign packages to a disk, a kernel and an initramfs.

Theory of operation: mmdebstrap runs this program in its namespace, where files belong to whom they shall belong to in
the guest, with the folder of the extracted packages as argument. Nothing of the guest can be run here, so packages
are recorded in dpkg's database as *unpacked*: their files are in place, their scripts have not run. The guest itself
configures them later (finish.sh). Beyond what dpkg's manual calls unpacked, two things differ: configuration files
stand where they belong already (dpkg takes a missing *.dpkg-new for done), and preinst scripts are still to be run.

A plain user's namespace cannot reach that user's folders, so results are written to descriptors that were opened
outside. For the same reason this file is handed over as text, not by name. Settings come as JSON in HOSTEL_IMAGE.
"""

import hashlib
import io
import json
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tarfile

# ---- dpkg's database -----------------------------------------------------------------------------------------------


def fields_of(control):
    """A control file as {field: value}; what follows a field's first line stays in its value."""
    fields, name = {}, None
    for line in control.splitlines():
        if line[:1] in (" ", "\t"):
            fields[name] += "\n" + line
        elif line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


class Package:
    """A .deb that was extracted below root."""

    def __init__(self, deb):
        with subprocess.Popen(["dpkg-deb", "--ctrl-tarfile", deb], stdout=subprocess.PIPE) as source:
            with tarfile.open(fileobj=io.BytesIO(source.stdout.read())) as tar:
                self.scripts = {os.path.basename(member.name): (tar.extractfile(member).read(), member.mode)
                                for member in tar if member.isfile()}
        self.fields = fields_of(self.scripts.pop("control")[0].decode())
        self.name, self.arch = self.fields["Package"], self.fields["Architecture"]
        self.essential = self.fields.get("Essential") == "yes"
        self.stem = f"{self.name}:{self.arch}" if self.fields.get("Multi-Arch") == "same" else self.name
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as source:
            with tarfile.open(fileobj=source.stdout, mode="r|") as tar:
                self.paths = ["/" + member.name.lstrip("./") if member.name.lstrip("./") else "/." for member in tar]

    def conffiles(self, root):
        """The lines of the database on configuration files: path and checksum."""
        text = self.scripts.get("conffiles", (b"", 0))[0].decode()
        for line in text.splitlines():
            path = line.strip()
            if path and not path.startswith("remove-on-upgrade"):
                yield f"\n {path} {hashlib.md5((root / path[1:]).read_bytes()).hexdigest()}"

    def status(self, root):
        """The package's paragraph in /var/lib/dpkg/status."""
        fields = {"Package": self.name, "Status": "install ok unpacked", **self.fields}
        conffiles = "".join(self.conffiles(root))
        if conffiles:
            fields["Conffiles"] = conffiles
        return "".join(f"{name}:{'' if value.startswith(chr(10)) else ' '}{value}\n"
                       for name, value in fields.items())

    def write_info(self, folder):
        (folder / f"{self.stem}.list").write_text("".join(path + "\n" for path in self.paths))
        for name, (text, mode) in self.scripts.items():
            path = folder / f"{self.stem}.{name}"
            path.write_bytes(text)
            path.chmod(mode & 0o755)

    def interests(self):
        """(trigger, package as the trigger files want it) of each trigger that the package waits for."""
        for line in self.scripts.get("triggers", (b"", 0))[0].decode().splitlines():
            words = line.split("#")[0].split()
            if len(words) == 2 and words[0].startswith("interest"):
                yield words[1], self.stem + ("/noawait" if words[0] == "interest-noawait" else "")


def write_triggers(folder, packages):
    """The triggers packages are interested in, so that later installations set them off."""
    folder.mkdir(exist_ok=True)
    files, named = "", {}
    for package in packages:
        for trigger, who in package.interests():
            if trigger.startswith("/"):
                files += f"{trigger} {who}\n"
            else:
                named[trigger] = named.get(trigger, "") + who + "\n"
    (folder / "File").write_text(files)
    (folder / "Unincorp").write_text("")
    for trigger, text in named.items():
        (folder / trigger).write_text(text)


def write_database(root, packages, asked):
    admin = root / "var/lib/dpkg"
    info = admin / "info"
    for folder in (info, admin / "updates", admin / "alternatives", admin / "parts"):
        folder.mkdir(parents=True, exist_ok=True)
    (info / "format").write_text("1\n")
    for package in packages:
        package.write_info(info)
    write_triggers(admin / "triggers", packages)
    (admin / "status").write_text("".join(package.status(root) + "\n" for package in packages))
    for name in ("available", "diversions", "statoverride"):
        (admin / name).touch()
    # What nobody asked for may go when nothing needs it any more.
    states = root / "var/lib/apt/extended_states"
    states.parent.mkdir(parents=True, exist_ok=True)
    states.write_text("".join(f"Package: {package.name}\nArchitecture: {package.arch}\nAuto-Installed: 1\n\n"
                              for package in packages if package.name not in asked and not package.essential))


# ---- Kernel and initramfs ------------------------------------------------------------------------------------------


def cpio_newc(entries):
    """A cpio archive in the "new ASCII" form of Linux's initramfs, of (name, mode, data, device)."""
    out = bytearray()
    for inode, (name, mode, data, device) in enumerate([*entries, ("TRAILER!!!", 0, b"", (0, 0))], 1):
        encoded = name.encode() + b"\0"
        numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        out += b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded
        out += bytes(-len(out) % 4)
        out += data
        out += bytes(-len(out) % 4)
    return bytes(out)


class Modules:
    """A kernel's modules, found by name; their dependencies are read from the modules themselves."""

    def __init__(self, folder):
        self.paths = {path.name.split(".ko")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
        self.wanted = {}

    def add(self, name):
        """The module after those it needs. One that is not there is part of the kernel."""
        name = name.replace("-", "_")
        if name in self.wanted or name not in self.paths:
            return
        path = self.paths[name]
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        needed = re.search(rb"\0depends=([^\0]*)\0", data)
        soft = re.findall(rb"\0softdep=pre: ([^\0]*)\0", data)
        for other in (needed[1].decode().split(",") if needed else []) + b" ".join(soft).decode().split():
            self.add(other)
        self.wanted[name] = data


def initramfs(root, release, settings):
    """An uncompressed archive (it is unpacked at every boot): busybox, the modules to reach the disk, init."""
    modules = Modules(root / "usr/lib/modules" / release)
    for name in settings["modules"]:
        modules.add(name)
    none, folder, program = (0, 0), stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755
    entries = [(name, folder, b"", none) for name in ("bin", "dev", "proc", "sys", "disk", "run", "modules")]
    # The kernel opens the console before anything can be mounted on /dev.
    entries += [("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)), ("dev/null", stat.S_IFCHR | 0o666, b"", (1, 3))]
    entries += [("bin/busybox", program, (root / "usr/bin/busybox").read_bytes(), none)]
    entries += [(name, program, text.encode(), none) for name, text in settings["scripts"].items()]
    entries += [("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in modules.wanted).encode(), none)]
    entries += [(f"modules/{name}.ko", stat.S_IFREG | 0o644, data, none) for name, data in modules.wanted.items()]
    return cpio_newc(entries)


def prepare_modules(root, release):
    """The index of the kernel's modules, which would take the guest long."""
    subprocess.run(["depmod", "-b", root, release], check=True)


def prepare_certificates(root):
    """What update-ca-certificates makes, but for the names by hash: it takes several processes for each certificate."""
    certs = root / "etc/ssl/certs"
    files = sorted((root / "usr/share/ca-certificates").rglob("*.crt"), key=os.fsencode)
    if not files:
        return
    certs.mkdir(parents=True, exist_ok=True)
    for path in files:
        name = re.sub(r"[()]", "=", re.sub(r"[ ,]", "_", path.stem))
        (certs / f"{name}.pem").symlink_to("/" + str(path.relative_to(root)))
    (certs / "ca-certificates.crt").write_bytes(b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in files))


# ---- The disk ------------------------------------------------------------------------------------------------------


def write_files(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)


def clean(root):
    for name in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name / "partial").mkdir(parents=True)
    for name in ("etc/resolv.conf", "etc/hostname", "etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap"):
        (root / name).unlink(missing_ok=True)
    for path in (root / "dev").iterdir():  # the guest's kernel fills it
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def make_disk(root, settings):
    """An ext4 file system without partitions, complete in its tables: the guest's kernel would otherwise write the
    rest of them in the background, and each copy of the disk would grow by that."""
    target = f"/proc/self/fd/{settings['disk']}"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "-L", "debian", "-i", "32768", "-m", "1",
                    "-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", "-J", "size=32",
                    target, settings["size"]], check=True, pass_fds=[settings["disk"]])


def write_result(number, data):
    with open(f"/proc/self/fd/{number}", "wb") as file:
        file.write(data)


def main(root):
    settings = json.loads(os.environ["HOSTEL_IMAGE"])
    archives = root / "var/cache/apt/archives"
    packages = [Package(deb) for deb in sorted(archives.glob("*.deb"))]
    kernels = list((root / "boot").glob("vmlinu[xz]-*"))
    if len(kernels) != 1:
        sys.exit(f"Debian's packages hold {len(kernels)} kernels; expected one")
    release = kernels[0].name.split("-", 1)[1]
    write_database(root, packages, settings["asked"])
    clean(root)
    write_files(root, settings["files"])
    prepare_modules(root, release)
    prepare_certificates(root)
    archive = initramfs(root, release, settings)
    (root / f"boot/initrd.img-{release}").write_bytes(archive)
    write_result(settings["kernel"], kernels[0].read_bytes())
    write_result(settings["initrd"], archive)
    versions = "".join(f"{package.name} {package.fields['Version']}\n" for package in packages)
    write_result(settings["versions"], versions.encode())
    print("hostel: disk", flush=True)
    make_disk(root, settings)


main(pathlib.Path(sys.argv[1]))
