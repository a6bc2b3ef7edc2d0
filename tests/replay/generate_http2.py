#!/usr/bin/env python3
"""Writes http2_*.olly and grpc_*.olly beside itself: frames are not for typing by hand.

Its HPACK encoder indexes all it can and knows no Huffman; that is what hpack_test.cpp has RFC 7541's
own vectors for, and real clients and servers are in tests/e2e."""
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent

STATIC = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500")]
NAMES = {31: "content-type", 28: "content-length", 58: "user-agent", 23: "authorization"}

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIO = 1, 1, 4, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def integer(value, bits, first):
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    out = [first | limit]
    value -= limit
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


class Hpack:
    """The encoder of one direction."""

    def __init__(self):
        self.table = []  # newest first

    def name(self, name):
        for n, (known, _) in enumerate(STATIC, 1):
            if known == name:
                return n
        for n, known in NAMES.items():
            if known == name:
                return n
        for n, (known, _) in enumerate(self.table, 62):
            if known == name:
                return n
        return 0

    def block(self, *fields, never=()):
        out = b""
        for name, value in fields:
            if (name, value) in STATIC:
                out += integer(STATIC.index((name, value)) + 1, 7, 0x80)
                continue
            if (name, value) in self.table:
                out += integer(self.table.index((name, value)) + 62, 7, 0x80)
                continue
            at = self.name(name)
            out += integer(at, 4, 0x10) if name in never else integer(at, 6, 0x40)
            if at == 0:
                out += integer(len(name), 7, 0) + name.encode()
            out += integer(len(value), 7, 0) + value.encode()
            if name not in never:
                self.table.insert(0, (name, value))
        return out


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        ">I", stream) + payload


def message(body, compressed=0):
    return struct.pack(">BI", compressed, len(body)) + body


def settings(**values):
    ids = {"table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5}
    return frame(SETTINGS, payload=b"".join(
        struct.pack(">HI", ids[k], v) for k, v in values.items()))


def get(path, *more, host="shop.test", method="GET"):
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", host), *more]


def call(method, *more, host="shop.test:50051"):
    return [*get(method, ("content-type", "application/grpc"), ("te", "trailers"), *more,
                 host=host, method="POST")]


class File:
    def __init__(self, name, comment, role="inbound", **conn):
        self.name, self.lines = name, [f"# {comment}", "# Written by generate_http2.py."]
        self.client, self.server = Hpack(), Hpack()
        self.request, self.response = ("recv", "send") if role != "outbound" else ("send", "recv")
        ends = ("10.0.0.1:8080 10.0.0.9:51000" if role != "outbound"
                else "10.0.0.1:40000 10.0.0.7:50051")
        more = "".join(f" {k}={v}" if v is not True else f" {k}" for k, v in conn.items())
        self.line("process p1 pid=100 exe=/usr/bin/app service=shop")
        self.line(f"conn c1 p1 {role} {ends}{more}")

    def line(self, text):
        self.lines.append(text)

    def io(self, direction, *frames, at="+1ms", tid=7, conn="c1"):
        self.line(f"{conn} {direction} {at} tid={tid} hex:{b''.join(frames).hex()}")

    def req(self, *frames, **more):
        self.io(self.request, *frames, **more)

    def res(self, *frames, **more):
        self.io(self.response, *frames, **more)

    def start(self):
        self.req(PREFACE, settings(streams=100, window=65535))
        self.res(settings(frame=16384), frame(SETTINGS, ACK))
        self.req(frame(SETTINGS, ACK), frame(WINDOW, payload=struct.pack(">I", 1 << 20)))

    def end(self, *expectations, close=True):
        if close:
            self.line("c1 close +1ms")
        for e in expectations:
            self.line("expect " + e)
        (HERE / f"{self.name}.olly").write_text("\n".join(self.lines) + "\n")


def http2_simple():
    f = File("http2_simple", "Prior knowledge: GET with a body in two frames, POST, HEAD.")
    f.start()
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 1, f.client.block(
        *get("/a?x=1", ("user-agent", "test/1"), ("authorization", "secret"),
             ("forwarded", "for=192.0.2.7")), never=("authorization",))))
    f.res(frame(HEADERS, END_HEADERS, 1, f.server.block((":status", "200"), ("content-length", "7"))),
          frame(DATA, 0, 1, b"hel"), at="+3ms")
    f.res(frame(DATA, END_STREAM, 1, b"lo!!"), at="+2ms")
    f.req(frame(HEADERS, END_HEADERS, 3, f.client.block(
        *get("/b", ("user-agent", "test/1"), method="POST"))), frame(DATA, END_STREAM, 3, b"12345"))
    f.res(frame(HEADERS, END_HEADERS, 3, f.server.block((":status", "503"))),
          frame(DATA, 0, 3, b"no"), frame(DATA, END_STREAM, 3))
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 5, f.client.block(*get("/a?x=1", method="HEAD"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 5, f.server.block((":status", "204"))))
    f.end(
        "spans 3",
        "span name=GET kind=server url.path=/a url.query=x=1 url.scheme=http server.address=shop.test "
        "server.port=80 client.address=192.0.2.7 network.peer.address=10.0.0.9 "
        "network.protocol.version=2 user_agent.original=test/1 http.response.status_code=200 "
        "http.response.body.size=7 !http.request.body.size duration=5ms status=unset !error.type "
        "!olly.incomplete",
        "span name=POST url.path=/b http.request.body.size=5 http.response.status_code=503 "
        "http.response.body.size=2 status=error error.type=503 duration=1ms",
        "span name=HEAD http.response.status_code=204 http.response.body.size=0",
        "bytes pending=0 gap=0 unparsed=0")


