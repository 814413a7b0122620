#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""web_server.py FILE MODE: serve FILE over HTTP on the listening socket that is descriptor 3.

MODE is what is wrong with the server: good, whole (knows no ranges), short (ends in the middle), changing (another
version at each request), wrong-range (another piece), silent (says nothing), ftp (redirects there), circle (redirects
to itself), huge (the answer to a piece never ends), missing (no such file); or password, which alice knows; or
tls, with cert.pem and key.pem beside FILE.
"""

import base64
import http.server
import pathlib
import socket
import ssl
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answered = 0

    def log_message(self, *args):
        pass

    def redirect(self, to):
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        with open(PATH, "rb") as f:
            data = f.read()
        Handler.answered += 1
        if MODE == "silent":
            threading.Event().wait()
        if MODE == "ftp":
            return self.redirect("ftp://127.0.0.1:1/")
        if MODE == "circle":
            return self.redirect(self.path)
        if MODE == "good" and self.path == "/moved":
            return self.redirect("/file")
        if MODE == "missing":
            return self.send_error(404)
        if MODE == "password" and self.headers.get("Authorization") != "Basic " + base64.b64encode(
                b"alice:open sesame").decode():
            return self.send_error(401)
        wanted = self.headers.get("Range")
        if MODE == "whole" or not wanted:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return self.wfile.write(data)
        first, last = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
        last = min(last, len(data) - 1)
        if MODE == "wrong-range" and first:
            first, last = first - 1, last - 1
        piece = data[first:last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("ETag", f'"{Handler.answered if MODE == "changing" else 1}"')
        if MODE == "huge" and first:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while True:
                self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        if MODE == "short" and first:
            self.wfile.write(piece[:len(piece) // 2])
            self.close_connection = True
            return None
        return self.wfile.write(piece)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=3)
        if MODE == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            folder = pathlib.Path(PATH).parent
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request, client_address):
        pass


PATH, MODE = sys.argv[1:]
Server().serve_forever()
