"""MySQL's packets, and a recording of a conversation made of them; for generate_mysql.py."""
import pathlib
import struct
import zlib

HERE = pathlib.Path(__file__).parent

MYSQL, DB, COMPRESS, P41, SSL, SECURE, PLUGIN = 1, 1 << 3, 1 << 5, 1 << 9, 1 << 11, 1 << 15, 1 << 19
LOCAL_FILES, MULTI, MULTI_RESULTS, TRACK, DEPRECATE = 1 << 7, 1 << 16, 1 << 17, 1 << 23, 1 << 24
LENENC_AUTH, ATTRIBUTES = 1 << 21, 1 << 27
PROGRESS, BULK, CACHE = 1 << 32, 1 << 34, 1 << 36
BASE = P41 | SECURE | PLUGIN | DB | MULTI | MULTI_RESULTS | LOCAL_FILES
MORE, CURSOR, AUTOCOMMIT, NO_BACKSLASH, CHANGED = 0x8, 0x40, 0x2, 0x200, 0x4000


def lenenc(n):
    if n < 0xfb:
        return bytes([n])
    return b"\xfc" + struct.pack("<H", n) if n < 65536 else b"\xfd" + struct.pack("<I", n)[:3]


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return lenenc(len(value)) + value


def packet(seq, payload, length=None):
    return struct.pack("<I", len(payload) if length is None else length)[:3] + bytes([seq]) + payload


def packets(seq, *payloads):
    return b"".join(packet((seq + i) & 255, p) for i, p in enumerate(payloads))


def greeting(version, caps, status=AUTOCOMMIT, plugin=b"mysql_native_password"):
    extended = struct.pack("<I", caps >> 32) if not caps & MYSQL else b"\0" * 4
    return packet(0, b"\x0a" + version.encode() + b"\0" + struct.pack("<I", 8) + b"saltsalt\0" +
                  struct.pack("<H", caps & 0xffff) + b"\x2d" + struct.pack("<H", status) +
                  struct.pack("<H", caps >> 16 & 0xffff) + b"\x15" + b"\0" * 6 + extended +
                  b"saltsaltsalt\0" + plugin + b"\0")


def login(caps, database="shop", seq=1, secret=b"SECRET-SECRET-SECRET"):
    extended = struct.pack("<I", caps >> 32) if not caps & MYSQL else b"\0" * 4
    answer = text(secret) if caps & LENENC_AUTH else bytes([len(secret)]) + secret
    return packet(seq, struct.pack("<II", caps & 0xffffffff, 1 << 24) + b"\x2d" + b"\0" * 19 + extended +
                  b"joe\0" + answer + (database.encode() + b"\0" if caps & DB else b"") +
                  b"mysql_native_password\0")


def ok(rows=0, status=AUTOCOMMIT, header=0, schema=None, info=""):
    out = bytes([header]) + lenenc(rows) + b"\0" + struct.pack("<HH", status, 0)
    if schema is not None:
        out = bytes([header]) + lenenc(rows) + b"\0" + struct.pack("<HH", status | CHANGED, 0)
        out += text(info) + text(b"\x01" + text(text(schema)))
    return out


def err(number, state="42S02", message="Table 'shop.SECRET' doesn't exist"):
    return b"\xff" + struct.pack("<H", number) + b"#" + state.encode() + message.encode()


def eof(status=AUTOCOMMIT):
    return b"\xfe\0\0" + struct.pack("<H", status)


def column(name="n"):
    return (text("def") + text("shop") + text("t") + text("t") + text(name) + text(name) +
            b"\x0c\x3f\0\x0b\0\0\0\x03\0\0\0\0\0")


def row(*values):
    return b"".join(b"\xfb" if v is None else text(v) for v in values)


def result(rows, deprecate, status=AUTOCOMMIT, columns=1, extra=b"", definitions=True):
    """The payloads of one result set."""
    out = [lenenc(columns) + extra]
    if definitions:
        out += [column(f"c{i}") for i in range(columns)]
    if not deprecate:
        out.append(eof(status & ~MORE))
    out += rows
    out.append(ok(0, status, 0xfe) if deprecate else eof(status))
    return out


def query(sql):
    return b"\x03" + sql.encode()


def prepare_ok(statement, columns, parameters, deprecate):
    out = [b"\0" + struct.pack("<IHH", statement, columns, parameters) + b"\0\0\0"]
    for count in (parameters, columns):
        out += [column("?")] * count
        if count and not deprecate:
            out.append(eof())
    return out


def execute(statement, cursor=0):
    return b"\x17" + struct.pack("<IBI", statement & 0xffffffff, cursor, 1) + b"\0\x01\x08\0" + b"\x07" + b"\0" * 7


def quote(data):
    out = ""
    for b in data:
        c = chr(b)
        out += "\\" + c if c in '"\\' else c if 32 <= b < 127 else f"\\x{b:02x}"
    return f'"{out}"'


class File:
    def __init__(self, name, comment):
        self.path = HERE / f"mysql_{name}.olly"
        self.lines = [f"# {line}" for line in comment.strip().split("\n")]
        self.lines.append("# Made by tests/replay/generate_mysql.py.")

    def add(self, *lines):
        self.lines += lines
        return self

    def app(self, more="", server="10.0.0.9:3306"):
        self.add("process app pid=100 exe=/usr/bin/app service=shop",
                 f"conn c1 app outbound 10.0.0.1:40000 {server}{more}")
        self.both = False
        return self

    def two(self):
        self.app()
        self.add("process db pid=200 exe=/usr/sbin/mariadbd service=db",
                 "conn s1 db inbound 10.0.0.9:3306 10.0.0.1:40000")
        self.both = True
        return self

    def say(self, client, data, delay="+1ms", more=""):
        """`data` goes from the client to the server, or back."""
        if self.both:
            first, second = (("c1", 7), ("s1", 8)) if client else (("s1", 8), ("c1", 7))
            self.add(f"{first[0]} send {delay} tid={first[1]} {quote(data)}",
                     f"{second[0]} recv +100us tid={second[1]} {quote(data)}")
        else:
            self.add(f"c1 {'send' if client else 'recv'} {delay} tid=7{more} {quote(data)}")
        return self

    def ask(self, *commands, seq=0):
        return self.say(True, b"".join(packet(seq, c) for c in commands))

    def answer(self, *payloads, seq=1, delay="+2ms"):
        return self.say(False, packets(seq, *payloads), delay)

    def open(self, version, caps, client=None, database="shop"):
        client = caps if client is None else client
        self.say(False, greeting(version, caps))
        self.say(True, login(client, database))
        return self.say(False, packet(2, ok()))

    def close(self):
        self.add("c1 close")
        if self.both:
            self.add("s1 close")
        return self

    def expect(self, *lines):
        self.add(*[f"expect {line}" for line in lines])
        return self

    def write(self):
        self.path.write_text("\n".join(self.lines) + "\n")


MARIA = "10.11.6-MariaDB"
MARIA_CAPS = BASE | TRACK | DEPRECATE | PROGRESS | BULK | CACHE
OLD = BASE | MYSQL  # neither CLIENT_DEPRECATE_EOF nor session tracking