def http2_interleaved():
    f = File("http2_interleaved", "Three streams at once, answered in another order; a late request body.",
             "outbound")
    f.start()
    f.req(frame(HEADERS, END_HEADERS, 1, f.client.block(*get("/1", method="POST"))))
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 3, f.client.block(*get("/3"))),
          frame(HEADERS, END_HEADERS | END_STREAM, 5, f.client.block(*get("/5"))))
    f.res(frame(HEADERS, END_HEADERS, 5, f.server.block((":status", "200"))), frame(DATA, 0, 5, b"5"))
    f.req(frame(DATA, 0, 1, b"one"))
    f.res(frame(HEADERS, END_HEADERS, 3, f.server.block((":status", "200"))),
          frame(DATA, END_STREAM, 3, b"33"), frame(DATA, END_STREAM, 5, b"5"))
    f.req(frame(DATA, END_STREAM, 1, b"more"))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 1, f.server.block((":status", "404"))))
    f.end(
        "spans 3",
        "span kind=client url.full=http://shop.test/1 http.request.body.size=7 "
        "http.response.status_code=404 error.type=404 duration=6ms !olly.time.cpu",
        "span url.full=http://shop.test/3 http.response.body.size=2 duration=3ms",
        "span url.full=http://shop.test/5 http.response.body.size=2 duration=3ms",
        "bytes pending=0 gap=0 unparsed=0")


def http2_blocks():
    f = File("http2_blocks", "CONTINUATION, padding, priority, 1xx, trailers, a PUSH_PROMISE that fills "
             "the table, size updates, a field section after all that.")
    f.start()
    block = f.client.block(*get("/long", ("x-one", "1" * 40), ("x-two", "2" * 40)))
    f.req(frame(HEADERS, END_STREAM | PADDED | PRIO, 1, b"\x03" + b"\0\0\0\0\x10" + block[:20] + b"\0\0\0"),
          frame(CONTINUATION, 0, 1, block[20:50]), frame(CONTINUATION, 0, 1),
          frame(CONTINUATION, END_HEADERS, 1, block[50:]))
    f.res(frame(HEADERS, END_HEADERS, 1, f.server.block((":status", "103"), ("link", "</x>"))))
    f.res(frame(PUSH, END_HEADERS, 1, struct.pack(">I", 2) + f.server.block(
        *get("/pushed", ("x-pushed", "yes")))),
          frame(HEADERS, END_HEADERS, 1, f.server.block((":status", "200"), ("x-pushed", "yes"))),
          frame(DATA, PADDED, 1, b"\x05abc" + b"\0" * 5),
          frame(HEADERS, END_HEADERS | END_STREAM, 2, f.server.block((":status", "200"))),
          frame(PRIORITY, 0, 1, b"\0\0\0\0\x01"), frame(0x42, 0, 0, b"an extension"),
          frame(PING, 0, 0, b"12345678"),
          frame(HEADERS, END_HEADERS | END_STREAM, 1, f.server.block(("x-trailer", "t"))))
    # Size updates: empty the table, then 4096 again (RFC 7541 4.2).
    f.client.table.clear()
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 3, integer(0, 5, 0x20) + integer(4096, 5, 0x20)
                + f.client.block(*get("/after"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 3, f.server.block((":status", "304"))))
    f.end(
        "spans 2",
        "span name=GET url.path=/long http.response.status_code=200 http.response.body.size=3 "
        "duration=2ms",
        "span url.path=/after http.response.status_code=304",
        "bytes pending=0 gap=0 unparsed=0")


