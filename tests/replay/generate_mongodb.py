#!/usr/bin/env python3
"""Writes the messages of src/protocol/mongodb/testdata/ and the recordings tests/replay/mongodb_*.olly.

Needs pymongo (for its bson), cramjam and zstandard: what the parser reads was written by others' code.
"""
import pathlib
import random
import struct
import zlib

import bson
import cramjam
import zstandard
from bson import SON, Int64

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "src/protocol/mongodb/testdata"
REPLAY = ROOT / "tests/replay"
REPLY, UPDATE, INSERT, QUERY, GET_MORE, DELETE, KILL, COMPRESSED, MSG = (
    1, 2001, 2002, 2004, 2005, 2006, 2007, 2012, 2013)
CHECKSUM, MORE, EXHAUST = 1, 2, 1 << 16


def message(opcode, body, id, to=0):
    return struct.pack("<iiii", 16 + len(body), id, to, opcode) + body


def doc(*pairs, **more):
    return bson.encode(SON([*pairs, *more.items()]))


def sequence(name, *docs):
    inner = name.encode() + b"\0" + b"".join(docs)
    return b"\1" + struct.pack("<i", 4 + len(inner)) + inner


def msg_body(*sections, flags=0):
    body = struct.pack("<I", flags)
    for s in sections:
        body += s if s[:1] == b"\1" else b"\0" + s
    return body


def msg(*sections, id, to=0, flags=0):
    body = msg_body(*sections, flags=flags)
    if flags & CHECKSUM:
        body += b"\xde\xad\xbe\xef"  # not checked: CRC-32C of what precedes it
    return message(MSG, body, id, to)


def compress(original, how, id, to=0):
    opcode = struct.unpack_from("<i", original, 12)[0]
    body = original[16:]
    number, pack = {
        "noop": (0, bytes), "snappy": (1, lambda b: bytes(cramjam.snappy.compress_raw(b))),
        "zlib": (2, zlib.compress), "zstd": (3, zstandard.ZstdCompressor().compress)}[how]
    return message(COMPRESSED, struct.pack("<iiB", opcode, len(body), number) + pack(body), id, to)


def query(ns, document, id, flags=0):
    return message(QUERY, struct.pack("<i", flags) + ns.encode() + b"\0" + struct.pack("<ii", 0, -1)
                   + document, id)


def reply(*docs, id, to, flags=0, cursor=0):
    return message(REPLY, struct.pack("<iqii", flags, cursor, 0, len(docs)) + b"".join(docs), id, to)


def legacy(opcode, ns, rest, id):
    return message(opcode, struct.pack("<i", 0) + ns.encode() + b"\0" + rest, id)


OK = ("ok", 1.0)
FIND = msg(doc(("find", "items"), ("filter", {"password": "hunter2"}), ("$db", "shop")), id=7)
FOUND = msg(doc(("cursor", SON([("firstBatch", [{"a": 1}, {"a": 2}]), ("id", Int64(0)),
                                ("ns", "shop.items")])), OK), id=901, to=7)
REFUSED = msg(doc(("ok", 0.0), ("errmsg", "no such thing as hunter2"), ("code", 59),
                  ("codeName", "CommandNotFound")), id=902, to=7)
INSERT_MANY = msg(doc(("insert", "items"), ("ordered", True), ("$db", "shop")),
                  sequence("documents", doc(a=1), doc(a=2), doc(a=3)), id=8)
INSERT_INLINE = msg(doc(("insert", "items"), ("documents", [{"a": 1}, {"a": 2}]), ("$db", "shop")), id=9)
WRITE_ERROR = msg(doc(("n", 1), ("writeErrors", [SON([("index", 1), ("code", 11000), (
    "errmsg", "E11000 duplicate key { a: hunter2 }")])]), OK), id=903, to=8)
GET_MORE_MSG = msg(doc(("getMore", Int64(77)), ("collection", "items"), ("$db", "shop")), id=10)
HELLO = query("admin.$cmd", doc(("ismaster", 1), ("helloOk", True), (
    "speculativeAuthenticate", {"saslStart": 1, "payload": b"n,,n=root,r=hunter2"})), id=1)
HELLO_REPLY = reply(doc(("ismaster", True), ("maxWireVersion", 8), OK), id=900, to=1)
SASL = msg(doc(("saslStart", 1), ("payload", b"n,,n=root,r=hunter2"), ("$db", "admin")), id=2)
SASL_REPLY = msg(doc(("conversationId", 1), ("payload", b"hunter2"), OK), id=904, to=2)
CREATE_USER = msg(doc(("createUser", "hunter2"), ("pwd", "hunter2"), ("$db", "admin")), id=3)

