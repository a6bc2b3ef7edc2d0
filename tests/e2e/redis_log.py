"""A Redis server for a test, redis-py clients that keep a log of what they send and how it is answered, and
what the spans must say according to that log. Nothing here is taken from the agent's own tables."""
import collections
import dataclasses

import redis
from redis.exceptions import ResponseError

import harness

# Commands that the tests use: which arguments are keys. The rest is masked.
ALL = slice(1, None)
KEYS = {
    "SET": slice(1, 2), "GET": slice(1, 2), "GETDEL": slice(1, 2), "INCR": slice(1, 2), "INCRBY": slice(1, 2),
    "APPEND": slice(1, 2), "EXPIRE": slice(1, 2), "TTL": slice(1, 2), "STRLEN": slice(1, 2), "TYPE": slice(1, 2),
    "DEL": ALL, "EXISTS": ALL, "MGET": ALL, "MSET": slice(1, None, 2), "WATCH": ALL, "UNLINK": ALL,
    "HSET": slice(1, 2), "HGET": slice(1, 2), "HGETALL": slice(1, 2), "LPUSH": slice(1, 2), "RPUSH": slice(1, 2),
    "LRANGE": slice(1, 2), "LLEN": slice(1, 2), "SADD": slice(1, 2), "SMEMBERS": slice(1, 2),
    "ZADD": slice(1, 2), "ZRANGE": slice(1, 2), "XADD": slice(1, 2), "XLEN": slice(1, 2),
    "RENAME": slice(1, 3), "BLPOP": slice(1, -1), "SORT": slice(1, 2), "SETEX": slice(1, 2),
    "BITCOUNT": slice(1, 2), "PFADD": slice(1, 2), "GEOADD": slice(1, 2),
}
CONTAINERS = {"CLIENT", "CONFIG", "ACL", "SCRIPT", "OBJECT"}


def quoted(key):
    if key and all(c > " " and c not in "\"'\\\x7f" for c in key):
        return key
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
    return '"' + "".join(
        named.get(c) or (f"\\x{ord(c):02x}" if c < " " or c == "\x7f" else c) for c in key) + '"'


def words_of(args):
    """The arguments as text: redis-py takes "CLIENT SETINFO" as one, bytes, numbers."""
    first, *rest = args
    first = first.decode() if isinstance(first, bytes) else str(first)
    words = first.split(" ")
    for arg in rest:
        words.append(arg.decode("utf-8", "replace") if isinstance(arg, (bytes, bytearray)) else str(arg))
    return words


def text_of(words):
    name = words[0].upper()
    out = ["?"] * len(words)
    out[0] = words[0]
    if name in CONTAINERS:
        out[1] = words[1]
    if name == "OBJECT":
        out[2] = words[2]
    if name in KEYS:
        keys = range(len(words))[KEYS[name]]
        for i in keys:
            if len(words[i].encode()) <= 512:
                out[i] = quoted(words[i])
    return " ".join(out)


@dataclasses.dataclass
class Sent:
    words: list
    db: int = None
    error: str = None

    def fields(self):
        return (self.words[0], text_of(self.words), None if self.db is None else str(self.db), self.error)


def fields_of(span):
    return (span["db.operation.name"], span["db.query.text"], span["db.namespace"],
            span["db.response.status_code"])


def error_of(error):
    """redis-py takes "ERR " off, and knows some codes as types of exceptions."""
    word = str(error).split(" ")[0]
    if type(error).__name__ == "NoScriptError":
        return "NOSCRIPT"
    return word if word.isupper() and word.isalpha() else "ERR"


class Log(list):
    """All connections' commands. pool(...) makes clients whose every command is noted."""

    def client(self, port, **options):
        log = self

        class Connection(redis.Connection):
            def __init__(self, *args, **kwargs):
                self.waiting = collections.deque()
                self.selected = 0
                super().__init__(*args, **kwargs)

            def note(self, args):
                sent = Sent(words_of(args))
                log.append(sent)
                self.waiting.append(sent)

            def send_command(self, *args, **kwargs):
                self.note(args)
                return super().send_command(*args, **kwargs)

            def pack_command(self, *args):
                self.note(args)
                return super().pack_command(*args)

            def pack_commands(self, commands):
                commands = list(commands)
                for args in commands:
                    self.note(args)
                return super().pack_commands(commands)

            def answered(self, error):
                sent = self.waiting.popleft()
                sent.db, sent.error = self.selected, error and error_of(error)
                if sent.words[0].upper() == "SELECT" and not error:
                    self.selected = int(sent.words[1])

            def read_response(self, *args, **kwargs):
                try:
                    reply = super().read_response(*args, **kwargs)
                except ResponseError as error:
                    self.answered(error)
                    raise
                self.answered(reply if isinstance(reply, ResponseError) else None)
                return reply

        pool = redis.ConnectionPool(connection_class=Connection, host="127.0.0.1", port=port, **options)
        return redis.Redis(connection_pool=pool)


def server(processes, tmp_path, *options):
    """(process, port) of a redis-server of the test's own."""
    port = harness.free_port()
    home = tmp_path / f"redis-{port}"
    home.mkdir()
    process = processes.start(
        [harness.need("redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
         "--dir", home, *options], port)
    return process, port


def is_redis(span):
    return span["db.system.name"] == "redis"


def assert_spans(olly, log, port, sides=("client", "server"), seconds=20):
    """The spans are the log, one for one and field for field; each SERVER is its CLIENT's child."""
    want = collections.Counter(sent.fields() for sent in log)
    # A check of the test's start connected and closed without a word: no span.
    spans = olly.wait_spans(len(log) * len(sides), is_redis, seconds)
    by_id = {s.id: s for s in spans}
    assert len(by_id) == len(spans), "span ids must be unique"
    for side in sides:
        got = collections.Counter(fields_of(s) for s in spans if s.kind == side)
        assert got == want, f"{side}: missing {dict(want - got)}, too many {dict(got - want)}"
    for span in spans:
        assert span.kind in sides
        assert span.name == span["db.operation.name"] or span["db.response.status_code"], span
        assert span["server.address"] == "127.0.0.1" and span["server.port"] == port
        assert span["network.peer.address"] == "127.0.0.1"
        assert (span["client.address"] == "127.0.0.1") == (span.kind == "server")
        assert span["error.type"] == span["db.response.status_code"]
        assert (span.status == 2) == (span["error.type"] is not None)
        assert span["olly.incomplete"] is None
        assert span.start <= span.end
        if span.kind == "server" and "client" in sides:
            parent = by_id[span.parent]
            assert parent.kind == "client" and fields_of(parent) == fields_of(span)
            assert parent.trace == span.trace
    olly.assert_nothing_lost()
    return spans
