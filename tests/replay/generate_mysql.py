#!/usr/bin/env python3
"""Writes tests/replay/mysql_*.olly: conversations put together packet by packet.

The packets are those of the protocol's documentation; what real servers and clients say is tested by
tests/e2e/test_mysql.py.
"""
import struct
import zlib

from mysql_packets import (
    ATTRIBUTES, AUTOCOMMIT, BASE, COMPRESS, CURSOR, DEPRECATE, LENENC_AUTH, MARIA, MARIA_CAPS, MORE,
    NO_BACKSLASH, OLD, SSL, column, eof, err, execute, File, greeting, login, ok, packet, packets,
    prepare_ok, query, quote, result, row, text)


def simple():
    f = File("simple", "Both ends: queries, an insert, an error. The login is no span, and its secret leaves nowhere.").two()
    f.open(MARIA, MARIA_CAPS)
    f.ask(query("SELECT id, name FROM songs WHERE id IN (1, 2) AND name = 'SECRET'"))
    f.answer(*result([row("1", "a"), row("2", None)], True, columns=2))
    f.ask(query("INSERT INTO songs VALUES (3, 'c'), (4, 'd')"))
    f.answer(ok(2, info="Records: 2"))
    f.ask(query("SELECT * FROM SECRETs"))
    f.answer(err(1146))
    f.ask(b"\x0e")
    f.answer(ok())
    f.ask(b"\x01").close()
    f.expect("spans 8")
    common = "db.system.name=mariadb db.namespace=shop server.address=10.0.0.9 server.port=3306 !olly.incomplete"
    first = ('name="SELECT songs" db.query.text="SELECT id, name FROM songs WHERE id IN (?) AND name = ?" '
             'db.query.summary="SELECT songs" db.response.returned_rows=2 !error.type')
    f.expect(
        f"span kind=client {first} {common} network.peer.address=10.0.0.9 network.peer.port=3306 as=c",
        f"span kind=server {first} {common} client.address=10.0.0.1 parent=c olly.link.method=connection",
        f'span kind=client name="INSERT songs" db.response.returned_rows=2 duration=2.2ms {common}',
        f'span kind=server name="INSERT songs" db.response.returned_rows=2 duration=2ms {common}',
        "span kind=client status=error error.type=1146 db.response.status_code=1146 !db.response.returned_rows",
        "span kind=server status=error error.type=1146 db.response.status_code=1146",
        f"span kind=client name=PING db.operation.name=PING !db.query.text !db.response.returned_rows {common}",
        f"span kind=server name=PING db.operation.name=PING {common}",
        "bytes unparsed=0 pending=0 gap=0")
    f.write()


def eof_form():
    f = File("eof", "MySQL without CLIENT_DEPRECATE_EOF, several statements in one query, the current database.").app()
    f.open("5.7.44-log", OLD)
    f.ask(query("SELECT 1; UPDATE t SET a = 5; SELECT b FROM t"))
    f.answer(*result([row("1")], False, MORE | AUTOCOMMIT), ok(7, MORE | AUTOCOMMIT),
             *result([row("x"), row(""), row("z")], False))
    f.ask(b"\x02other")
    f.answer(ok())
    f.ask(query("SELECT 2"))
    f.answer(*result([], False))
    f.ask(query("use `third one`;"))
    f.answer(ok())
    f.ask(query("CALL p()"))
    f.answer(*result([row("1")], False, MORE | AUTOCOMMIT), ok())
    f.ask(query("USE nowhere"))
    f.answer(err(1049, "42000"))
    f.ask(b"\x09")
    f.answer(b"Uptime: 5  Threads: 1")
    f.ask(b"\x04songs\0")
    f.answer(column("a"), column("b"), eof())
    f.ask(b"\x1b\0\0")
    f.answer(eof())
    f.ask(query("SELECT 3; USE x"))
    f.answer(*result([row("1")], False, MORE | AUTOCOMMIT), ok())
    f.ask(query("SELECT 4"))
    f.answer(*result([row("1")], False))
    f.close()
    f.expect(
        "spans 11",
        'span name="SELECT; UPDATE t; SELECT t" db.operation.batch.size=3 db.response.returned_rows=4 db.namespace=shop db.system.name=mysql',
        'span name="INIT_DB other" db.operation.name=INIT_DB db.namespace=other',
        "span name=SELECT db.namespace=other db.response.returned_rows=0",
        "span db.namespace=other db.response.returned_rows=0",
        'span db.query.text="CALL p()" db.namespace="third one" db.response.returned_rows=1',
        'span db.namespace="third one" error.type=1049',
        'span name=STATISTICS db.operation.name=STATISTICS db.namespace="third one" !error.type',
        "span name=FIELD_LIST !error.type !olly.incomplete",
        "span name=SET_OPTION !error.type",
        'span db.operation.batch.size=2 db.namespace="third one"',
        "span name=SELECT !db.namespace db.response.returned_rows=1",
        "bytes unparsed=0 pending=0")
    f.write()


