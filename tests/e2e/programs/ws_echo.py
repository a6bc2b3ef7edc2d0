"""A WebSocket server that sends every message back: ws_echo.py PORT."""
import sys

from websockets.sync.server import serve


def echo(peer):
    for message in peer:
        peer.send(message)


with serve(echo, "127.0.0.1", int(sys.argv[1]), compression=None, ping_interval=None) as server:
    server.serve_forever()
