#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Snapshots are merged: the guest goes on, every other moment keeps every byte, and fewer layers are there.

The bytes of each moment are what QEMU's tools read in the layers that layers.json lists for it. HOSTEL_KILLS=N sets how
often processes are killed at random moments (20).
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

from debian import files
from guest import HOSTEL, Skip, children, hostel, tap, until
from named import GUESTS, HERE, bad, good, last_round, qmp, said, status
from test_snapshots import KILLS, Guest, booted, goes_on, layers, snapshots


def opened(path, driver, **more):
    """As QEMU's tools are told, who are to look although the guest has it open."""
    return {"driver": driver, "file": {"driver": "file", "filename": str(path), "locking": "off"}, **more}


def digest(guest, name, disk, files_of_it):
    """Of the disk below these layers."""
    image, raw = opened(guest.disks[disk], "raw"), HERE / "flat.img"
    for layer in files_of_it:
        image = opened(GUESTS / name / "layers" / layer, "qcow2", backing=image)
    subprocess.run(["qemu-img", "convert", "-O", "raw", f"json:{json.dumps(image)}", raw], check=True)
    return hashlib.sha256(raw.read_bytes()).hexdigest()


def moments(guest, name="a"):
    """What each snapshot's disks hold."""
    return {(snapshot, disk): digest(guest, name, disk, files_of_it)
            for snapshot, row in layers(name)["snapshots"].items() for disk, files_of_it in enumerate(row["disks"])}


def depth(name="a"):
    return [len(files_of_it) for files_of_it in layers(name)["disks"]]


def no_more_files(name="a"):
    """There is nothing that layers.json does not list, and all that it does."""
    table = layers(name)
    listed = {file for row in (table, *table["snapshots"].values()) for disk in row["disks"] for file in disk}
    assert {path.name for path in (GUESTS / name / "layers").iterdir()} == listed
    assert {path.name for path in (GUESTS / name / "snapshots").iterdir()} == set(table["snapshots"])


def boots_from_its_disks(name):
    good("kill", name)
    mark = len(said(name))
    good("start", name)
    booted(name, mark)


def merged(*args):
    return json.loads(good("snapshot", "merge", "-o", "json", *args))


def at(name, snapshot):
    good("snapshot", "revert", "--force", name, snapshot)
    goes_on(name)


def test_a_line():
    """One snapshot after the other, of a guest that runs: from the middle, the first, the last."""
    with Guest("a") as guest:
        for name in ("one", "two", "three", "four"):
            good("snapshot", "create", "a", name)
            goes_on("a")
        before = moments(guest)
        bad("no snapshot", "snapshot", "merge", "a", "five")
        assert depth() == [4, 4]
        told = merged("a", "two")  # into a layer in the middle
        assert told["layers"] == 2 and told["freed"] > 0 and told["kept"] == [], told
        assert depth() == [3, 3]
        assert [(row["name"], row["parent"]) for row in snapshots("a")] == [
            ("one", None), ("three", "one"), ("four", "three")]
        after = moments(guest)
        assert after == {key: value for key, value in before.items() if key[0] != "two"}
        goes_on("a")
        merged("a", "four")  # into the layer that the guest writes
        assert depth() == [2, 2]
        assert moments(guest) == {key: value for key, value in after.items() if key[0] != "four"}
        goes_on("a")
        merged("a", "one")  # into the image
        assert depth() == [1, 1] and layers("a")["snapshots"]["three"]["disks"] == [[], []]
        assert moments(guest) == {key: value for key, value in after.items() if key[0] == "three"}
        goes_on("a")
        no_more_files()
        at("a", "three")
        assert "freed" in good("snapshot", "merge", "a", "three")  # the guest goes on in the image
        assert depth() == [0, 0] and snapshots("a") == []
        no_more_files()
        goes_on("a")
        good("snapshot", "create", "a", "again")
        goes_on("a")
        at("a", "again")
        good("snapshot", "merge", "-q", "a")  # nothing to do: the image is where "again" ends
        assert depth() == [1, 1]
        boots_from_its_disks("a")


def test_a_tree():
    """Branches that the guest is not on; layers that several need; what deleted snapshots have left."""
    with Guest("a") as guest:
        for name in ("one", "two", "three"):
            good("snapshot", "create", "a", name)
            goes_on("a")
        good("snapshot", "create", "a", "leaf")
        at("a", "one")
        good("snapshot", "create", "a", "other")
        goes_on("a")
        before = moments(guest)
        merged("a", "two")  # into "three", on a branch of its own
        assert [len(disk) for disk in layers("a")["snapshots"]["three"]["disks"]] == [1, 1]
        assert [len(disk) for disk in layers("a")["snapshots"]["leaf"]["disks"]] == [2, 2]
        merged("a", "one")  # its layers lie below two branches, and stay: it is the image
        left = {key: value for key, value in before.items() if key[0] not in ("one", "two")}
        assert moments(guest) == left
        goes_on("a")
        good("snapshot", "delete", "a", "three")
        left = {key: value for key, value in left.items() if key[0] != "three"}
        assert moments(guest) == left
        assert merged("a")["layers"] == 2  # of "three", into that of "leaf"
        assert moments(guest) == left
        assert [(row["name"], row["parent"]) for row in snapshots("a")] == [("leaf", None), ("other", None)]
        good("snapshot", "delete", "a", "leaf")
        no_more_files()
        merged("a", "other")  # into the image, all of it
        assert depth() == [0, 0]
        goes_on("a")
        boots_from_its_disks("a")


