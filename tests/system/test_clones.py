#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Guests that go on from one file: each learns that it is a copy, none draws the random numbers of another, and on the
network each is a card of its own."""

import os
import re
import select
import socket
import struct
import tempfile

from debian import BOOT, SCRATCH, files, initramfs
from frames import ALL, GATEWAY, HEADER, ICMP6, UDP, Packet, checksum, ip, packed, udp
from guest import Qmp, Skip, tap

# Draws when it is told to: at once, and again when the interrupt has had its time. One process at a time, so that two
# guests which remember the same do the same.
DRAW = """
mkdir /drawn; mount -t tmpfs drawn /drawn; cd /drawn
times() { dmesg | grep -c 'crng reseeded due to virtual machine fork'; }
while read word; do
  [ "$word" = go ] || continue
  head -c 32 /dev/urandom > first
  i=0
  while [ $i -lt 20 ] && [ "$(times)" = 0 ]; do i=$((i + 1)); sleep 0.02; done
  head -c 32 /dev/urandom > later
  echo "drawn $(od -An -v -tx1 first | tr -d ' \\n') $(od -An -v -tx1 later | tr -d ' \\n') told $(times) times;"
done
"""


# Says everything in which a card's address stands: ARP, neighbour discovery (which a link that comes up begins), DHCP.
TALK = """
printf '#!/bin/sh\\n[ "$1" = bound ] && echo "lease of $ip"\\ntrue\\n' > /tmp/lease; chmod +x /tmp/lease
while read word; do
  [ "$word" = go ] || continue
  ip link set eth0 down
  ip link set eth0 up
  ip addr add 10.0.2.9/24 dev eth0
  ping -c 1 -w 5 10.0.2.2 > /dev/null && echo "ping is answered"
  udhcpc -i eth0 -n -q -t 5 -T 1 -s /tmp/lease 2>/dev/null
  echo "card $(cat /sys/class/net/eth0/address) said all;"
done
"""


class Guest(Qmp):
    """A guest of Debian's kernel that does something when it is told to, or one that goes on from a file."""

    def __init__(self, *args, script=DRAW, modules="", incoming=None, **more):
        named = {"kernel": (files() / "kernel", os.O_RDONLY), "initrd": (initramfs(script, modules), os.O_RDONLY)}
        if incoming:
            named["incoming"] = (incoming, os.O_RDONLY)
        super().__init__("--append", "console=ttyS0 quiet", "--cpus", "1", "--rng", "off", *args, files=named,
                         memory="128M", **more)
        self.socket.settimeout(BOOT)
        self.console.settimeout(BOOT)
        self.command("qmp_capabilities")

    def save(self):
        """Into a file; its path."""
        fd, path = tempfile.mkstemp(dir=SCRATCH.name)
        self.command("getfd", fd, fdname="file")
        os.close(fd)
        answer = self.command("x-save", fdname="file", fast=True)
        assert answer["return"]["status"] == "completed", answer
        return path

    def draw(self):
        """What it draws at once, what it draws a little later, and how often it was told that it is a copy."""
        self.console.sendall(b"go\n")
        seen = b""
        while b" times;" not in seen:
            data = self.console.recv(65536)
            assert data, seen
            seen += data
        found = re.search(rb"drawn (\w{64}) (\w{64}) told (\d+) times;", seen)
        assert found and found[1] != found[2], seen
        return found[1], found[2], int(found[3])


def saved_guest():
    """The file of a guest that has drawn before and waits."""
    with Guest() as guest:
        assert guest.draw()[2] == 0
        return guest.save()


def drawn(path, *args):
    with Guest(*args, incoming=path) as guest:
        return guest.draw()


def test_copies_differ():
    for _ in range(5):
        path = saved_guest()
        # That the test can fail: without the notice, two guests draw the same, unless the kernel happens to reseed.
        one, two = drawn(path, "--same-generation"), drawn(path, "--same-generation")
        assert one[2] == two[2] == 0, (one, two)
        if one[0] == two[0]:
            break
    else:
        raise AssertionError((one, two))
    copies = [drawn(path) for _ in range(3)]
    assert [copy[2] for copy in copies] == [1, 1, 1], copies
    draws = [draw for guest in [one, *copies] for draw in guest[:2]]
    assert len(set(draws)) == len(draws), draws
    os.unlink(path)


