#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""hostel-netd frame by frame, without a guest: addresses, names, what is refused, forwards, privileges, the end."""

import os
import re
import socket
import struct
import threading

from frames import (ACK, ALL, GATEWAY, GUEST, ICMP, ICMP6, MAC, NAMESERVER, RST, SYN, TCP, UDP, Netd, checksum, ip, tcp,
                    udp)
from guest import SANITIZED, Skip, hostel, status_of, tap, until

RESOLVER = "127.77.0.53"  # an address of the host's loopback that nobody else has


def dhcp(kind, options=b""):
    return udp(68, 67, struct.pack("!BBBBIHHIIII", 1, 1, 6, 0, 0x1234, 0, 0, 0, 0, 0, 0) + MAC + bytes(202)
               + b"\x63\x82\x53\x63" + bytes([53, 1, kind]) + options + b"\xff")


def dhcp_options(data):
    options, at = {}, 240
    while data[at] != 255:
        code, size = data[at], data[at + 1]
        options[code] = data[at + 2:at + 2 + size]
        at += 2 + size
    return options


def own_address():
    """An address of the host that is not its loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))  # sends nothing
        except OSError as e:
            raise Skip(f"the host has no address but its loopback's: {e}") from e
        return s.getsockname()[0]


def listener(kind=socket.SOCK_STREAM, host="0.0.0.0", port=0):
    s = socket.socket(socket.AF_INET, kind)
    s.bind((host, port))
    if kind == socket.SOCK_STREAM:
        s.listen()
    s.settimeout(5)
    return s


def test_dhcp():
    with Netd() as netd:
        assert netd.report == "ready", netd.report
        netd.send(UDP, "255.255.255.255", dhcp(1), source="0.0.0.0")
        offer = netd.expect(lambda p: p.protocol == UDP)
        assert offer.data[16:20] == socket.inet_aton(GUEST)
        netd.send(UDP, "255.255.255.255", dhcp(3, b"\x32\4" + socket.inet_aton(GUEST)), source="0.0.0.0")
        options = dhcp_options(netd.expect(lambda p: p.protocol == UDP).data)
        assert options[53] == b"\5", "acknowledged"
        assert options[3] == socket.inet_aton(GATEWAY), options
        assert options[6] == socket.inet_aton(NAMESERVER), options


def test_router_and_echo():
    with Netd() as netd:
        netd.introduce()
        netd.send(ICMP, GATEWAY, struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"echo")
        assert netd.expect(lambda p: p.protocol == ICMP).payload[4:] == b"\0\7\0\1echo"
        netd.send(ICMP6, "ff02::2", struct.pack("!BBHI", 133, 0, 0, 0), source="fe80::15")
        advert = netd.expect(lambda p: p.protocol == ICMP6 and p.payload[0] == 134)
        assert b"\xfe\xc0" in advert.payload, "the prefix of the guest's network"


def answer_names(server, answers):
    while True:
        try:
            query, client = server.recvfrom(512)
        except OSError:
            return
        answers.append(client)
        server.sendto(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:] +
                      b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\xc6\x33\x64\7", client)


def test_names_by_the_given_server():
    try:
        server = listener(socket.SOCK_DGRAM, RESOLVER, 53)
    except PermissionError as e:
        raise Skip("only root may answer on port 53") from e
    answers = []
    threading.Thread(target=answer_names, args=(server, answers), daemon=True).start()
    query = b"\x55\x66\1\0\0\1\0\0\0\0\0\0\4test\6hostel\0\0\1\0\1"
    with Netd(f"dns={RESOLVER}") as netd:
        netd.introduce()
        netd.send(UDP, NAMESERVER, udp(3000, 53, query))
        answer = netd.expect(lambda p: p.protocol == UDP)
        assert answer.source == NAMESERVER and answer.data.endswith(b"\xc6\x33\x64\7"), answer.data
        # Only as the name server: what it is on the host stays out of reach.
        netd.send(UDP, RESOLVER, udp(3001, 53, query))
        assert netd.expect(lambda p: True).protocol == ICMP
        netd.send(UDP, NAMESERVER, udp(3001, 54, query))
        assert netd.expect(lambda p: True).protocol == ICMP
        assert len(answers) == 1, answers
    server.close()


def refused(netd, destination, port, version=4):
    """A connection and a datagram are answered with `administratively prohibited`."""
    said = (3, 13) if version == 4 else (1, 1)
    for protocol, payload in ((TCP, tcp(4000, port, SYN)), (UDP, udp(4000, port, b"x"))):
        netd.send(protocol, destination, payload)
        answer = netd.expect(lambda p: True)
        assert answer.protocol in (ICMP, ICMP6), f"{destination}: answered by protocol {answer.protocol}"
        assert tuple(answer.payload[:2]) == said, (destination, answer.payload[:2])


def test_the_host_and_its_link_are_refused():
    with listener() as server, listener(socket.SOCK_DGRAM) as datagrams, Netd() as netd:
        netd.introduce()
        for port in (server.getsockname()[1], datagrams.getsockname()[1]):
            addresses = ["127.0.0.1", "127.1.2.3", GATEWAY, "10.0.2.77", "169.254.169.254", "0.0.0.0"]
            try:
                addresses.append(own_address())
            except Skip:
                pass
            for address in addresses:
                refused(netd, address, port)
            for address in ("::1", "::ffff:127.0.0.1", "fe80::1", "fec0::2", "fec0::77", "64:ff9b::7f00:1"):
                refused(netd, address, port, 6)
        for silent in (server, datagrams):
            silent.settimeout(0.1)
        try:
            server.accept()
            raise AssertionError("somebody got through to the host")
        except TimeoutError:
            pass
        try:
            datagrams.recv(10)
            raise AssertionError("a datagram got through to the host")
        except TimeoutError:
            pass


def test_new_addresses_of_the_host_are_noticed():
    if os.getuid():
        raise Skip("only root may give the host an address")
    new = "198.18.77.1/32"
    with Netd() as netd:
        netd.introduce()
        assert os.system(f"ip address add {new} dev lo") == 0
        try:
            until(lambda: netd.send(UDP, "198.18.77.1", udp(1, 9, b"x")) or (packet := netd.receive(0.2))
                  and packet.protocol == ICMP and tuple(packet.payload[:2]) == (3, 13), "the new address is refused")
        finally:
            os.system(f"ip address del {new} dev lo")


def test_isolated():
    with Netd("isolated=on") as netd:
        netd.introduce()
        refused(netd, "198.51.100.7", 80)
        refused(netd, NAMESERVER, 53)
        refused(netd, "2001:db8::7", 80, 6)
        netd.send(UDP, "255.255.255.255", dhcp(1), source="0.0.0.0")
        assert netd.expect(lambda p: p.protocol == UDP).data[16:20] == socket.inet_aton(GUEST)


def test_forward_tcp():
    port = free_port()
    for words in ((), ("isolated=on",)):
        with Netd(f"forward=tcp:127.0.0.1:{port}-:2222", *words) as netd:
            assert netd.report == "ready", netd.report
            netd.introduce()
            with socket.create_connection(("127.0.0.1", port), 5) as client:
                knock = netd.expect(lambda p: p.protocol == TCP)
                assert (knock.source, knock.destination_port, knock.flags) == (GATEWAY, 2222, SYN)
                sequence = struct.unpack("!I", knock.payload[4:8])[0]
                netd.send(TCP, GATEWAY, struct.pack("!HHIIBBHHH", 2222, knock.source_port, 9, sequence + 1, 0x50,
                                                    SYN | ACK, 65535, 0, 0))
                netd.expect(lambda p: p.protocol == TCP and p.flags & ACK)
                client.sendall(b"from the host")
                assert netd.expect(lambda p: p.protocol == TCP and p.data).data == b"from the host"
                netd.send(TCP, GATEWAY, struct.pack("!HHIIBBHHH", 2222, knock.source_port, 10, sequence + 14, 0x50, ACK,
                                                    65535, 0, 0) + b"from the guest")
                assert client.recv(100) == b"from the guest"


def test_forward_over_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
            port = s.getsockname()[1]
    except OSError as e:
        raise Skip(f"the host has no IPv6: {e}") from e
    with Netd(f"forward=tcp:[::1]:{port}-:22") as netd:
        assert netd.report == "ready", netd.report
        # Asking for the gateway tells the guest's own address.
        gateway = socket.inet_pton(socket.AF_INET6, "fec0::2")
        netd.send(ICMP6, "ff02::1:ff00:2", struct.pack("!BBHI", 135, 0, 0, 0) + gateway + b"\1\1" + MAC)
        assert netd.expect(lambda p: p.protocol == ICMP6).payload[0] == 136
        with socket.create_connection(("::1", port), 5):
            knock = netd.expect(lambda p: p.protocol == TCP)
            assert (knock.source, knock.destination, knock.destination_port) == ("fec0::2", "fec0::15", 22)


def test_forward_udp():
    port = free_port()
    with Netd(f"forward=udp:127.0.0.1:{port}-:53") as netd:
        netd.introduce()
        refused(netd, GATEWAY, 53)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(b"question", ("127.0.0.1", port))
            packet = netd.expect(lambda p: p.protocol == UDP)
            assert (packet.data, packet.destination_port) == (b"question", 53)
            netd.send(UDP, packet.source, udp(53, packet.source_port, b"answer"))
            assert client.recv(100) == b"answer"


def descriptors(netd):
    """What its descriptors are; none are seen unless by root, since the process is locked down."""
    folder = f"/proc/{netd.process.pid}/fd"
    try:
        return [os.readlink(f"{folder}/{fd}").split(":")[0] for fd in os.listdir(folder)]
    except PermissionError:
        assert os.getuid()
        return []


def free_port():
    with listener(host="127.0.0.1") as s:
        return s.getsockname()[1]


def test_a_port_that_is_taken():
    for kind, name in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
        with listener(kind, "127.0.0.1") as taken:
            port = taken.getsockname()[1]
            with Netd(f"forward={name}:127.0.0.1:{port}-:22") as netd:
                assert re.fullmatch(rf"forward={name}:\S+: cannot listen on port {port} of the host: "
                                    r"the port is taken by another program; .*", netd.report), netd.report
                assert netd.process.wait(5) == 1
            done = hostel("run", "--isa", "riscv64", "--firmware", os.environ["MONITOR"], "--net",
                          f"user,forward={name}:127.0.0.1:{port}-:22")
            assert done.returncode == 1 and done.stdout == "", done
            assert re.fullmatch(r"hostel: error: --net user: forward=.*taken.*\n", done.stderr), done.stderr


def test_wrong_words():
    for word in ("forward=tcp:1-2", "dns=name", "mtu=1", "isolated=maybe", "colour=red"):
        with Netd(word) as netd:
            assert word.split("=")[0] in netd.report and "\n" not in netd.report, netd.report
            assert netd.process.wait(5) == 2


def test_nothing_outside_is_reached_by_a_reset():
    """Packets of no connection are answered here, and open nothing."""
    with Netd() as netd:
        netd.introduce()
        before = len(descriptors(netd))
        netd.send(TCP, "127.0.0.1", tcp(4000, 22, ACK))
        assert netd.expect(lambda p: p.protocol == TCP).flags & RST
        assert len(descriptors(netd)) == before


def test_privileges():
    with Netd() as netd:
        status = status_of(netd.process.pid)
        assert status["NoNewPrivs"] == "1" and int(status["CapEff"], 16) == 0, status
        if not SANITIZED:
            assert status["Seccomp"] == "2", status
        kinds = descriptors(netd)
        assert not kinds or kinds.count("socket") == 2, kinds  # the link, and the watch of addresses
        assert all(kind in ("socket", "pipe", "/dev/null") for kind in kinds), kinds


def test_garbage():
    """Messages that no card sends: too short, too long, nonsense in the header. The guest goes on."""
    with Netd() as netd:
        netd.introduce()
        for size in (1, 11, 12, 25, 26, 60):
            for fill in (0, 0xFF, 0x45):
                netd.link.send(bytes([fill]) * size)
        netd.link.send(bytes(12) + ALL + MAC + b"\x08\0" + os.urandom(65000))
        netd.link.send(b"\1" * 66000)
        netd.send(ICMP, GATEWAY, struct.pack("!BBHHH", 8, 0, 0, 7, 1))
        assert netd.expect(lambda p: p.protocol == ICMP).payload[0] == 0


def test_more_flows_than_there_can_be():
    """A guest that opens connections without end, and sends fragments without end, meets a limit and goes on."""

    def drain(netd):
        netd.link.settimeout(0)
        try:
            while netd.link.recv(70000):
                pass
        except BlockingIOError:
            netd.link.settimeout(10)

    fragment = ip(UDP, GUEST, "198.51.100.9", udp(1, 2, b"x" * 1400))
    with Netd() as netd:
        netd.introduce()
        for i in range(2000):
            # Nobody has these addresses (RFC 5737), so nobody is bothered.
            netd.send(TCP, f"198.51.100.{i % 250 + 1}", tcp(1000 + i, 9, SYN))
            netd.send(UDP, f"203.0.113.{i % 250 + 1}", udp(1000 + i, 9, b"x"))
            head = fragment[:4] + struct.pack("!HH", i, 0x2000) + fragment[8:10] + b"\0\0" + fragment[12:20]
            netd.frame(0x800, head[:10] + struct.pack("!H", checksum(head)) + head[12:] + fragment[20:])
            if i % 20 == 0:
                drain(netd)
        drain(netd)
        netd.send(ICMP, GATEWAY, struct.pack("!BBHHH", 8, 0, 0, 7, 1))
        netd.expect(lambda p: p.protocol == ICMP and p.payload[0] == 0)
        assert len(descriptors(netd)) <= 1024 + 32 + 64
        if not SANITIZED:
            assert int(status_of(netd.process.pid)["VmHWM"].split()[0]) < 192 * 1024


def test_it_ends_with_its_link():
    with Netd() as netd:
        netd.link.close()
        assert netd.process.wait(5) == 0
        assert netd.process.stderr.read() == b""


tap([function for name, function in list(globals().items()) if name.startswith("test_")])