def cut_off(*args):
    """A merge that was about to say that it is done: the guest's process has done it, and nobody knows."""
    kept = HERE / "kept"
    shutil.copytree(GUESTS / "a", kept)
    merged("a", *args)
    for path in [*(kept / "layers").iterdir(), *(kept / "snapshots").iterdir(), kept / "layers.json"]:
        place = GUESTS / "a" / path.relative_to(kept)
        if path.name == "layers.json" or not place.exists():
            path.rename(place)
    shutil.rmtree(kept)


def test_after_one_that_was_cut_off():
    """What the process has merged is not there any more to lie over, nor to be merged elsewhere."""
    with Guest("a") as guest:
        for name in ("one", "two", "three"):
            good("snapshot", "create", "a", name)
            goes_on("a")
        before = moments(guest)
        cut_off("two")
        assert depth() == [3, 3] and moments(guest) == before
        told = merged("a", "one")  # into the image, if the process had it
        assert told["layers"] == 0 and all("stop and start" in why for why in told["kept"]), told
        left = {key: value for key, value in before.items() if key[0] != "one"}
        assert moments(guest) == left
        assert merged("a", "three")["layers"] == 2
        left = {key: value for key, value in left.items() if key[0] != "three"}
        assert depth() == [2, 2] and moments(guest) == left
        no_more_files()
        boots_from_its_disks("a")
        assert merged("a")["layers"] == 2
        assert depth() == [1, 1] and moments(guest) == left
        cut_off("two")
        good("snapshot", "merge", "a", "two")  # the guest is in the image
        assert depth() == [0, 0]
        no_more_files()
        boots_from_its_disks("a")


def test_another_command_after_one_that_was_killed():
    """The job that is left in the process is in nobody's way."""
    with Guest("a"):
        good("snapshot", "create", "a", "one")
        goes_on("a")
        for action in (("snapshot", "create", "a", "two"), ("clone", "a", "b")):
            top = qmp("a", ("query-block", {}))[0][0]["inserted"]["node-name"]
            job = {"device": top, "job-id": "hostel-merge", "speed": 1, "auto-dismiss": False}
            begun = qmp("a", ("block-stream", job), ("query-jobs", {}))[1]
            assert [row["status"] for row in begun] in (["created"], ["running"]), begun
            good(*action)
            goes_on("a")
            assert qmp("a", ("query-jobs", {})) == [[]]


def test_as_many_as_there_may_be():
    """Snapshots that are deleted leave layers, until one more is refused; a merge makes room."""
    with Guest("a"):
        for i in range(20):
            done = hostel("snapshot", "create", "a", f"s{i}")
            if done.returncode:
                break
            good("snapshot", "delete", "a", f"s{i}")
        assert "hostel snapshot merge" in done.stderr and depth() == [15, 15], (done, depth())
        goes_on("a")
        assert merged("a")["layers"] == 30
        assert depth() == [0, 0]
        no_more_files()
        goes_on("a")
        good("snapshot", "create", "a", "more")
        goes_on("a")


def test_at_rest():
    """Guests that are off, paused or saved stay so. A guest that is to go on from a snapshot keeps its memory."""
    with Guest("a") as guest:
        for name in ("one", "two", "three"):
            good("snapshot", "create", "a", name)
            goes_on("a")
        before = moments(guest)
        good("pause", "a")
        merged("a", "two")
        assert status("a") == "paused" and depth() == [2, 2]
        good("resume", "a")
        goes_on("a")
        good("snapshot", "revert", "--force", "--no-start", "a", "three")
        merged("a", "three")
        assert status("a") == "saved" and depth() == [1, 1]
        good("start", "a")
        goes_on("a")
        good("save", "a")
        seen = last_round("a")
        good("snapshot", "create", "a", "four")
        merged("a", "one")
        assert status("a") == "saved"
        good("start", "a")
        goes_on("a", seen)
        good("kill", "a")
        assert {key for key in before if key[0] == "two"} and [row["name"] for row in snapshots("a")] == ["four"]
        merged("a", "four")
        assert status("a") != "running" and depth() == [0, 0]
        no_more_files()
        mark = len(said("a"))
        good("start", "a")
        booted("a", mark)
        good("snapshot", "create", "a", "five")
        good("snapshot", "revert", "--force", "--no-start", "a", "five")
        good("snapshot", "delete", "a", "five")
        good("start", "a")
        goes_on("a")


