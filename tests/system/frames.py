# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""A guest made of frames: it talks to hostel-netd over the link, as the network card of a VMM would."""

import ipaddress
import os
import socket
import struct
import subprocess

NETD = os.path.join(os.environ["BUILD_ROOT"], "src/bin/hostel-netd")
HEADER = 12  # struct virtio_net_hdr
MAC, ALL = b"\x02\0\x5e\0\x53\1", b"\xff" * 6
GUEST, GATEWAY, NAMESERVER = "10.0.2.15", "10.0.2.2", "10.0.2.3"
ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
SYN, RST, ACK = 2, 4, 16


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address):
    return ipaddress.ip_address(address).packed


def ip(protocol, source, destination, payload):
    """An IP packet whose TCP, UDP or ICMP checksum is filled in."""
    source, destination = packed(source), packed(destination)
    place = {ICMP: 2, TCP: 16, UDP: 6, ICMP6: 2}[protocol]
    pseudo = b"" if protocol == ICMP else source + destination + struct.pack("!II", protocol, len(payload))
    payload = payload[:place] + struct.pack("!H", checksum(pseudo + payload)) + payload[place + 2:]
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + source + destination + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + source + destination
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def tcp(source, destination, flags, data=b""):
    return struct.pack("!HHIIBBHHH", source, destination, 1000, 0, 0x50, flags, 65535, 0, 0) + data


def udp(source, destination, data):
    return struct.pack("!HHHH", source, destination, 8 + len(data), 0) + data


class Packet:
    """What hostel-netd sent: an IP packet taken apart."""

    def __init__(self, frame):
        self.kind = struct.unpack("!H", frame[12:14])[0]
        self.body = frame[14:]
        self.protocol = 0
        if self.kind == 0x800:
            self.protocol = self.body[9]
            self.source, self.destination = (str(ipaddress.ip_address(self.body[i:i + 4])) for i in (12, 16))
            self.payload = self.body[20:struct.unpack("!H", self.body[2:4])[0]]
        elif self.kind == 0x86DD:
            self.protocol = self.body[6]
            self.source, self.destination = (str(ipaddress.ip_address(self.body[i:i + 16])) for i in (8, 24))
            self.payload = self.body[40:]
        if self.protocol in (TCP, UDP):
            self.source_port, self.destination_port = struct.unpack("!HH", self.payload[:4])
            self.data = self.payload[8:] if self.protocol == UDP else self.payload[(self.payload[12] >> 4) * 4:]
        if self.protocol == TCP:
            self.flags = self.payload[13]


class Netd:
    """hostel-netd and our end of its link."""

    def __init__(self, *words):
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Meson has the C library fill memory that nobody has used yet, which counts as used then.
        env = {name: value for name, value in os.environ.items() if name != "MALLOC_PERTURB_"}
        self.process = subprocess.Popen([NETD, f"link={theirs.fileno()}", *words], pass_fds=[theirs.fileno()],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        theirs.close()
        self.report = self.process.stdout.read().decode()

    def frame(self, kind, body, destination=ALL):
        self.link.send(bytes(HEADER) + destination + MAC + struct.pack("!H", kind) + body)

    def send(self, protocol, destination, payload, source=None):
        v6 = ":" in destination
        self.frame(0x86DD if v6 else 0x800, ip(protocol, source or ("fec0::15" if v6 else GUEST), destination, payload))

    def receive(self, limit=5):
        """The next packet; None when there is none within limit seconds. ARP for the guest is answered on the way."""
        self.link.settimeout(limit)
        while True:
            try:
                packet = Packet(self.link.recv(70000)[HEADER:])
            except TimeoutError:
                return None
            if packet.kind != 0x806:
                return packet
            if packet.body[6:8] == b"\0\1" and packet.body[24:28] == packed(GUEST):
                self.arp(2, packet.body[14:18], packet.body[8:14])

    def arp(self, operation, target, target_mac=bytes(6)):
        self.frame(0x806, struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + MAC + packed(GUEST) + target_mac + target)

    def expect(self, check, limit=5):
        """The next packet for which check is true; others are passed over."""
        while True:
            packet = self.receive(limit)
            assert packet, "no answer"
            if check(packet):
                return packet

    def introduce(self):
        """Tells hostel-netd who has the guest's address."""
        self.arp(1, packed(GATEWAY))
        self.link.settimeout(5)
        assert Packet(self.link.recv(70000)[HEADER:]).kind == 0x806

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.link.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        self.process.stdout.close()
