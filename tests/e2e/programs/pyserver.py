"""A thread-per-request HTTP service of the standard library. The paths it serves are those of every
test server here (workload.py has the truth about them):

    GET|HEAD /ok/ID            200, "ok ID"
    GET      /size/N/ID        200, N bytes
    GET      /chunked/N/ID     200, N bytes in chunks
    GET      /status/CODE/ID   CODE
    POST     /echo/ID          200, the request's body
    GET      /chain/ID         200, after --calls calls of --call/leaf/ID/K, a connection each

    pyserver.py PORT [--call URL] [--calls N] [--background URL] [--delay SECONDS] [--tls CERT KEY]
"""
import argparse
import http.client
import http.server
import itertools
import os
import socketserver
import ssl
import threading
import time
import urllib.parse

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--bind", default="127.0.0.1")
parser.add_argument("--call")
parser.add_argument("--calls", type=int, default=2)
parser.add_argument("--background")
parser.add_argument("--delay", type=float, default=0.0)
parser.add_argument("--tls", nargs=2)
options = parser.parse_args()


def call(base, path):
    url = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def background():
    for n in itertools.count():
        try:
            call(options.background, f"/bg/py-{os.getpid()}-{n}")
        except OSError:
            pass
        time.sleep(0.005)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.reply(200, f"ok {self.path.split('/')[2]}".encode())

    def do_GET(self):
        parts = self.path.split("/")
        if options.delay:
            time.sleep(options.delay)
        if parts[1] == "size":
            self.reply(200, b"x" * int(parts[2]))
        elif parts[1] == "chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            left = int(parts[2])
            while left:
                n = min(left, 700)
                self.wfile.write(b"%x\r\n" % n + b"c" * n + b"\r\n")
                left -= n
            self.wfile.write(b"0\r\n\r\n")
        elif parts[1] == "status":
            self.reply(int(parts[2]), b"")
        elif parts[1] == "chain":
            ok = all([call(options.call, f"/leaf/{parts[2]}/{k}") == 200
                      for k in range(options.calls)])
            self.reply(200 if ok else 502, b"chain " + parts[2].encode())
        else:
            self.reply(200, b"ok " + parts[-1].encode())

    def do_POST(self):
        self.reply(200, self.rfile.read(int(self.headers["Content-Length"])))

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    request_queue_size = 1024
    daemon_threads = True


if options.background:
    threading.Thread(target=background, daemon=True).start()
server = Server((options.bind, options.port), Handler)
if options.tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*options.tls)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
