#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""The manual and the completion know every subcommand and option that hostel knows, and no other. Output is TAP."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANUAL = ROOT / "docs" / "hostel.1"
IMAGE_MANUAL = ROOT / "docs" / "hostel-image.1"
COMPLETION = ROOT / "completion" / "hostel.bash"


def hostel(*args):
    return subprocess.run([os.environ["HOSTEL"], *args], capture_output=True, text=True, check=True).stdout


def options():
    """{name: (argument or None, default or None)} from the help, which is made from the table."""
    rows = re.findall(r"^  --([a-z-]+) (\S*) +.*?(?:\(default (.*)\))?$", hostel("help", "run"), re.M)
    assert len(rows) > 10
    return {name: (argument or None, default or None) for name, argument, default in rows}


def keys(option):
    """{key: default or None} of an option that is a list."""
    rows = hostel("help", "run").split(f"\n  --{option} ", 1)[1].split("\n")[1:]
    found = {}
    for row in rows:
        match = re.match(r"      ([a-z-]+)=\S+ +.*?(?:\(default (.*)\))?(; may be repeated)?$", row)
        if not match:
            break
        found[match[1]] = match[2]
    return found


def commands():
    return set(re.findall(r"^  ([a-z]+) ", hostel("help"), re.M))


def complete(*words):
    """What bash offers for the last of the words."""
    script = f"""
        source {COMPLETION}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _hostel hostel "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, "PATH": os.path.dirname(os.environ["HOSTEL"]) + ":" + os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True, env=env)
    return {word.strip() for word in done.stdout.split("\n") if word.strip()}


def test_manual_has_every_option():
    text = MANUAL.read_text()
    known = options()
    in_manual = dict(re.findall(r"^\.It Fl Fl ([a-z-]+)(.*)$", text, re.M))
    assert set(in_manual) == set(known), set(in_manual) ^ set(known)
    for name, (argument, default) in known.items():
        assert (argument is None) == (in_manual[name] == ""), name
        if default:
            item = text.split(f".It Fl Fl {name}", 1)[1].split("\n.It ", 1)[0]
            assert default in item, (name, default)


def test_manual_has_every_key():
    text = MANUAL.read_text()
    lists = [name for name in options() if keys(name)]
    assert "disk" in lists
    for name in lists:
        item = text.split(f".It Fl Fl {name} ", 1)[1].split("\n.It Fl Fl ", 1)[0]
        in_manual = re.findall(r"^\.It Cm ([a-z-]+) Ns = Ns ", item, re.M)
        assert set(in_manual) == set(keys(name)), (name, set(in_manual) ^ set(keys(name)))
        for key, default in keys(name).items():
            explained = item.split(f".It Cm {key} ", 1)[1].split("\n.It ", 1)[0]
            assert default is None or default in explained, (name, key, default)


def test_manual_has_every_command():
    in_manual = set(re.findall(r"^\.It Ic ([a-z]+)", MANUAL.read_text(), re.M))
    assert in_manual == commands(), in_manual ^ commands()


def image_commands():
    return set(re.findall(r"^  ([a-z]+) ", hostel("image", "--help"), re.M))


def image_options(command):
    """The words of each option, as "f" or "U force-share"."""
    found = re.findall(r"^  (?:-(\w))?(?:, )?(?:--([a-z-]+))?", hostel("image", command, "--help"), re.M)
    return {" ".join(word for word in words if word) for words in found if any(words)}


def image_section(text, title):
    return re.split(r"^\.S[hs] ", text.split(title + "\n", 1)[1], maxsplit=1, flags=re.M)[0]


def options_in(section):
    return {" ".join(re.findall(r"Fl (?:Fl )?(\S+)", item)) for item in re.findall(r"^\.It (Fl.*)$", section, re.M)}


def test_manual_of_images():
    text = IMAGE_MANUAL.read_text()
    assert set(re.findall(r"^\.Ss ([a-z]+)$", text, re.M)) == image_commands()
    common = options_in(image_section(text, ".Sh OPTIONS THAT SEVERAL COMMANDS HAVE"))
    for command in image_commands():
        own = options_in(image_section(text, f".Ss {command}"))
        known = image_options(command)
        assert known and own <= known, (command, own - known)
        assert known <= own | common, (command, known - own - common)


def test_help_explains_images():
    assert hostel("help", "image") == hostel("image", "help") == hostel("image", "--help")
    for command in image_commands():
        wanted = hostel("image", command, "--help")
        assert hostel("help", "image", command) == hostel("image", "help", command) == wanted


def test_manual_of_images_says_how_each_is_called():
    text = IMAGE_MANUAL.read_text()
    assert {"ls", "cat"} <= image_commands()
    for command in image_commands():
        usage = re.search(rf"^Usage: hostel image {command} (.*)$", hostel("image", command, "--help"), re.M)[1]
        in_manual = re.search(r'^\.Li "?(.*?)"?$', image_section(text, f".Ss {command}"), re.M)[1]
        assert in_manual == usage, (command, in_manual, usage)


def test_manual_is_clean():
    if not shutil.which("mandoc"):
        return "mandoc is not installed"
    for page in ROOT.glob("docs/*.1"):
        command = ["mandoc", "-T", "lint", "-W", "style", page]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # Whether a page is installed on this machine says nothing about the page.
        faults = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
        assert not faults, "\n".join(faults)
    return None


def test_completion_offers_commands():
    assert complete("hostel", "") == commands()
    assert complete("hostel", "bo") == {"boards"}
    assert complete("hostel", "help", "") == commands()


def test_completion_offers_images():
    assert complete("hostel", "image", "") == image_commands()
    assert complete("hostel", "image", "con") == {"convert"}
    assert {"--follow", "-O", "--target-is-zero"} <= complete("hostel", "image", "convert", "-")
    assert complete("hostel", "image", "convert", "--tar") == {"--target-is-zero", "--target-image-opts"}
    assert {"raw", "qcow2"} <= complete("hostel", "image", "convert", "-f", "")
    assert complete("hostel", "image", "info", "--output", "") == {"human", "json"}
    assert complete("hostel", "image", "convert", "--progress", "") == {"bar", "json", "none"}
    assert complete("hostel", "image", "check", "-r", "") == {"leaks", "all"}
    assert complete("hostel", "image", "l") == {"ls"} and complete("hostel", "image", "ca") == {"cat"}
    for command in ("ls", "cat"):
        assert {"--partition", "-f", "-l", "--key-file"} <= complete("hostel", "image", command, "-")
        assert {"raw", "qcow2"} <= complete("hostel", "image", command, "-f", "")
        assert complete("hostel", "image", command, "-P", "") == complete("hostel", "image", command, "-l", "") == set()
        assert str(MANUAL) in complete("hostel", "image", command, "-f", "raw", str(MANUAL)[:-2])
    assert str(MANUAL) in complete("hostel", "image", "info", str(MANUAL)[:-2])


def test_completion_offers_options():
    assert complete("hostel", "run", "--") == {f"--{name}" for name in options()}
    assert complete("hostel", "run", "--isa", "x", "--me") == {"--memory", "--method"}


def own_options(command):
    return set(re.findall(r"^  (?:-\w, )?--([a-z-]+)", hostel("help", command), re.M))


def test_manual_has_every_option_of_commands():
    """Of the commands about guests: a letter in the heading, the name in the text or there."""
    text = MANUAL.read_text()
    for command in commands() - {"run", "image", "help", "guests", "remove"}:
        item = text.split(f".It Ic {command}", 1)[1].split("\n.It ", 1)[0]
        rows = re.findall(r"^  (?:-(\w))?(?:, )?(?:--([a-z-]+))?.*", hostel("help", command), re.M)
        for letter, name in rows:
            if not name or command == "set":
                continue
            heading, body = (item + "\n").split("\n", 1)
            assert not letter or re.search(rf"Fl \w*{letter}\w*\b", heading), (command, letter, heading)
            assert f"Fl Fl {name}" in item or name == "output", (command, name)
            assert body


def test_completion_offers_guests():
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder
        for name in ("web", "mail"):
            guest = pathlib.Path(folder) / "hostel/guests" / name
            guest.mkdir(parents=True)
            (guest / "definition").write_text("[guest]\nsystem=run\n")
        for command in ("info", "start", "wait", "console", "logs", "rename", "set", "rm", "remove", "plug", "unplug"):
            assert complete("hostel", command, "") == {"web", "mail"}, command
            assert complete("hostel", command, "w") == {"web"}, command
        for command in ("pause", "resume", "reset", "shutdown", "stop", "kill", "top"):  # none is running
            assert complete("hostel", command, "") == set(), command
        for command in ("ps", "info", "logs", "stop", "rm", "top", "start"):
            assert complete("hostel", command, "--") == {f"--{name}" for name in own_options(command)}, command
        assert complete("hostel", "ps", "-o", "") == {"table", "json", "name"}
        assert complete("hostel", "snapshot", "re") == {"revert"}
        assert complete("hostel", "snapshot", "create", "") == complete("hostel", "clone", "") == {"web", "mail"}
        assert complete("hostel", "restore", "m") >= {"mail"}
        assert str(MANUAL) in complete("hostel", "dump", "web", str(MANUAL)[:-2])
        assert {"memory=", "cpus=", "append="} <= complete("hostel", "set", "web", "")
        assert complete("hostel", "set", "web", "memory", "=", "") == set()
        assert complete("hostel", "run", "--name", "") == {"web", "mail"}
        del os.environ["XDG_DATA_HOME"]


def test_completion_offers_devices():
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder
        guest = pathlib.Path(folder) / "hostel/guests/web"
        guest.mkdir(parents=True)
        (guest / "definition").write_text("[guest]\nsystem=run\n[run]\nwords=--disk=file=/a,format=raw;--net=user;\n")
        assert complete("hostel", "unplug", "web", "") == {"disk0", "net0"}
        assert complete("hostel", "unplug", "web", "n") == {"net0"}
        assert complete("hostel", "plug", "web", "--") >= {"--disk", "--net"}
        assert complete("hostel", "plug", "web", "--disk", "for") == {"format="}
        assert complete("hostel", "plug", "web", "--net", "") == {"user", "tap", "none"}


def test_completion_offers_values():
    assert complete("hostel", "run", "--isa", "") == {line.split()[0] for line in hostel("isas").splitlines()}
    assert "emulation" in complete("hostel", "run", "--method", "")
    assert {"stdio", "none", "file="} == complete("hostel", "run", "--console", "")
    assert complete("hostel", "run", "--net", "") == {"user", "tap", "none"}
    assert {"all", "mmu", "translate"} <= complete("hostel", "run", "--trace", "")
    assert complete("hostel", "run", "--trace", "tr") == {"translate"}


def test_completion_offers_keys():
    assert complete("hostel", "run", "--disk", "") == {f"{key}=" for key in keys("disk")}
    assert complete("hostel", "run", "--disk", "for") == {"format="}
    assert complete("hostel", "run", "--disk", "file", "=", "x,se") == {"x,serial="}
    assert str(MANUAL) in complete("hostel", "run", "--disk", "file", "=", str(MANUAL)[:-2])
    assert complete("hostel", "run", "--disk", "file", "=", "x,format", "=") >= {"raw", "overlay", "qcow2"}
    assert complete("hostel", "run", "--disk", "file", "=", "x,readonly", "=", "o") == {"on", "off"}
    assert complete("hostel", "run", "--disk", "file", "=", "x,serial", "=", "") == set()
    assert complete("hostel", "run", "--disk", "file", "=", "x", "--me") == {"--memory", "--method"}


def test_completion_offers_keys_of_networks():
    assert complete("hostel", "run", "--net", "user,") == {f"user,{key}=" for key in keys("net")}
    assert complete("hostel", "run", "--net", "user,fo") == {"user,forward="}
    assert complete("hostel", "run", "--net", "user,dns", "=", "192.0.2.1,is") == {"192.0.2.1,isolated="}
    assert complete("hostel", "run", "--net", "user", "--me") == {"--memory", "--method"}


def main():
    tests = [value for name, value in sorted(globals().items()) if name.startswith("test_")]
    print(f"1..{len(tests)}")
    failed = 0
    for number, test in enumerate(tests, 1):
        name = test.__name__.removeprefix("test_").replace("_", " ")
        try:
            skipped = test()
            print(f"ok {number} - {name}" + (f" # SKIP {skipped}" if skipped else ""))
        except (AssertionError, subprocess.CalledProcessError) as fault:
            failed = 1
            print(f"not ok {number} - {name}\n# {fault}".replace("\n", "\n# ").replace("\n# # ", "\n# "))
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