def prepared():
    for name, deprecate in (("prepared", True), ("prepared_eof", False)):
        f = File(name, "Prepared statements: executed, reset, fetched by a cursor, closed; what has no answer is not waited for.").app()
        caps = MARIA_CAPS if deprecate else OLD
        f.open(MARIA if deprecate else "8.0.36", caps)
        f.ask(b"\x16SELECT name FROM songs WHERE id = ? AND x = 5")
        f.answer(*prepare_ok(1, 1, 2, deprecate))
        f.ask(execute(1))
        f.answer(*result([b"\0\0\x01a", b"\0\0\x01b"], deprecate))
        f.ask(b"\x18\1\0\0\0\0\0SECRET", b"\x18\1\0\0\0\1\0SECRET", execute(1))
        f.answer(*result([b"\0\0\x01a"], deprecate))
        f.ask(b"\x19\1\0\0\0", b"\x16INSERT INTO songs VALUES (?)")
        f.answer(*prepare_ok(2, 0, 1, deprecate))
        f.ask(execute(2))
        f.answer(ok(1))
        f.ask(b"\x1a\2\0\0\0")
        f.answer(ok())
        f.ask(b"\x16SELECT 1")
        f.answer(*prepare_ok(3, 1, 0, deprecate))
        f.ask(execute(3, cursor=1))
        if deprecate:
            f.answer(b"\x01\x01", column(), ok(0, CURSOR, 0xfe))
        else:
            f.answer(b"\x01", column(), eof(CURSOR))
        f.ask(b"\x1c\3\0\0\0\x0a\0\0\0")
        f.answer(*([b"\0\0\x01a"] * 3), ok(0, 0x80, 0xfe) if deprecate else eof(0x80))
        f.ask(execute(1))
        f.answer(err(1243, "HY000"))
        f.ask(b"\x16SELECT FROM")
        f.answer(err(1064, "42000"))
        f.ask(b"\x01").close()
        text = 'db.query.text="SELECT name FROM songs WHERE id = ? AND x = ?"'
        f.expect(
            "spans 11",
            f'span name="PREPARE SELECT songs" db.operation.name=PREPARE db.query.summary="PREPARE SELECT songs" {text} !db.response.returned_rows duration=2ms',
            f'span name="SELECT songs" {text} db.query.summary="SELECT songs" !db.operation.name db.response.returned_rows=2',
            f'span name="SELECT songs" {text} db.response.returned_rows=1',
            'span name="PREPARE INSERT songs" db.query.text="INSERT INTO songs VALUES (?)"',
            'span name="INSERT songs" db.query.text="INSERT INTO songs VALUES (?)" db.response.returned_rows=1',
            'span name="RESET INSERT songs" db.operation.name=RESET',
            'span name="PREPARE SELECT"',
            "span name=SELECT db.response.returned_rows=0",
            'span name="FETCH SELECT" db.operation.name=FETCH db.response.returned_rows=3',
            "span name=EXECUTE db.operation.name=EXECUTE !db.query.text error.type=1243",
            "span db.operation.name=PREPARE error.type=1064",
            "bytes unparsed=0 pending=0")
        f.write()