def http2_ends():
    f = File("http2_ends", "RST_STREAM from either side, GOAWAY, and a connection that closes under one.",
             "outbound")
    f.start()
    for n in range(1, 12, 2):
        f.req(frame(HEADERS, END_HEADERS | END_STREAM, n, f.client.block(*get(f"/{n}"))))
    f.res(frame(RST, 0, 1, struct.pack(">I", 11)))
    f.req(frame(RST, 0, 3, struct.pack(">I", 8)))
    f.res(frame(HEADERS, END_HEADERS, 5, f.server.block((":status", "200"))), frame(DATA, 0, 5, b"x"),
          frame(RST, 0, 5, struct.pack(">I", 2)))
    f.res(frame(GOAWAY, 0, 0, struct.pack(">II", 9, 0) + b"bye"))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 7, f.server.block((":status", "200"))))
    f.end(
        "spans 6",
        "span url.full=http://shop.test/1 status=error error.type=ENHANCE_YOUR_CALM "
        "!http.response.status_code !olly.incomplete duration=6ms",
        "span url.full=http://shop.test/3 status=error error.type=CANCEL duration=6ms",
        "span url.full=http://shop.test/5 status=error error.type=INTERNAL_ERROR "
        "http.response.status_code=200",
        "span url.full=http://shop.test/7 status=unset http.response.status_code=200",
        "span url.full=http://shop.test/9 status=error error.type=connection_closed "
        "olly.incomplete=\"connection closed\"",
        "span url.full=http://shop.test/11 status=error error.type=REFUSED_STREAM")


def http2_upgrade():
    f = File("http2_upgrade", "h2c by upgrade: the HTTP/1 request is stream 1, and one span.")
    f.line(r'c1 recv tid=7 "GET /up HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade, HTTP2-Settings\r\n'
           r'Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"')
    f.line(r'c1 send +1ms tid=7 "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n'
           r'Upgrade: h2c\r\n\r\n"')
    f.res(settings(frame=16384), at="+0ms")
    f.req(PREFACE, settings(streams=100))
    f.res(frame(HEADERS, END_HEADERS, 1, f.server.block((":status", "200"))),
          frame(DATA, END_STREAM, 1, b"hello"), at="+2ms")
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 3, f.client.block(*get("/next"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 3, f.server.block((":status", "404"))))
    f.end(
        "spans 2",
        "span name=GET kind=server url.path=/up http.response.status_code=200 "
        "http.response.body.size=5 network.protocol.version=2 duration=4ms !olly.incomplete",
        "span url.path=/next http.response.status_code=404 duration=1ms",
        "bytes pending=0 gap=0 unparsed=0")


def http2_joined():
    f = File("http2_joined", "Met in its middle: what lies in the unseen table is said to be unknown, "
             "what comes later is exact.", "unknown", recv_pos=5000, send_pos=9000, met=True)
    f.client.block(("x-unseen", "1"), (":path", "/unseen"), (":authority", "unseen"))
    f.server.block(("x-unseen", "1"), (":status", "201"))
    f.res(frame(DATA, 0, 7, b"of an older stream"), frame(DATA, END_STREAM, 7, b"!"))
    # Its answer proves that it is HTTP/2; it has no span itself.
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 5, f.client.block(
        (":method", "GET"), (":scheme", "http"), (":path", "/unseen"), (":authority", "unseen"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 5, f.server.block((":status", "201"))))
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 9, f.client.block(
        (":method", "GET"), (":scheme", "http"), (":path", "/unseen"), (":authority", "unseen"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 9, f.server.block((":status", "201"))))
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 11, f.client.block(*get("/seen", host="seen"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 11, f.server.block((":status", "404"))))
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 13, f.client.block(*get("/seen", host="seen"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 13, f.server.block((":status", "404"))))
    f.end(
        "spans 3",
        "span name=GET kind=server http.request.method=GET !url.path !http.response.status_code "
        "server.address=10.0.0.1 network.protocol.version=2 olly.incomplete=\"unknown header fields\"",
        "span name=GET kind=server url.path=/seen server.address=seen http.response.status_code=404 "
        "!olly.incomplete",
        "span url.path=/seen server.address=seen http.response.status_code=404 !olly.incomplete",
        "bytes pending=0 gap=0")


