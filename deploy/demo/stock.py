"""The demo's second service: says how many of an item are there, as Redis knows it, or, without
Redis, by itself. Knows nothing of Olly.

    stock.py PORT [REDIS_PORT]
"""
import http.server
import json
import socket
import sys
import threading
import time

import tls

STOCK = {"apple": 12, "pear": 0, "plum": 7}


class Redis:
    """One connection, one command at a time."""

    def __init__(self, port):
        self.port = port
        self.file = None
        self.lock = threading.Lock()

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), 5)
        if tls.for_client():
            connection = tls.for_client().wrap_socket(connection, server_hostname="127.0.0.1")
        self.file = connection.makefile("rwb")

    def get(self, key):
        with self.lock:
            if not self.file:
                self.connect()
            self.file.write(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key.encode()))
            self.file.flush()
            length = int(self.file.readline()[1:])
            return self.file.read(length + 2)[:-2] if length >= 0 else None


redis = Redis(int(sys.argv[2])) if len(sys.argv) > 2 else None


def left(item):
    if redis:
        value = redis.get("stock:" + item)
        return None if value is None else int(value)
    time.sleep(0.004)
    return STOCK.get(item)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        item = self.path.removeprefix("/stock/")
        number = left(item)
        if number is None:
            self.reply(404, {"error": "no such item"})
        else:
            self.reply(200, {"item": item, "left": number})

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


tls.protect(http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)).serve_forever()