def mariadb():
    f = File("mariadb", "MariaDB's own: PREPARE and EXECUTE in one go, bulk, metadata that is not sent again, progress reports.").app()
    f.open(MARIA, MARIA_CAPS)
    f.ask(b"\x16SELECT a FROM t WHERE b = ?", execute(-1))
    f.answer(*prepare_ok(1, 1, 1, True))
    f.answer(*result([b"\0\0\x01a"], True, extra=b"\x01"))
    f.ask(execute(1))
    f.answer(*result([b"\0\0\x01a", b"\0\0\x01b"], True, extra=b"\0", definitions=False))
    f.ask(b"\xfa\1\0\0\0\x80\0\x08\0" + b"\0" * 18)
    f.answer(ok(2))
    f.ask(b"\x16BAD", execute(-1))
    f.answer(err(1064, "42000"))
    f.answer(err(1243, "HY000"))
    f.ask(query("ALTER TABLE t ADD COLUMN c INT"))
    f.answer(b"\xff\xff\xff\x01\x01\x02\x10\x27\x00\x04copy")
    f.answer(b"\xff\xff\xff\x01\x02\x02\x10\x27\x00\x04copy", seq=2)
    f.answer(ok(0), seq=3)
    f.ask(b"\x1f")
    f.answer(ok(0, schema=""))
    f.ask(execute(1))
    f.answer(err(1243, "HY000"))
    f.ask(query("USE other"))
    f.answer(ok(0, schema="other"))
    f.ask(query("SELECT 1 /* USE x */; SELECT 2"))
    f.answer(*result([row("1")], True, MORE), *result([row("1")], True))
    f.ask(query("SELECT 1"))
    f.answer(*result([row("1")], True))
    f.close()
    f.expect(
        "spans 12",
        'span name="PREPARE SELECT t"',
        'span name="SELECT t" db.query.text="SELECT a FROM t WHERE b = ?" db.response.returned_rows=1 db.namespace=shop',
        'span name="SELECT t" db.response.returned_rows=2',
        'span name="SELECT t" db.query.text="SELECT a FROM t WHERE b = ?" db.response.returned_rows=2',
        "span db.operation.name=PREPARE error.type=1064",
        "span error.type=1243 db.namespace=shop",
        'span name="ALTER TABLE t" duration=6ms !error.type db.response.returned_rows=0',
        "span name=RESET_CONNECTION",
        "span name=EXECUTE error.type=1243 !db.namespace",
        "span name=* !db.namespace",
        "span db.operation.batch.size=2 db.response.returned_rows=2 db.namespace=other",
        "span name=SELECT db.namespace=other",
        "bytes unparsed=0 pending=0")
    f.write()


def auth():
    f = File("auth", """caching_sha2_password: a switch of the method, full authentication, then (on another user) the fast way.
Nothing of it is kept; COM_CHANGE_USER is a command like others, and changes the database.""").app()
    caps = OLD | DEPRECATE | LENENC_AUTH
    f.say(False, greeting("8.4.0", caps, plugin=b"caching_sha2_password"))
    f.say(True, login(caps))
    f.say(False, packet(2, b"\xfecaching_sha2_password\0" + b"n" * 20 + b"\0"))
    f.say(True, packet(3, b"SECRET" * 5 + b"SE"))
    f.say(False, packet(4, b"\x01\x04"))
    f.say(True, packet(5, b"\x02"))
    f.say(False, packet(6, b"\x01-----BEGIN PUBLIC KEY-----"))
    f.say(True, packet(7, b"\x00\x03SECRET" * 32))
    f.say(False, packet(8, ok()))
    f.ask(query("SELECT 1"))
    f.answer(*result([row("1")], True))
    f.ask(b"\x11ann\0\x06SECRETother\0\x2d\0caching_sha2_password\0")
    f.answer(b"\xfecaching_sha2_password\0" + b"n" * 20 + b"\0")
    f.say(True, packet(2, b"SECRET" * 5))
    f.answer(b"\x01\x03", seq=3)
    f.answer(ok(), seq=4)
    f.ask(query("SELECT 2"))
    f.answer(*result([row("1")], True))
    f.ask(b"\x11bob\0\x06SECRETthird\0\x2d\0caching_sha2_password\0")
    f.answer(err(1045, "28000", "Access denied for user SECRET"))
    f.close()
    f.expect("spans 4", "span name=SELECT db.namespace=shop db.system.name=mysql",
             "span name=CHANGE_USER db.operation.name=CHANGE_USER !error.type duration=7ms",
             "span name=SELECT db.namespace=other",
             "span name=CHANGE_USER error.type=1045",
             "bytes unparsed=0 pending=0")
    f.write()
    f = File("refused", "A login that is refused, and a server that greets with an error: no spans.").app()
    f.add("conn c2 app outbound 10.0.0.1:40001 10.0.0.9:3306")
    f.say(False, greeting("8.4.0", caps))
    f.say(True, login(caps))
    f.say(False, packet(2, err(1045, "28000")))
    f.add("c1 close", f"c2 recv {quote(packet(0, err(1040, '08004', 'Too many connections')))}", "c2 close")
    f.expect("spans 0", "bytes pending=0")
    f.write()


