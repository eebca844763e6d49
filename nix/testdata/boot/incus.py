"""incus.py SOCKET LOG serves the guest socket of Incus: it logs each change of the state,
and answers 200."""

import http.server
import os
import socketserver
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(b'{"api_version": "1.0", "state": "Started"}')

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        with open(sys.argv[2], "a") as log:
            log.write(f"{self.command} {self.path} {body.decode()}\n")
        self.answer(b"")

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "guest"


os.umask(0)  # for a guest that does not run as root
socketserver.UnixStreamServer(sys.argv[1], Handler).serve_forever()