def http2_gap():
    f = File("http2_gap", "Bytes are lost: inside a body that is harmless; else the table is unknown from then "
             "on, and whoever was open says so.")
    f.start()
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 1, f.client.block(*get("/big"))))
    f.res(frame(HEADERS, END_HEADERS, 1, f.server.block((":status", "200"))),
          frame(DATA, END_STREAM, 1, b"x" * 9000)[:9])
    f.line("c1 gap send 9000")
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 3, f.client.block(*get("/open"))))
    f.line("c1 gap recv 40")
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 7, f.client.block(
        (":method", "GET"), (":scheme", "http"), (":path", "/big"), (":authority", "shop.test"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 3, f.server.block((":status", "200"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 7, f.server.block((":status", "200"))))
    f.end(
        "spans 3",
        "span url.path=/big http.response.body.size=9000 !olly.incomplete",
        "span url.path=/open http.response.status_code=200 !olly.incomplete",
        "span name=GET !url.path http.response.status_code=200 "
        "olly.incomplete=\"unknown header fields\"",
        "bytes pending=0 gap=40")


def http2_lost_frames():
    """A call of which only the beginning was captured: whole frames lie behind that."""
    f = File("http2_lost_frames", "Frame headers are lost behind the captured part of one call: the connection "
             "is read again from the next call on, a stream whose end came later has it, one whose end was lost "
             "ends 5 s after its last frame, as incomplete, while the connection goes on.")
    f.start()
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 1, f.client.block(*get("/cut"))),
          frame(HEADERS, END_HEADERS | END_STREAM, 3, f.client.block(*get("/goes-on"))))
    first = (frame(HEADERS, END_HEADERS, 1, f.server.block((":status", "200"))) +
             frame(HEADERS, END_HEADERS, 3, f.server.block((":status", "200"))) +
             frame(DATA, 0, 1, b"x" * 9000)[:109])
    # Lost: the rest of that frame, DATA of stream 3, DATA with END_STREAM of stream 1.
    length = len(first) + 8900 + 9009 + 5009
    f.line(f"c1 send +1ms tid=7 length={length} hex:{first.hex()}")
    f.res(frame(DATA, 0, 3, b"y" * 100))
    f.res(frame(DATA, END_STREAM, 3, b"z" * 100))
    f.line("wait +2s")
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 5, f.client.block(*get("/after"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 5, f.server.block((":status", "204"))))
    f.line("wait +4s")
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 7, f.client.block(*get("/last"))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 7, f.server.block((":status", "204"))))
    f.end(
        "spans 4",
        "span url.path=/cut http.response.status_code=200 olly.incomplete=\"lost bytes\" "
        "!http.response.body.size duration=1ms",
        "span url.path=/goes-on http.response.status_code=200 olly.incomplete=\"lost bytes\" duration=3ms",
        "span url.path=/after http.response.status_code=204 !olly.incomplete",
        "span url.path=/last http.response.status_code=204 !olly.incomplete",
        # What was lost: the two frames behind the one whose length was known.
        f"bytes send pending=0 gap={9009 + 5009}")