ACCEPTED = {
    "request_find": FIND,
    "request_find_checksum": msg(doc(("find", "items"), ("$db", "shop")), id=7, flags=CHECKSUM),
    "request_insert_sequence": INSERT_MANY,
    "request_insert_sequence_first": msg(
        sequence("documents", doc(a=1), doc(a=2)), doc(("insert", "items"), ("$db", "shop")), id=8),
    "request_insert_inline": INSERT_INLINE,
    "request_insert_unacknowledged": msg(
        doc(("insert", "items"), ("$db", "shop")), sequence("documents", doc(a=1)), id=8, flags=MORE),
    "request_update": msg(doc(("update", "items"), ("$db", "shop")),
                          sequence("updates", doc(q={}, u={"$set": {"a": 1}}), doc(q={}, u={})), id=8),
    "request_delete": msg(doc(("delete", "items"), ("deletes", [{"q": {}, "limit": 1}] * 4),
                              ("$db", "shop")), id=8),
    "request_get_more": GET_MORE_MSG,
    "request_get_more_exhaust": msg(doc(("getMore", Int64(77)), ("collection", "items"),
                                        ("$db", "shop")), id=10, flags=EXHAUST),
    "request_aggregate_database": msg(doc(("aggregate", 1), ("pipeline", []), ("$db", "admin")), id=10),
    "request_explain": msg(doc(("explain", SON([("find", "items"), ("filter", {})])), ("$db", "shop")),
                           id=10),
    "request_bulk_write": msg(doc(("bulkWrite", 1), ("$db", "admin")),
                              sequence("ops", doc(insert=0), doc(insert=0)),
                              sequence("nsInfo", doc(ns="shop.items")), id=10),
    "request_all_types": msg(doc(
        ("find", "items"), ("a", 1.5), ("b", b"x"), ("c", bson.ObjectId(b"0" * 12)), ("d", None),
        ("e", bson.Regex("a", "i")), ("f", bson.Code("f()")), ("g", bson.Code("f()", {"a": 1})),
        ("h", bson.Timestamp(1, 2)), ("i", bson.Decimal128("1.5")), ("j", bson.MinKey()),
        ("k", bson.MaxKey()), ("l", [1, [2]]), ("m", {"n": {}}), ("o", bson.DatetimeMS(5)),
        ("p", bson.DBRef("q", 1)), ("$db", "shop")), id=10),
    "request_hello_query": HELLO,
    "request_sasl": SASL,
    "request_create_user": CREATE_USER,
    "request_legacy_find": query("shop.items", doc(a=1), id=4),
    "request_legacy_wrapped": query("shop.$cmd", doc(("$query", SON([("count", "items")])), (
        "$readPreference", {"mode": "secondary"})), id=4),
    "request_legacy_get_more": legacy(GET_MORE, "shop.items", struct.pack("<iq", 0, 77), id=4),
    "request_legacy_insert": legacy(INSERT, "shop.items", doc(a=1) + doc(a=2), id=4),
    "request_legacy_update": legacy(UPDATE, "shop.items", struct.pack("<i", 0) + doc(a=1) + doc(a=2), id=4),
    "request_legacy_delete": legacy(DELETE, "shop.items", struct.pack("<i", 0) + doc(a=1), id=4),
    "request_legacy_kill": message(KILL, struct.pack("<iiq", 0, 1, 77), id=4),
    "reply_found": FOUND,
    "reply_refused": REFUSED,
    "reply_write_error": WRITE_ERROR,
    "reply_write_concern": msg(doc(("n", 1), ("writeConcernError", {"code": 64, "errmsg": "x"}), OK),
                               id=5, to=8),
    "reply_more_to_come": msg(doc(("cursor", SON([("nextBatch", [{"a": 1}]), ("id", Int64(77))])), OK),
                              id=5, to=8, flags=MORE),
    "reply_hello": HELLO_REPLY,
    "reply_legacy_failed": reply(doc(("$err", "x"), ("code", 17)), id=5, to=4, flags=2),
    "reply_legacy_no_cursor": reply(id=5, to=4, flags=1),
    "reply_legacy_empty": reply(id=5, to=4),
}
for name, of in (("request_find", FIND), ("reply_found", FOUND), ("request_insert", INSERT_MANY)):
    for how in ("noop", "snappy", "zlib", "zstd"):
        ACCEPTED[f"{name}_{how}"] = compress(of, how, *struct.unpack_from("<ii", of, 4))



def patched(original, at, value):
    out = bytearray(original)
    out[at:at + len(value)] = value
    return bytes(out)


