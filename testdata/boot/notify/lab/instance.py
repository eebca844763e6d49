# Serves the guest socket of Incus, and prints each change of the state.
import http.server
import os
import socketserver


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"api_version": "1.0", "state": "Started"}')

    def do_PATCH(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        print(self.command, self.path, body, flush=True)
        self.send_response(200)
        self.end_headers()

    def address_string(self):
        return "guest"

    def log_message(self, *_):
        pass


os.makedirs("/dev/incus", exist_ok=True)
with socketserver.UnixStreamServer("/dev/incus/sock", Handler) as server:
    server.serve_forever()