def grpc_calls():
    f = File("grpc_calls", "Unary, the three streamings, errors, trailers-only, messages across frames.",
             "outbound")
    f.start()
    block = lambda n, *more: frame(HEADERS, END_HEADERS, n, f.client.block(
        *call(f"/shop.v1.Stock/M{n}", *more)))
    head = lambda n: frame(HEADERS, END_HEADERS, n, f.server.block(
        (":status", "200"), ("content-type", "application/grpc")))
    trailers = lambda n, status: frame(HEADERS, END_HEADERS | END_STREAM, n, f.server.block(
        ("grpc-status", str(status)), ("grpc-message", "secret")))
    f.req(block(1, ("grpc-timeout", "1500m")), frame(DATA, END_STREAM, 1, message(b"ask")))
    f.res(head(1), frame(DATA, 0, 1, message(b"answer")), trailers(1, 0))
    f.req(block(3), frame(DATA, END_STREAM, 3, message(b"")))
    three = message(b"a" * 10) + message(b"") + message(b"c" * 300, 1)
    f.res(head(3), frame(DATA, 0, 3, three[:3]))
    f.res(frame(DATA, PADDED, 3, b"\x02" + three[3:20] + b"\0\0"), frame(DATA, 0, 3, three[20:]),
          trailers(3, 0))
    f.req(block(5), frame(DATA, 0, 5, message(b"1")))
    f.req(frame(DATA, 0, 5, message(b"2")), frame(DATA, END_STREAM, 5))
    f.res(head(5), frame(DATA, 0, 5, message(b"sum")), trailers(5, 5))
    f.req(block(7), frame(DATA, 0, 7, message(b"1")))
    f.res(head(7), frame(DATA, 0, 7, message(b"one")))
    f.req(frame(DATA, END_STREAM, 7, message(b"2")))
    f.res(frame(DATA, 0, 7, message(b"two")), trailers(7, 0))
    f.req(block(9), frame(DATA, END_STREAM, 9, message(b"x")))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 9, f.server.block(
        (":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12"))))
    f.req(block(11), frame(DATA, END_STREAM, 11, message(b"x")))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 11, f.server.block((":status", "503"))))
    counts = lambda a, b: f"olly.rpc.request.messages={a} olly.rpc.response.messages={b}"
    f.end(
        "spans 6",
        "span name=shop.v1.Stock/M1 kind=client rpc.system.name=grpc rpc.method=shop.v1.Stock/M1 "
        "rpc.response.status_code=OK server.address=shop.test server.port=50051 "
        f"network.peer.port=50051 olly.rpc.timeout=1.5 {counts(1, 1)} status=unset !error.type "
        "!http.request.method !network.protocol.version !olly.incomplete duration=1ms",
        f"span name=shop.v1.Stock/M3 {counts(1, 3)} rpc.response.status_code=OK duration=2ms",
        f"span name=shop.v1.Stock/M5 {counts(2, 1)} rpc.response.status_code=NOT_FOUND status=error "
        "error.type=NOT_FOUND status_message=\"\"",
        f"span name=shop.v1.Stock/M7 {counts(2, 2)} rpc.response.status_code=OK",
        f"span name=shop.v1.Stock/M9 {counts(1, 0)} rpc.response.status_code=UNIMPLEMENTED",
        f"span name=shop.v1.Stock/M11 {counts(1, 0)} rpc.response.status_code=UNAVAILABLE",
        "bytes pending=0 gap=0 unparsed=0")