REJECTED = {
    "length_15": patched(FIND, 0, struct.pack("<i", 15)),
    "length_huge": patched(FIND, 0, struct.pack("<i", 0x7fffffff)),
    "length_negative": patched(FIND, 0, struct.pack("<i", -1)),
    "opcode_unknown": patched(FIND, 12, struct.pack("<i", 2010)),
    "flag_unknown": patched(FIND, 16, struct.pack("<i", 4)),
    "section_kind_3": patched(FIND, 20, b"\3"),
    "document_4": patched(FIND, 21, struct.pack("<i", 4)),
    "document_longer_than_message": patched(FIND, 21, struct.pack("<i", len(FIND))),
    "document_negative": patched(FIND, 21, struct.pack("<i", -5)),
    "type_unknown": patched(FIND, 25, b"\x20"),
    "string_negative": patched(FIND, 31, struct.pack("<i", -2)),
    "string_over_the_end": patched(FIND, 31, struct.pack("<i", 500)),
    "no_document": message(MSG, struct.pack("<I", 0) + sequence("documents", doc(a=1)), id=1),
    "two_documents": msg(doc(find="a"), doc(find="b"), id=1),
    "name_not_printable": patched(FIND, 26, b"\x01"),
    "empty_document": message(MSG, b"\0\0\0\0\0" + doc() + b"\0" * 4, id=1),
    "query_without_dot": query("admin", doc(a=1), id=1),
    "query_flags": query("admin.x", doc(a=1), id=1, flags=0x1000),
    "reply_count": message(REPLY, struct.pack("<iqii", 0, 0, 0, -1), id=1, to=2),
    "compressor_unknown": message(COMPRESSED, struct.pack("<iiB", MSG, 50, 9) + b"x" * 20, id=1),
    "compressed_twice": message(COMPRESSED, struct.pack("<iiB", COMPRESSED, 50, 2) + b"x" * 20, id=1),
}


def write_testdata():
    DATA.mkdir(exist_ok=True)
    for old in DATA.iterdir():
        old.unlink()
    for name, data in ACCEPTED.items():
        (DATA / f"y_{name}").write_bytes(data)
    for name, data in REJECTED.items():
        (DATA / f"n_{name}").write_bytes(data)


class Recording:
    def __init__(self, name, comment, role="inbound", peers="10.0.0.1:27017 10.0.0.9:51000", more=""):
        self.path = REPLAY / f"mongodb_{name}.olly"
        self.asks = "recv" if role == "inbound" else "send"
        self.answers = "send" if role == "inbound" else "recv"
        self.lines = [f"# {line}" for line in comment.strip().split("\n")]
        self.lines += ["# Made by generate_mongodb.py.",
                       "process p1 pid=100 exe=/usr/bin/app service=shop",
                       f"conn c1 p1 {role} {peers}{more}"]

    def ask(self, data, time="+1ms", more=""):
        self.lines.append(f"c1 {self.asks} {time} tid=7 {more}hex:{data.hex()}")
        return self

    def answer(self, data, time="+2ms", more=""):
        self.lines.append(f"c1 {self.answers} {time} tid=7 {more}hex:{data.hex()}")
        return self

    def say(self, *lines):
        self.lines += lines
        return self

    def end(self, *expectations):
        self.path.write_text("\n".join([*self.lines, "c1 close", *expectations]) + "\n")


ALL_PARSED = "expect bytes gap=0 unparsed=0 pending=0"