def infile():
    f = File("infile", "LOCAL INFILE: the server asks for a file in the middle, the client sends it, or nothing.").two()
    f.open(MARIA, MARIA_CAPS)
    f.ask(query("LOAD DATA LOCAL INFILE '/tmp/SECRET' INTO TABLE t"))
    f.answer(b"\xfb/tmp/SECRET")
    f.say(True, packets(2, b"1\tSECRET\n" * 30, b"\x03SELECT 1", b""))
    f.answer(b"\xff\xff\xff\x01\x02\x02\0\0\0\x0fEnd bulk insert", seq=5)
    f.answer(ok(31), seq=6)
    f.ask(query("LOAD DATA LOCAL INFILE 'no' INTO TABLE t"))
    f.answer(b"\xfbno")
    f.say(True, packet(2, b""))
    f.answer(err(2, "HY000"), seq=3)
    f.ask(query("SELECT 1"))
    f.answer(*result([row("1")], True))
    f.close()
    both = ["span name=* db.response.returned_rows=31 duration=*", "span error.type=2", "span name=SELECT db.response.returned_rows=1"]
    f.expect("spans 6", *[s.replace("span", f"span kind={k} !olly.incomplete") for s in both for k in ("client", "server")],
             "bytes unparsed=0 pending=0")
    f.write()


def large():
    f = File("large", "Packets of 16 MiB and more, of which the beginning is captured, in both directions.").app()
    f.open(MARIA, MARIA_CAPS)
    head = query("INSERT INTO t VALUES ('") + b"x" * 5000
    f.add(f"c1 send +1ms tid=7 length={4 + 0xffffff} {quote(packet(0, head, 0xffffff))}")
    f.add(f"c1 send +1ms tid=7 length=4 {quote(packet(1, b'', 100000))}")
    f.add("c1 send +1ms tid=7 length=100000 fill:16384")
    f.answer(ok(1), seq=2)
    f.ask(query("SELECT big FROM t"))
    f.answer(b"\x01\x01", column())
    f.add(f"c1 recv +1ms tid=7 length={4 + 0xffffff} {quote(packet(3, bytes([0xfd, 0xff, 0xff, 0xff]) + b'y' * 90, 0xffffff))}")
    f.add(f"c1 recv +1ms tid=7 {quote(packet(4, b'', 0))}")
    f.answer(row("1"), ok(0, 2, 0xfe), seq=5)
    f.ask(query("SELECT 1"))
    f.answer(*result([row("1")], True))
    f.close()
    f.expect("spans 3",
             'span name="INSERT t" db.query.text="INSERT INTO t VALUES (?" db.response.returned_rows=1 duration=4ms !olly.incomplete',
             'span name="SELECT t" db.response.returned_rows=2 !olly.incomplete',
             "span name=SELECT db.response.returned_rows=1",
             "bytes gap=0 pending=0 unparsed=0")
    f.write()


