#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Networks of whole guests: Debian's kernel gets an address, resolves a name, moves files both ways, is reached by a
forward; and what is said when something is wrong.

What the guest reaches lies in a network namespace of its own, as any other machine would, since the host's own
addresses are refused. Making one takes root; without, those tests skip."""

import contextlib
import hashlib
import http.server
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request

from guest import HOSTEL, MONITOR, PATIENCE, Pipes, Skip, children, hostel, tap, until

DEBIAN_GUEST = pathlib.Path(__file__).resolve().parents[2] / "tools/debian-guest"
BOOT = 8 * PATIENCE
SCRATCH = tempfile.TemporaryDirectory()
RESOLVER = "127.77.0.54"
FAR, NEAR = "198.51.100.2", "198.51.100.1"  # the other machine, and the host's end of the wire to it
SIZE = 8 << 20

# The first words of every guest: its address by DHCP, as Debian's busybox does it.
START = r"""
cat >/bound <<'EOF'
[ "$1" = bound ] || exit 0
ip address add $ip/$mask dev $interface
ip route add default via $router
mkdir -p /etc
echo "nameserver $dns" >/etc/resolv.conf
echo "bound: $ip $router $dns"
EOF
chmod +x /bound
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -n -q -s /bound 2>/dev/null || echo "bound: nothing"
"""

DOWNLOAD = START + r"""
echo "mac: $(cat /sys/class/net/eth0/address)"
echo "name: $(nslookup -type=a far.hostel | sed -n 's/^Address: //p' | tail -n 1)"
echo "download: $(wget -q -O - http://far.hostel:8000/file | sha256sum)"
echo "upload: $(seq 1 900000 >/sent; wget -q -O - --post-file=/sent http://far.hostel:8000/)"
for address in 127.0.0.2 169.254.169.254 10.0.2.2 NEAR; do
    nc -w 5 $address 8000 </dev/null 2>&1 | sed "s/^/refused $address: /"
done
echo "pings: $(ping -c 3 -q 10.0.2.2 | grep received)"
"""

SERVE = START + r"""
mkdir /www
seq 1 500000 >/www/file
echo "serving: $(sha256sum </www/file)"
httpd -f -p 80 -h /www &
(nc -l -p 5000 >/taken; echo "taken: $(sha256sum </taken)") &
for port in 0050 1388; do # in hexadecimal: 80, 5000
    until grep -q ":$port " /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done
