#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""ftp_server.py FILE: give FILE, whatever its path, to anybody by FTP (RFC 959, 2428, 3659), on the listening socket
that is descriptor 3."""

import socket
import socketserver
import sys


class Session(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def send(self, listener, data):
        connection, _ = listener.accept()
        self.say("150 here it comes")
        try:
            with connection:
                connection.sendall(data)
        except OSError:
            return self.say("426 you went away")
        return self.say("226 done")

    def handle(self):
        with open(sys.argv[1], "rb") as f:
            data = f.read()
        listener, rest = None, 0
        self.say("220 hello")
        while line := self.rfile.readline():
            word, _, argument = line.decode().strip().partition(" ")
            match word.upper():
                case "USER": self.say("331 and?")
                case "PASS": self.say("230 in")
                case "PWD": self.say('257 "/"')
                case "CWD" | "TYPE": self.say("200 yes")
                case "SIZE" if "missing" in argument: self.say("550 no such file")
                case "SIZE": self.say(f"213 {len(data)}")
                case "REST":
                    rest = int(argument)
                    self.say("350 from there")
                case "EPSV":
                    listener = socket.create_server(("127.0.0.1", 0))
                    self.say(f"229 at (|||{listener.getsockname()[1]}|)")
                case "RETR" if "missing" in argument: self.say("550 no such file")
                case "RETR":
                    self.send(listener, data[rest:])
                    listener.close()
                    rest = 0
                case "QUIT": return self.say("221 bye")
                case _: self.say("502 what?")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Session, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=3)

    def handle_error(self, request, client_address):
        pass


Server().serve_forever()