class Network:
    """The other end of a guest's cable: it answers ARP, echo requests and DHCP, and looks at every frame."""

    def __init__(self):
        self.link, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.frames = []

    def close(self):
        self.link.close()
        self.theirs.close()

    def send(self, to, kind, body):
        self.link.send(bytes(HEADER) + to + b"\x52\x55" + packed(GATEWAY) + struct.pack("!H", kind) + body)

    def take(self):
        """One frame, perhaps answered."""
        message = self.link.recv(1 << 17)
        frame, summed = message[HEADER:], not message[0] & 1
        self.frames.append(frame)
        packet, source = Packet(frame), frame[6:12]
        if packet.kind == 0x806 and packet.body[24:28] == packed(GATEWAY):
            self.send(source, 0x806, packet.body[:6] + b"\0\2\x52\x55" + packed(GATEWAY) * 2 + packet.body[8:18])
        elif packet.protocol == 1 and packet.payload[0] == 8:
            self.send(source, 0x800, ip(1, GATEWAY, packet.source, b"\0\0\0\0" + packet.payload[4:]))
        if packet.protocol in (UDP, ICMP6) and summed:
            pseudo = packed(packet.source) + packed(packet.destination)
            pseudo += struct.pack("!II", packet.protocol, len(packet.payload))
            assert not checksum(pseudo + packet.payload), frame
        if packet.protocol == UDP and packet.destination_port == 67:
            self.answer_dhcp(packet.data)

    def answer_dhcp(self, asked):
        """A lease of 10.0.2.77; who asks looks for its own address in the answer, which comes to everybody."""
        assert asked[240:242] == b"\x35\1"
        kind = {1: 2, 3: 5}.get(asked[242])
        if kind:
            options = bytes([53, 1, kind, 54, 4]) + packed(GATEWAY) + b"\x33\4\0\1\0\0\1\4\xff\xff\xff\0\xff"
            data = b"\2" + asked[1:16] + packed("10.0.2.77") + packed(GATEWAY) + asked[24:240] + options
            self.send(ALL, 0x800, ip(UDP, GATEWAY, "255.255.255.255", udp(67, 68, data)))

    def kinds(self):
        """What addresses stood in."""
        packets = [Packet(frame) for frame in self.frames]
        return {"arp" for packet in packets if packet.kind == 0x806} | \
               {"dhcp" for packet in packets if packet.protocol == UDP and packet.destination_port == 67} | \
               {packet.payload[0] for packet in packets if packet.protocol == ICMP6 and 133 <= packet.payload[0] <= 137}


def talk(guest, network):
    """Tell the guest to say all and hear it; what it prints. Neighbour discovery takes its time beside the script:
    router and neighbour solicitations come last."""
    guest.console.sendall(b"go\n")
    seen = b""
    while b" said all;" not in seen or not network.kinds() >= {"arp", "dhcp", 133, 135}:
        ready = select.select([guest.console, network.link], [], [], BOOT)[0]
        assert ready, seen
        if network.link in ready:
            network.take()
        if guest.console in ready:
            seen += guest.console.recv(65536)
    return seen.decode()


def talking(card, incoming=None, name=None):
    """A guest with a card on a network that says all; then its file. Without card the one that its name makes."""
    network = Network()
    net = f"user,link=fd:{network.theirs.fileno()}:link"
    args = ["--net", f"{net},mac={card.hex(':')}"] if card else ["--net", net, "--name", name]
    with Guest(*args, script=TALK, modules="virtio", incoming=incoming, fds=[network.theirs.fileno()]) as guest:
        said = talk(guest, network)
        assert "ping is answered" in said and "lease of 10.0.2.77" in said, (said, network.frames)
        path = guest.save()
        network.close()
    return said, network.frames, path


def test_cards_differ():
    """Clones go on with the address they remember; outside each has its own, wherever an address stands."""
    cards = [bytes([2, 0, 0x5E, 0, 0x53, last]) for last in (1, 0x12, 0x23)]
    _, frames, first = talking(cards[0])
    assert all(frame[6:12] == cards[0] for frame in frames)
    path = first
    for card in cards[1:]:  # the last is a copy of a copy
        said, frames, path = talking(card, path)
        assert cards[0].hex(":") in said  # what the guest believes
        assert all(frame[6:12] == card for frame in frames), frames
        for other in set(cards) - {card}:
            assert not [frame for frame in frames if other in frame], frames
    said, frames, _ = talking(cards[0], path)
    assert all(frame[6:12] == cards[0] for frame in frames)
    # Nobody need say which: guests of two names have two.
    for name in "one", "two":
        _, frames, _ = talking(None, first, name)
        card = frames[0][6:12]
        assert card[0] == 2 and card not in cards, card
        assert not [frame for frame in frames if frame[6:12] != card or cards[0] in frame], frames
        cards.append(card)


if __name__ == "__main__":
    try:
        files()
    except Skip as reason:
        print(f"1..0 # SKIP {reason}")
        raise SystemExit(0) from None
    tap([function for name, function in list(globals().items()) if name.startswith("test_")])