done
echo "go ahead"
read word
echo "carrier: $(cat /sys/class/net/eth0/carrier)"
read word
i=0
while [ $i -lt 100 ] && [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do sleep 0.1; i=$((i + 1)); done
echo "carrier: $(cat /sys/class/net/eth0/carrier)"
"""


def boot(name, script, *args, cpus=1):
    """A guest that runs script."""
    done = subprocess.run([DEBIAN_GUEST, "fetch"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skip(done.stderr.strip().splitlines()[-1])
    files = pathlib.Path(done.stdout.strip())
    path, out = pathlib.Path(SCRATCH.name, f"{name}.sh"), pathlib.Path(SCRATCH.name, f"{name}.gz")
    path.write_text(script)
    subprocess.run([DEBIAN_GUEST, "initramfs", out, "--script", path, "--modules", "virtio"], check=True)
    return Pipes("--cpus", str(cpus), "--kernel", str(files / "kernel"), "--initrd", str(out), "--append",
                 "console=ttyS0 quiet", *args, command=[HOSTEL, "run", "--isa", "riscv64", "--memory", "256M"])


def claims(text):
    """The lines `what: value` of a guest's script."""
    return dict(re.findall(r"^([a-z]+(?: [0-9.]+)?): (.*?)\r?$", text.decode(errors="replace"), re.M))


# ---- Another machine -------------------------------------------------------------------------------------------------


class Files(http.server.BaseHTTPRequestHandler):
    """Serves SIZE bytes; answers what is sent to it by its checksum."""

    protocol_version = "HTTP/1.0"

    def reply(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply(contents())

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(hashlib.sha256(data).hexdigest().encode())

    def log_message(self, *unused):
        pass


def contents():
    return b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(SIZE // 32))


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def far_machine():
    """A namespace at the other end of a wire, with a web server in it."""
    if os.getuid():
        raise Skip("only root may make a network namespace")
    name = f"hostel{os.getpid()}"
    near, far = f"hn{os.getpid()}", f"hf{os.getpid()}"
    steps = (["ip", "netns", "add", name], ["ip", "link", "add", near, "type", "veth", "peer", "name", far],
             ["ip", "link", "set", far, "netns", name], ["ip", "address", "add", f"{NEAR}/24", "dev", near],
             ["ip", "link", "set", near, "up"], ["ip", "-n", name, "address", "add", f"{FAR}/24", "dev", far],
             ["ip", "-n", name, "link", "set", far, "up"])
    server = None
    try:
        for step in steps:
            done = run(*step)
            if done.returncode:
                raise Skip(f"{' '.join(step)}: {done.stderr.strip()}")
        server = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, __file__, "--serve"],
                                  stdout=subprocess.PIPE)
        assert server.stdout.readline() == b"serving\n"
        yield
    finally:
        if server:
            server.kill()
            server.wait()
        run("ip", "link", "del", near)
        run("ip", "netns", "del", name)


@contextlib.contextmanager
def name_server():
    """Knows that far.hostel is the other machine."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((RESOLVER, 53))
    server.settimeout(0.1)
    ended = threading.Event()

    def answer():
        while not ended.is_set():
            try:
                query, client = server.recvfrom(512)
            except TimeoutError:
                continue
            question = query[12:query.index(b"\0", 12) + 5]
            known = question.startswith(b"\3far\6hostel\0\0\1")
            server.sendto(query[:2] + b"\x81\x80\0\1\0" + (b"\1" if known else b"\0") + bytes(4) + question +
                          (b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + socket.inet_aton(FAR) if known else b""), client)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        server.close()


def sums_of_download(cpus, *words):
    with far_machine(), name_server(), boot(f"download{cpus}", DOWNLOAD.replace("NEAR", NEAR), "--net",
                                            ",".join(("user", f"dns={RESOLVER}", *words)), "--name", "tester",
                                            cpus=cpus) as guest:
        said = claims(guest.wait_for(b"script exit status: 0", BOOT))
        assert guest.end() == 0
    assert said["bound"] == "10.0.2.15 10.0.2.2 10.0.2.3", said
    assert said["name"] == FAR, said
    assert said["download"].split()[0] == hashlib.sha256(contents()).hexdigest(), said
    sent = "".join(f"{i}\n" for i in range(1, 900001)).encode()
    assert said["upload"] == hashlib.sha256(sent).hexdigest(), said
    for address in ("169.254.169.254", "10.0.2.2", NEAR):
        assert "No route to host" in said[f"refused {address}"], said
    assert "3 packets received" in said["pings"], said
    return said


def test_out_of_the_guest():
    first, second = sums_of_download(1), sums_of_download(2, "mtu=1500")
    assert first["mac"] == second["mac"], "a guest's card keeps its address"
    assert int(first["mac"].split(":")[0], 16) & 3 == 2, "an address of nobody's hardware"


# ---- Into the guest --------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def netd_of(guest):
    for pid in children(guest.process.pid):
        with open(f"/proc/{pid}/comm", encoding="ascii") as file:
            if file.read().strip() == "hostel-netd":
                return pid
    return None


def test_into_the_guest_and_the_end_of_its_network():
    web, taker = free_port(), free_port()
    net = f"user,forward=tcp:127.0.0.1:{web}-:80,forward=tcp::{taker}-:5000"
    sent = os.urandom(SIZE)
    with boot("serve", SERVE, "--net", net, cpus=2) as guest:
        said = claims(guest.wait_for(b"go ahead", BOOT))
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/file", timeout=PATIENCE) as answer:
            assert hashlib.sha256(answer.read()).hexdigest() == said["serving"].split()[0]
        with socket.create_connection(("127.0.0.1", taker), PATIENCE) as client:
            client.sendall(sent)
        assert hashlib.sha256(sent).hexdigest().encode() in guest.wait_for(b"taken: ") + guest.wait_for(b"-")
        guest.send(b"\n")
        guest.wait_for(b"carrier: 1")
        os.kill(netd_of(guest), signal.SIGKILL)
        assert guest.wait_for(b"link is down").count(b"\n") <= 2
        guest.send(b"\n")
        guest.wait_for(b"carrier: 0")
        guest.wait_for(b"script exit status: 0", BOOT)
        assert guest.end() == 0


def test_a_guest_that_starts_again():
    """A reset while frames are under way: the card and its driver begin anew."""
    script = START + """
(while ping -q -c 1 -s 60000 10.0.2.2; do :; done) >/dev/null &
echo "your turn"
read word
[ "$word" = off ] || reboot -f
"""
    with boot("again", script, "--net", "user", cpus=2) as guest:
        for word in (b"reboot\n", b"reboot\n", b"off\n"):
            assert claims(guest.wait_for(b"your turn", BOOT))["bound"].startswith("10.0.2.15 ")
            guest.send(word)
        guest.wait_for(b"script exit status: 0", BOOT)
        assert guest.end() == 0


# ---- What is wrong ---------------------------------------------------------------------------------------------------


def test_it_ends_with_its_guest():
    with Pipes("--net", "user", command=[HOSTEL, "run", "--isa", "riscv64", "--firmware", MONITOR]) as guest:
        guest.wait_for(b"ready\n")
        pid = netd_of(guest)
        assert pid
        guest.process.send_signal(signal.SIGTERM)
        guest.end()
        until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of hostel-netd")


def test_one_that_hangs_is_killed():
    with Pipes("--net", "user", command=[HOSTEL, "run", "--isa", "riscv64", "--firmware", MONITOR]) as guest:
        guest.wait_for(b"ready\n")
        pid = netd_of(guest)
        os.kill(pid, signal.SIGSTOP)
        guest.process.send_signal(signal.SIGTERM)
        guest.end()
        until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of hostel-netd")


def test_what_is_refused():
    for net, code, text in (
            ("user,forward=tcp:1-2", 2, "forward=tcp:1-2"), ("user,name=x", 2, "no key name"),
            ("tap", 2, "either name=INTERFACE or fd=N"), ("tap,name=nosuchthing0", 1, "no such interface"),
            ("tap,name=a,fd=3", 2, "either"), ("tap,fd=99", 2, "not an open descriptor"),
            ("tap,name=x,isolated=on", 2, "no key isolated"), ("user,mac=1", 2, "mac=1"),
            ("user,mac=01:00:5e:00:00:01", 2, "group"), ("user,mtu=100", 2, "mtu=100"), ("none,mac=1", 2, "no key mac"),
            ("tap,fd=0", 2, "fd"), ("user,colour=red", 2, "unknown key")):
        done = hostel("run", "--isa", "riscv64", "--firmware", MONITOR, "--net", net)
        assert done.returncode == code and text in done.stderr and done.stderr.count("\n") == 1, (net, done)


def test_tap():
    if os.getuid() or not os.path.exists("/dev/net/tun"):
        raise Skip("only root may make a tap interface, where there are any")
    name = f"ht{os.getpid()}"
    if run("ip", "tuntap", "add", name, "mode", "tap").returncode:
        raise Skip("this host has no tap interfaces")
    try:
        run("ip", "address", "add", f"{NEAR}/24", "dev", name)
        run("ip", "link", "set", name, "up")
        script = f"ip link set eth0 up\nip address add {FAR}/24 dev eth0\necho \"pings: $(ping -c 3 -q {NEAR})\"\n" \
                 f"echo \"download: $(wget -q -O - http://{NEAR}:8000/file | sha256sum)\"\n"
        server = http.server.ThreadingHTTPServer((NEAR, 8000), Files)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with boot("tap", script, "--net", f"tap,name={name}") as guest:
            said = claims(guest.wait_for(b"script exit status: 0", BOOT))
            assert guest.end() == 0
        server.shutdown()
        server.server_close()
        assert said["download"].split()[0] == hashlib.sha256(contents()).hexdigest(), said
    finally:
        run("ip", "link", "del", name)


if __name__ == "__main__" and "--serve" in sys.argv:
    with http.server.ThreadingHTTPServer((FAR, 8000), Files) as httpd:
        print("serving", flush=True)
        httpd.serve_forever()

tap([function for name, function in list(globals().items()) if name.startswith("test_")])