def test_what_others_use():
    """Neither the image nor a layer is written that another guest needs."""
    with Guest("a") as guest:
        good("snapshot", "create", "a", "one")
        goes_on("a")
        good("clone", "a", "b")
        goes_on("b")
        image = hashlib.sha256(guest.disks[0].read_bytes()).hexdigest()
        told = merged("a", "one")
        assert told["kept"] and all("'b'" in why for why in told["kept"]), told
        assert depth() == [1, 1] and depth("b") == [2, 2]  # into the guest's own; the clone keeps its links
        assert hashlib.sha256(guest.disks[0].read_bytes()).hexdigest() == image
        goes_on("a")
        goes_on("b")
        good("snapshot", "create", "b", "there")
        goes_on("b")
        before = moments(guest, "b")
        merged("b")  # what "there" lies over into it; it is not the clone's alone, and stays
        assert moments(guest, "b") == before
        goes_on("b")
        boots_from_its_disks("b")
        good("rm", "--force", "b")
        good("snapshot", "merge", "a")
        assert depth() == [0, 0]
        goes_on("a")
        boots_from_its_disks("a")


def test_stopped():
    """Ctrl-C: the snapshot is there, the guest goes on, and the next one does it."""
    with Guest("a") as guest:
        for name in ("one", "two"):
            good("snapshot", "create", "a", name)
            goes_on("a")
        before = moments(guest)
        stopped = 0
        for i in range(10):
            with subprocess.Popen([HOSTEL, "snapshot", "merge", "a", "two"], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True) as process:
                time.sleep(random.uniform(0, 0.02 * i))
                process.send_signal(signal.SIGINT)
                process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGINT, process.returncode
            stopped += 1
            assert [row["name"] for row in snapshots("a")] == ["one", "two"] and moments(guest) == before
        goes_on("a")
        print(f"# {stopped} were stopped")
        if "two" in {row["name"] for row in snapshots("a")}:
            merged("a", "two")
        assert depth() == [1, 1]
        goes_on("a")


def victims(who):
    row = {row["name"]: row for row in json.loads(good("ps", "-a", "-o", "json"))}["a"]
    supervisor = row.get("supervisor-pid")
    if who == "hostel" or not supervisor:
        return []
    return children(int(supervisor))[:1]


def one_kill(rand, who, action, longest):
    """Run a command on the snapshots, and kill it, or the guest's process, meanwhile."""
    pids = victims(who)
    with subprocess.Popen([HOSTEL, "snapshot", *action], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        time.sleep(rand.uniform(0, longest))
        if who == "hostel":
            process.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    if who != "hostel":
        until(lambda: status("a") not in LIVE, "its end")
    return process.returncode == 0


LIVE = ("running", "paused", "prelaunch")  # the last: it was run to be looked at, and whoever did so was killed


def runs_again():
    """It goes on; or it boots, and finds its disks as they should be."""
    mark, now = len(said("a")), status("a")
    if now in ("paused", "prelaunch"):
        good("resume", "a")
    elif now not in LIVE:
        good("start", "a")
    if now in ("running", "paused"):
        goes_on("a")
    else:
        booted("a", mark)


def same_bytes(before, after, left):
    for (snapshot, disk), value in before.items():
        assert snapshot not in left or after[snapshot, disk] == value, (snapshot, disk)


def test_killed_at_random_moments():
    rand = random.Random(os.environ.get("HOSTEL_SEED", "9"))
    with Guest("a") as guest:
        longest, counts = 0.5, {}
        for i in range(KILLS):
            while len(snapshots("a")) < 3:
                good("snapshot", "create", "a", f"s{i}-{len(snapshots('a'))}")
                goes_on("a")
            before, names = moments(guest), [row["name"] for row in snapshots("a")]
            name = rand.choice(names)
            who = rand.choice(("hostel", "hostel", "vmm"))
            action = ("create", "a", f"k{i}") if i % 6 == 5 else ("delete" if i % 8 == 7 else "merge", "a", name)
            if i % 5 == 4:
                good("kill", "a")  # and so it is done to a guest that is off
                who = "hostel"
            began = time.monotonic()
            done = one_kill(rand, who, action, longest)
            if done and action[0] == "merge":
                longest = min(longest, 1.2 * (time.monotonic() - began))
            left = {row["name"] for row in snapshots("a")}
            assert set(names) - {action[2]} <= left <= set(names) | {action[2]}, (names, left)
            if status("a") not in LIVE:  # else a job may go on without its hostel
                same_bytes(before, moments(guest), left)
            runs_again()
            if i % 3 == 2:
                good("snapshot", "merge", "a")
                no_more_files()
                same_bytes(before, moments(guest), left)
            if i % 10 == 9:
                at("a", rand.choice(sorted(left)))
            key = action[0], who, action[2] in left
            counts[key] = counts.get(key, 0) + 1
        print("#", ", ".join(f"{count} of {who} in {what}: {'there' if there else 'not there'}"
                             for (what, who, there), count in sorted(counts.items())))
        boots_from_its_disks("a")


if __name__ == "__main__":
    try:
        files()
        if not shutil.which("qemu-img"):
            raise Skip("qemu-img is not installed")
    except Skip as reason:
        print(f"1..0 # SKIP {reason}")
        raise SystemExit(0) from None
    tap([function for name, function in list(globals().items()) if name.startswith("test_")])