def write_recordings():
    (Recording("commands", "Commands of a client: a find, a refusal, inserts, a write error, getMore.",
               "outbound", "10.0.0.9:51000 10.0.0.1:27017")
     .ask(HELLO).answer(HELLO_REPLY).ask(SASL).answer(SASL_REPLY)
     .ask(FIND).answer(FOUND)
     .ask(patched(CREATE_USER, 4, struct.pack("<i", 70))).answer(patched(REFUSED, 8, struct.pack("<i", 70)))
     .ask(INSERT_MANY).answer(WRITE_ERROR)
     .ask(INSERT_INLINE).answer(msg(doc(("n", 2), OK), id=905, to=9))
     .ask(GET_MORE_MSG).answer(msg(doc(("cursor", SON([("nextBatch", []), ("id", Int64(0))])), OK),
                                   id=906, to=10))
     .end('expect span name="find items" kind=client db.system.name=mongodb db.operation.name=find '
          "db.collection.name=items db.namespace=shop server.address=10.0.0.1 server.port=27017 "
          "db.response.returned_rows=2 duration=2ms status=unset !db.query.text !olly.incomplete",
          'expect span name="createUser admin" status=error db.response.status_code=59 error.type=59 '
          "!db.collection.name",
          'expect span name="insert items" db.operation.batch.size=3 status=error error.type=11000',
          'expect span name="insert items" db.operation.batch.size=2 status=unset !error.type',
          'expect span name="getMore items" db.response.returned_rows=0 db.namespace=shop',
          "expect spans 5", ALL_PARSED))

    (Recording("out_of_order", "Two questions at once, answered in the other order: the ids pair them.")
     .ask(patched(FIND, 4, struct.pack("<i", 20)) + patched(GET_MORE_MSG, 4, struct.pack("<i", 21)))
     .answer(patched(REFUSED, 8, struct.pack("<i", 21))).answer(patched(FOUND, 8, struct.pack("<i", 20)))
     .end('expect span name="find items" kind=server status=unset duration=4ms client.address=10.0.0.9',
          'expect span name="getMore items" kind=server status=error error.type=59 duration=2ms',
          "expect spans 2", ALL_PARSED))

    def batch(cursor, id, to, flags):
        return msg(doc(("cursor", SON([("nextBatch", [{"a": 1}, {"a": 2}]), ("id", Int64(cursor))])), OK),
                   id=id, to=to, flags=flags)

    (Recording("exhaust", "A stream of replies to one question: each answers the one before it.", "outbound",
               "10.0.0.9:51000 10.0.0.1:27017")
     .ask(ACCEPTED["request_get_more_exhaust"])
     .answer(batch(77, 500, 10, MORE)).answer(batch(77, 501, 500, MORE)).answer(batch(0, 502, 501, 0))
     .ask(FIND).answer(FOUND)
     .end('expect span name="getMore items" duration=6ms db.response.returned_rows=6 status=unset',
          'expect span name="find items" duration=2ms', "expect spans 2", ALL_PARSED))

    (Recording("unacknowledged", "Writes that nobody answers end with their last byte.")
     .ask(ACCEPTED["request_insert_unacknowledged"], time="+1ms")
     .ask(ACCEPTED["request_legacy_insert"]).ask(FIND).answer(FOUND)
     .end('expect span name="insert items" duration=0ms status=unset !db.operation.batch.size !olly.incomplete',
          'expect span name="insert items" duration=0ms db.operation.batch.size=2 db.namespace=shop',
          'expect span name="find items" duration=2ms', "expect spans 3", ALL_PARSED))

    (Recording("legacy", "Operations of before MongoDB 5.1: documents of a query are data, not a verdict.")
     .ask(ACCEPTED["request_legacy_find"]).answer(reply(doc(ok=0, code=5), id=600, to=4, cursor=77))
     .ask(patched(ACCEPTED["request_legacy_get_more"], 4, struct.pack("<i", 5)))
     .answer(reply(id=601, to=5, flags=1))
     .ask(patched(ACCEPTED["request_legacy_wrapped"], 4, struct.pack("<i", 6)))
     .answer(reply(doc(("n", 3), OK), id=602, to=6))
     .ask(query("shop.items", doc(a=1), id=11)).answer(reply(doc(("$err", "x"), ("code", 17)), id=603, to=11,
                                                             flags=2))
     .end('expect span name="find items" status=unset db.response.returned_rows=1 db.namespace=shop',
          'expect span name="getMore items" status=error error.type=43',
          'expect span name="count items" status=unset db.namespace=shop',
          'expect span name="find items" status=error error.type=17', "expect spans 4", ALL_PARSED))

    made = Recording("compressed", "OP_COMPRESSED with each compressor, both ways.")
    expect = []
    for n, how in enumerate(("noop", "snappy", "zlib", "zstd")):
        made.ask(compress(FIND, how, 30 + n)).answer(compress(FOUND, how, 700 + n, 30 + n))
        expect.append('expect span name="find items" db.namespace=shop db.response.returned_rows=2 '
                      "duration=2ms !olly.incomplete")
    made.ask(compress(INSERT_MANY, "snappy", 40)).answer(compress(WRITE_ERROR, "zstd", 710, 40))
    made.end(*expect, 'expect span name="insert items" db.operation.batch.size=3 error.type=11000',
             "expect spans 5", ALL_PARSED)

    # A zstd message that is not readable in what was captured: its first block is long.
    noise = bytes(random.Random(5).choices(range(64), k=20000))
    big = msg(doc(("insert", "items"), ("documents", [{"a": noise}]), ("$db", "shop")), id=50)
    packed = compress(big, "zstd", 50)
    assert len(packed) > 5000
    (Recording("compressed_unreadable", "A compressed command that cannot be read says so.")
     .say(f"c1 recv +1ms tid=7 length={len(packed)} hex:{packed[:4096].hex()}")
     .answer(msg(doc(("n", 1), OK), id=720, to=50)).ask(FIND).answer(FOUND)
     .end("expect span name=mongodb db.system.name=mongodb !db.operation.name olly.incomplete=unreadable "
          "duration=2ms status=unset",
          'expect span name="find items" !olly.incomplete', "expect spans 2",
          "expect bytes gap=0 unparsed=0 pending=0"))

    # Long messages: all but the first 4 KiB is passed over exactly, seen or not.
    long_insert = msg(doc(("insert", "items"), ("$db", "shop")),
                      sequence("documents", *[doc(a="x" * 1000) for _ in range(9)]), id=60)
    long_found = msg(doc(("cursor", SON([("firstBatch", [{"a": "y" * 1000}] * 9), ("id", Int64(0))])), OK),
                     id=730, to=61)
    (Recording("long", "Messages longer than what is captured of a call; a reply in several calls.", "outbound",
               "10.0.0.9:51000 10.0.0.1:27017")
     .say(f"c1 send +1ms tid=7 length={len(long_insert)} hex:{long_insert[:4096].hex()}")
     .answer(msg(doc(("n", 9), OK), id=729, to=60))
     .ask(patched(FIND, 4, struct.pack("<i", 61)))
     .answer(long_found[:16]).answer(long_found[16:3000], "+1ms")
     .say(f"c1 recv +1ms tid=7 length={len(long_found) - 3000} hex:{long_found[3000:7000].hex()}")
     .ask(patched(FIND, 4, struct.pack("<i", 7))).answer(FOUND)
     .end('expect span name="insert items" db.operation.batch.size=9 duration=2ms !olly.incomplete',
          'expect span name="find items" duration=4ms status=unset !db.response.returned_rows',
          'expect span name="find items" duration=2ms', "expect spans 3", ALL_PARSED))

    (Recording("gap", "A reply was lost: its question says so, the next is paired again.")
     .ask(FIND).say("c1 gap send 300")
     .ask(patched(FIND, 4, struct.pack("<i", 80))).answer(patched(FOUND, 8, struct.pack("<i", 80)))
     .end('expect span name="find items" olly.incomplete="lost bytes" status=unset !error.type',
          'expect span name="find items" duration=2ms !olly.incomplete', "expect spans 2",
          "expect bytes gap=300 unparsed=0 pending=0"))

    (Recording("gap_inside", "Part of a long question was not captured: its length says where the next begins.")
     .say(f"c1 recv +1ms tid=7 length={len(long_insert)} hex:{long_insert[:1000].hex()}")
     .answer(msg(doc(("n", 9), OK), id=729, to=60))
     .ask(FIND).answer(FOUND)
     .end('expect span name="find items" duration=2ms !olly.incomplete', "expect spans 1",
          f"expect bytes gap={len(long_insert) - 1000} unparsed=1000 pending=0"))

    (Recording("joined", "Met in the middle of a reply; nothing is said before a question was seen.",
               more=" recv_pos=900 send_pos=5000 met")
     .answer(FOUND[30:]).ask(FIND[20:]).ask(FIND).answer(patched(FOUND, 8, struct.pack("<i", 6)))
     .answer(FOUND).ask(INSERT_MANY).answer(WRITE_ERROR)
     .end('expect span name="find items" duration=4ms !olly.incomplete',
          'expect span name="insert items" duration=2ms error.type=11000', "expect spans 2",
          "expect bytes gap=0 pending=0"))

    (Recording("no_answer", "The connection ends before the answer.", "outbound",
               "10.0.0.9:51000 10.0.0.1:27017")
     .ask(FIND).say("c1 recv +5ms tid=7 eof")
     .end('expect span name="find items" status=error error.type=connection_closed '
          'olly.incomplete="connection closed"', "expect spans 1"))

    r = Recording("unknown_role", "Nobody saw who connected: the first question tells.", role="unknown")
    r.asks, r.answers = "send", "recv"
    r.ask(HELLO).answer(HELLO_REPLY).ask(FIND).answer(FOUND)
    r.end('expect span name="find items" kind=client duration=2ms', "expect spans 1", ALL_PARSED)

    (Recording("not_mongodb", "What only begins like it is not it.")
     .ask(FIND[:20] + b"\x05" + FIND[21:]).answer(FOUND[:16] + b"x" * 200)
     .end("expect spans 0", "expect bytes parsed=0 gap=0 pending=0"))


write_testdata()
write_recordings()
