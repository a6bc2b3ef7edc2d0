"""The demo's first service: answers for a basket by asking `stock` for each item, one connection a
call. Knows nothing of Olly."""
import http.client
import http.server
import json
import sys

import tls

STOCK_PORT = int(sys.argv[2])


def ask_stock(item):
    if tls.for_client():
        connection = http.client.HTTPSConnection("127.0.0.1", STOCK_PORT, timeout=5, context=tls.for_client())
    else:
        connection = http.client.HTTPConnection("127.0.0.1", STOCK_PORT, timeout=5)
    try:
        connection.request("GET", "/stock/" + item)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer(self.path.removeprefix("/basket/").split("+"))

    def do_POST(self):
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, items):
        found = [ask_stock(item) for item in items]
        status = 200 if all(code == 200 for code, _ in found) else 502
        body = json.dumps([value for _, value in found]).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


tls.protect(http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)).serve_forever()