def tls():
    f = File("tls", "An SSLRequest: what follows is TLS, counted and left alone.").app()
    caps = OLD | SSL
    f.say(False, greeting("8.0.36", caps))
    f.say(True, packet(1, struct.pack("<II", caps, 1 << 24) + b"\x2d" + b"\0" * 23))
    f.say(True, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 50)
    f.say(False, b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76" + b"r" * 50)
    f.close()
    f.expect("spans 0", "bytes unparsed=120 pending=0 gap=0")
    f.write()


def tls_plaintext():
    f = File("tls_plaintext", "Behind an SSLRequest a library's calls are seen: the login, and all that follows.").app()
    caps = BASE | SSL  # MariaDB's: without CLIENT_MYSQL
    asks = packet(1, struct.pack("<II", caps, 1 << 24) + b"\x2d" + b"\0" * 23)
    f.say(False, greeting(MARIA, caps))
    f.say(True, asks)
    f.say(True, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 50)
    f.say(False, b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76" + b"r" * 50)
    f.say(True, login(caps, "shop", 2), more=" plaintext=0")
    f.say(False, packet(3, ok()), more=" plaintext")
    f.say(True, packet(0, query("SELECT id FROM songs WHERE name = 'SECRET'")), more=" plaintext")
    f.say(False, packets(1, *result([row("1"), row("2")], False)), "+2ms", " plaintext")
    f.close()
    f.expect("spans 1", 'span name="SELECT songs" db.system.name=mariadb db.namespace=shop db.response.returned_rows=2 '
             "duration=2ms !olly.incomplete", "bytes unparsed=120 pending=0 gap=0")
    f.write()


def stored(seq, content):
    """A packet of the compressed protocol whose content is not compressed."""
    return struct.pack("<I", len(content))[:3] + bytes([seq]) + b"\0\0\0" + content


def deflated(seq, content, packed=None):
    packed = zlib.compress(content) if packed is None else packed
    return struct.pack("<I", len(packed))[:3] + bytes([seq]) + struct.pack("<I", len(content))[:3] + packed


def zstd_frame(content):
    """RFC 8878, with one block as it stands."""
    size = struct.pack("<I", 1 | len(content) << 3)[:3]
    return b"\x28\xb5\x2f\xfd\x60" + struct.pack("<H", len(content) - 256) + size + content


def compressed():
    f = File("compressed", "CLIENT_COMPRESS: packets are the content of others from the login on, compressed or not, and\n"
             "begin and end anywhere in it.").two()
    f.open("8.0.36", OLD | COMPRESS)
    f.say(True, stored(0, packet(0, query("SELECT 1"))))
    f.say(False, stored(1, packets(1, *result([row("1")], False))))
    # Several packets of the compressed protocol, cut within those that they hold.
    rows = [row(f"SECRET {n}") for n in range(200)]
    answer = packets(1, *result(rows, False))
    f.say(True, deflated(0, packet(0, query("SELECT name FROM songs WHERE a = '" + "SECRET" * 20 + "'"))))
    f.say(False, deflated(1, answer[:1003]) + deflated(2, answer[1003:2001]))
    f.say(False, stored(3, answer[2001:2010]) + deflated(4, answer[2010:]))
    # A command that is longer than what is looked at.
    f.say(True, deflated(0, packet(0, query("INSERT INTO songs VALUES ('" + "SECRET" * 5000 + "')"))))
    f.say(False, stored(1, packet(1, ok(1))))
    # zstd, as MySQL's servers may do.
    f.say(True, deflated(0, content := packet(0, query("UPDATE songs SET a = '" + "SECRET" * 60 + "'")),
                         zstd_frame(content)))
    f.say(False, stored(1, packet(1, ok(3))))
    # Two commands in one packet.
    f.say(True, stored(0, packet(0, b"\x0e") + packet(0, query("DELETE FROM songs"))))
    f.say(False, stored(1, packet(1, ok())) + stored(2, packet(1, ok(7))))
    f.close()
    f.expect("spans 12")
    for n, (name, rows) in enumerate((("SELECT", 1), ("SELECT songs", 200), ("INSERT songs", 1), ("UPDATE songs", 3), ("PING", None),
                                      ("DELETE songs", 7))):
        returned = "!db.response.returned_rows" if rows is None else f"db.response.returned_rows={rows}"
        f.expect(f'span kind=client name="{name}" {returned} db.namespace=shop !olly.incomplete as=c{n}',
                 f'span kind=server name="{name}" {returned} parent=c{n} olly.link.method=connection')
    f.expect("bytes unparsed=0 pending=0 gap=0")
    f.write()

    f = File("compressed_gap", "Bytes of an answer are lost: what is compressed is found again at the next command's answer.").app()
    f.open("8.0.36", OLD | COMPRESS)
    ask = lambda n: f.say(True, stored(0, packet(0, query(f"SELECT {n} FROM t{n}"))))
    good = lambda: f.say(False, deflated(1, packets(1, *result([row("x" * 100)], False))))
    ask(1)
    good()
    ask(2)
    f.say(False, deflated(1, answer[:1003])[:50])
    f.add("c1 gap recv 300")
    f.say(False, b"x" * 400)
    for n in range(3, 6):
        ask(n)
        good()
    f.close()
    f.expect("spans 5", 'span name="SELECT t1" db.response.returned_rows=1 !olly.incomplete',
             'span name="SELECT t2" olly.incomplete="lost bytes" !db.response.returned_rows')
    for n in range(3, 6):
        f.expect(f'span name="SELECT t{n}" db.response.returned_rows=1 !olly.incomplete')
    f.expect("bytes pending=0 gap=300")
    f.write()

    f = File("compressed_not", "What follows a login with CLIENT_COMPRESS is no such packet.").app()
    f.open("8.0.36", OLD | COMPRESS)
    for n in range(20):
        f.say(True, packet(0, query("SELECT 1")) + b"nonsense")
        f.say(False, b"\x05\0\0\1\x09\0\0nothing compressed")
    f.close()
    f.expect("spans 0", "bytes pending=0 gap=0")
    f.write()


def joined():
    f = File("joined", """Met in the middle: what was negotiated is not known. The first command that is answered shows the form of
EOF and that responses can be paired; it has no span itself.""")
    f.add("process app pid=100 exe=/usr/bin/app service=shop",
          "conn c1 app outbound 10.0.0.1:40000 10.0.0.9:3306 recv_pos=5000 send_pos=900 met",
          "conn c2 app outbound 10.0.0.1:40001 10.0.0.9:3307 recv_pos=5000 send_pos=900 met",
          "conn c3 app outbound 10.0.0.1:40002 10.0.0.9:3308 recv_pos=5000 send_pos=900 met")
    spans = []
    for c, deprecate in (("c1", True), ("c2", False)):
        def ask(*commands):
            f.add(f"{c} send +10ms tid=7 " + quote(b"".join(packet(0, x) for x in commands)))
        def answer(*payloads, seq=1):
            f.add(f"{c} recv +1ms tid=7 " + quote(packets(seq, *payloads)))
        # The end of an answer.
        answer(row("5"), ok(0, 2, 0xfe) if deprecate else eof(), seq=40)
        ask(query("SELECT a FROM first"))
        answer(*result([row("1"), row("2")], deprecate))
        ask(query("SELECT a FROM second"))
        answer(*result([row("1"), row("2")], deprecate))
        ask(b"\x16SELECT ?")
        answer(*prepare_ok(9, 1, 1, deprecate))
        ask(execute(9))
        answer(*result([], deprecate))
        ask(execute(8))
        answer(*result([b"\0\0\x01a"], deprecate))
        ask(b"\x02shop")
        answer(ok())
        ask(query("DELETE FROM second"))
        answer(ok(4))
        spans += ['span name="SELECT second" db.system.name=mysql !db.namespace db.response.returned_rows=2 duration=1ms',
                  'span name="PREPARE SELECT"', 'span name=SELECT db.response.returned_rows=0',
                  "span name=EXECUTE db.response.returned_rows=1", "span name=* db.namespace=shop",
                  'span name="DELETE second" db.namespace=shop db.response.returned_rows=4']
    # Prepared first of all: whether an EOF follows shows only in the next answer.
    for deprecate in (False,):
        f.add(f"c3 send +10ms tid=7 {quote(packet(0, b'SELECT ?'.join([bytes([0x16]), b''])))}",
              f"c3 recv +1ms tid=7 {quote(packets(1, *prepare_ok(9, 0, 1, deprecate)))}",
              f"c3 send +10ms tid=7 {quote(packet(0, execute(9)))}",
              f"c3 recv +1ms tid=7 {quote(packets(1, *result([row('1')], deprecate)))}")
        spans += ['span name=SELECT server.port=3308 db.response.returned_rows=1']
    f.add("c1 close", "c2 close", "c3 close")
    f.expect(f"spans {len(spans)}", *spans, "bytes pending=0 gap=0")
    f.write()


def losses():
    f = File("gap", """Losses: what is open ends as incomplete. Behind a lost command, or with several outstanding, the next is a probe
(its answer is not believed), and from the one behind it on all is as before. Never another's answer.""").app()
    f.open(MARIA, MARIA_CAPS)
    f.ask(query("SELECT 1"))
    f.answer(*result([row("1")], True))
    f.ask(query("SELECT a FROM broken"))
    f.say(False, packets(1, b"\x01\x01", column(), row("5")))
    f.add("c1 gap recv 4096")
    f.say(False, packets(90, row("5"), ok(0, 2, 0xfe)))
    f.ask(query("SELECT a FROM sound"))
    f.answer(*result([row("1"), row("2")], True))
    # A whole command is lost, and its answer comes.
    f.add("c1 gap send 30")
    f.answer(err(1146))
    f.ask(query("SELECT a FROM second_probe"))
    f.answer(*result([row("1")], True))
    f.ask(query("SELECT a FROM sound_again"))
    f.answer(*result([row("1"), row("2"), row("3")], True))
    # Several outstanding: none of them has an answer, nor has the next.
    f.ask(query("SELECT a FROM p1"), query("SELECT a FROM p2"))
    f.add("c1 gap recv 20")
    f.answer(err(1146))
    f.ask(query("SELECT a FROM p3"))
    f.answer(err(1146))
    f.ask(query("SELECT a FROM last"))
    f.answer(ok(1))
    f.close()
    lost = 'olly.incomplete="lost bytes" !error.type !db.response.returned_rows'
    f.expect("spans 9", "span name=SELECT db.response.returned_rows=1",
             f'span name="SELECT broken" {lost}',
             'span name="SELECT sound" db.response.returned_rows=2 db.namespace=shop !olly.incomplete',
             f'span name="SELECT second_probe" {lost} !db.namespace',
             'span name="SELECT sound_again" db.response.returned_rows=3 !olly.incomplete !db.namespace',
             f'span name="SELECT p1" {lost}', f'span name="SELECT p2" {lost}', f'span name="SELECT p3" {lost}',
             'span name="SELECT last" !olly.incomplete',
             "bytes gap=4146 pending=0")
    f.write()


def pipelining():
    f = File("pipelining", "Commands are sent ahead of their answers; what a USE does is known when those before are answered.").two()
    f.open("8.0.36", OLD)
    f.ask(query("SELECT a FROM a"), query("USE other"), query("INSERT INTO b VALUES (1)"), b"\x19\7\0\0\0", b"\x0e")
    f.answer(*result([row("1"), row("2")], False))
    f.answer(ok())
    f.answer(err(1062, "23000"))
    f.answer(ok())
    f.close()
    spans = ['name="SELECT a" db.namespace=shop db.response.returned_rows=2', "name=* db.namespace=shop",
             'name="INSERT b" db.namespace=other error.type=1062', "name=PING db.namespace=other !error.type"]
    f.expect("spans 8", *[f"span kind=client {s}" for s in spans],
             *[f"span kind=server {s} parent_id=*" for s in spans], "bytes unparsed=0 pending=0")
    f.write()


def attributes():
    f = File("attributes", "CLIENT_QUERY_ATTRIBUTES: parameters stand before the text; their values are skipped.").app()
    f.open("8.0.36", OLD | DEPRECATE | ATTRIBUTES)
    f.ask(b"\x03\0\1SELECT a FROM none")
    f.answer(*result([row("1")], True))
    f.ask(b"\x03\2\1\0\1" + b"\xfe\0" + text("traceparent") + b"\x08\0" + text("n") + text("SECRET") + b"\7" + b"\0" * 7 +
          b"SELECT a FROM two")
    f.answer(*result([row("1")], True))
    f.ask(b"\x03\1\1\1\1" + b"\x06\0" + text("n") + b"SELECT a FROM nul")
    f.answer(*result([row("1")], True))
    f.close()
    f.expect("spans 3", 'span name="SELECT none" db.query.text="SELECT a FROM none"',
             'span name="SELECT two" db.query.text="SELECT a FROM two"', 'span name="SELECT nul"', "bytes unparsed=0 pending=0")
    f.write()


def no_answer():
    f = File("no_answer", "Nobody answers, the connection breaks, the server says why it leaves.").app()
    f.add("conn c2 app outbound 10.0.0.1:40001 10.0.0.9:3306", "conn c3 app outbound 10.0.0.1:40002 10.0.0.9:3306")
    start = [("recv", greeting(MARIA, MARIA_CAPS)), ("send", login(MARIA_CAPS)), ("recv", packet(2, ok()))]
    for c in ("c1", "c2", "c3"):
        f.add(*[f"{c} {d} +1ms tid=7 {quote(x)}" for d, x in start])
    f.add(f"c3 recv +1s tid=7 {quote(packet(0, err(4031, 'HY000')))}", "c3 recv eof \"\"", "c3 close")
    f.add(f"c2 send tid=7 {quote(packet(0, query('SELECT reset FROM t')))}", "c2 close +5ms error=104")
    f.ask(query("SELECT SLEEP(100)"))
    f.add("wait +70s")
    f.answer(*result([row("0")], True))
    f.ask(query("SELECT 1"))
    f.answer(*result([row("1")], True))
    f.close()
    f.expect("spans 3", 'span name="SELECT t" error.type=ECONNRESET olly.incomplete="connection closed" status=error',
             "span error.type=timeout olly.incomplete=timeout", "span name=SELECT db.response.returned_rows=1 !olly.incomplete",
             "bytes unparsed=0 pending=0")
    f.write()


def others():
    f = File("not", """Length-prefixed protocols that look alike: 32 bits of length, and text behind a byte that is a command's.
A greeting that another server's could be.""").app()
    f.add("conn c2 app outbound 10.0.0.1:40001 10.0.0.9:9999 recv_pos=7 send_pos=9 met",
          "conn c3 app outbound 10.0.0.1:40002 10.0.0.9:9999")
    message = packet(0, query("SELECT 1"))
    f.say(True, message).say(False, message)
    f.say(True, message).say(False, message)
    for _ in range(4):
        f.add(f"c2 send +1ms tid=7 {quote(message)}", f"c2 recv +1ms tid=7 {quote(message)}")
    f.add('c3 recv "220 mail ESMTP\\r\\n"', 'c3 send "EHLO x\\r\\n"')
    f.add("c1 close", "c2 close", "c3 close")
    f.expect("spans 0", "bytes pending=0 parsed=0")
    f.write()


def unix():
    f = File("unix", "A UNIX socket; strings end where the session's mode says (NO_BACKSLASH_ESCAPES).")
    f.add("process app pid=100 exe=/usr/bin/app service=shop", "conn c1 app outbound unix: unix:/run/mysqld/mysqld.sock")
    f.both = False
    f.say(False, greeting(MARIA, MARIA_CAPS, AUTOCOMMIT | NO_BACKSLASH))
    f.say(True, login(MARIA_CAPS))
    f.say(False, packet(2, ok(0, AUTOCOMMIT | NO_BACKSLASH)))
    f.ask(query("SELECT 'a\\', 'SECRET' FROM t"))
    f.answer(*result([row("a\\", "b")], True, columns=2))
    f.close()
    f.expect("spans 1", 'span name="SELECT t" db.query.text="SELECT ?, ? FROM t" server.address=/run/mysqld/mysqld.sock '
             "network.peer.address=/run/mysqld/mysqld.sock network.transport=unix !server.port", "bytes unparsed=0 pending=0")
    f.write()


for make in (simple, eof_form, prepared, mariadb, auth, infile, large, tls, tls_plaintext, compressed, joined, losses,
             pipelining, attributes, no_answer, others, unix):
    make()
