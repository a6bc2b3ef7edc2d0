"""The demo's second service: says how many of an item are there. Knows nothing of Olly."""
import http.server
import json
import sys
import time

STOCK = {"apple": 12, "pear": 0, "plum": 7}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        item = self.path.removeprefix("/stock/")
        time.sleep(0.004)
        if item in STOCK:
            self.reply(200, {"item": item, "left": STOCK[item]})
        else:
            self.reply(404, {"error": "no such item"})

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