def grpc_ends():
    f = File("grpc_ends", "A deadline that passed, a cancelled call, a refused one, a method nobody has.")
    f.start()
    block = lambda n, *more: frame(HEADERS, END_HEADERS, n, f.client.block(
        *call(f"/shop.v1.Stock/M{n}", *more)))
    f.req(block(1, ("grpc-timeout", "20m")), frame(DATA, END_STREAM, 1, message(b"ask")))
    f.req(frame(RST, 0, 1, struct.pack(">I", 8)), at="+20ms")
    f.req(block(3, ("grpc-timeout", "20m")), frame(DATA, END_STREAM, 3, message(b"ask")))
    f.req(frame(RST, 0, 3, struct.pack(">I", 8)), at="+5ms")
    f.req(block(5), frame(DATA, END_STREAM, 5, message(b"ask")))
    f.res(frame(RST, 0, 5, struct.pack(">I", 7)))
    f.req(block(7), frame(DATA, END_STREAM, 7, message(b"ask")))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 7, f.server.block(
        (":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12"))))
    # The server answers before the client has said all, and wants no more.
    f.req(block(9), frame(DATA, 0, 9, message(b"ask")))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 9, f.server.block(
        (":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "7"))),
          frame(RST, 0, 9, struct.pack(">I", 0)))
    f.req(block(11), frame(DATA, END_STREAM, 11, message(b"ask")))
    f.end(
        "spans 6",
        "span name=shop.v1.Stock/M1 kind=server rpc.response.status_code=DEADLINE_EXCEEDED status=error "
        "olly.rpc.timeout=0.02 olly.rpc.response.messages=0 duration=20ms",
        "span name=shop.v1.Stock/M3 rpc.response.status_code=CANCELLED error.type=CANCELLED",
        "span name=shop.v1.Stock/M5 rpc.response.status_code=UNAVAILABLE duration=1ms",
        "span name=grpc rpc.method=_OTHER rpc.method_original=shop.v1.Stock/M7 "
        "rpc.response.status_code=UNIMPLEMENTED",
        "span name=shop.v1.Stock/M9 rpc.response.status_code=PERMISSION_DENIED status=error "
        "olly.rpc.request.messages=1",
        "span name=shop.v1.Stock/M11 !rpc.response.status_code error.type=connection_closed "
        "olly.incomplete=\"connection closed\"")


def http2_both_ends(name, comment, concurrent):
    """A front (HTTP/2 server, thread 7) that calls a back by HTTP/2 on one connection."""
    f = File(name, comment)
    f.line("process p2 pid=200 exe=/usr/bin/stock service=stock")
    f.line("conn out p1 outbound 10.0.0.1:40000 10.0.0.7:80")
    f.line("conn in p2 inbound 10.0.0.7:80 10.0.0.1:40000")
    f.start()
    client, server = Hpack(), Hpack()

    def both(direction, *frames):
        a, b = ("out send", "in recv") if direction == "req" else ("in send", "out recv")
        for end, tid in ((a, 7 if a.startswith("out") else 9), (b, 7 if b.startswith("out") else 9)):
            f.line(f"{end} +1ms tid={tid} hex:{b''.join(frames).hex()}")

    both("req", PREFACE, settings(streams=100))
    both("res", settings(frame=16384))
    ask = lambda h, n, path: frame(HEADERS, END_HEADERS | END_STREAM, n, h.block(*get(path)))
    answer = lambda h, n: frame(HEADERS, END_HEADERS | END_STREAM, n, h.block((":status", "200")))
    streams = (1, 3) if concurrent else (1,)
    f.req(*[ask(f.client, n, f"/front/{n}") for n in streams])
    for n in streams:
        both("req", ask(client, n, f"/back/{n}"))
        both("res", answer(server, n))
    for n in streams:
        f.res(answer(f.server, n))
    f.line("out close +1ms")
    f.line("in close")
    expectations = [f"spans {3 * len(streams)}"]
    for n in streams:
        expectations.append(f"span kind=server service=shop url.path=/front/{n} parent=none as=s{n}")
        parent = "parent=none" if concurrent else f"parent=s{n} olly.link.method=thread"
        expectations.append(f"span kind=client url.full=http://shop.test/back/{n} {parent} as=c{n}")
        expectations.append(f"span kind=server service=stock url.path=/back/{n} parent=c{n} "
                            "olly.link.method=connection")
    if concurrent:
        expectations.append("metric olly_unlinked_total service=shop cause=event_loop 2")
    f.end(*expectations)


def http2_traceparent():
    f = File("http2_traceparent", "traceparent and tracestate of an HTTP/2 request.")
    f.start()
    f.req(frame(HEADERS, END_HEADERS | END_STREAM, 1, f.client.block(*get(
        "/t", ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "a=1"), ("tracestate", "b=2")))))
    f.res(frame(HEADERS, END_HEADERS | END_STREAM, 1, f.server.block((":status", "200"))))
    f.end("spans 1", "span trace_id=4bf92f3577b34da6a3ce929d0e0e4736 parent_id=00f067aa0ba902b7 "
          "tracestate=a=1,b=2 olly.link.method=traceparent")


for make in (http2_simple, http2_interleaved, http2_blocks, http2_ends, http2_upgrade, http2_joined,
             http2_gap, http2_lost_frames, http2_traceparent, grpc_calls, grpc_ends):
    make()
http2_both_ends("link_http2", "A thread that serves one stream at a time: its call is the request's.", False)
http2_both_ends("unlinked_http2_streams", "Two streams at once on one connection: the thread that reads and "
                "writes them says nothing of whose calls are whose. The two ends of each call still match.", True)
