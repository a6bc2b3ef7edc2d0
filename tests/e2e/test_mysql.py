"""MySQL and MariaDB: the spans are, one for one and field for field, what the client library was asked to do.

The server is MariaDB. What it does not speak (caching_sha2_password, query attributes, the form of EOF that
only MySQL's older clients ask for) is tested by recordings.
"""
import collections
import fcntl
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

import harness
import pytest

SECRET = "hunter2"
JDBC = "org.mariadb.jdbc:mariadb-java-client:3.5.1"


class Server:
    """mariadbd in a temporary directory, as the user that its package made."""

    def __init__(self, tmp, *options):
        mariadbd, install = harness.need("mariadbd"), harness.need("mariadb-install-db")
        self.cli = harness.need("mariadb")
        tmp.chmod(0o755)
        self.data = tmp / "data"
        made = subprocess.run(
            [install, "--no-defaults", f"--datadir={self.data}", "--user=mysql", "--skip-test-db",
             "--auth-root-authentication-method=normal"], capture_output=True, text=True, timeout=120)
        assert made.returncode == 0, made.stdout + made.stderr
        self.processes = harness.Processes(tmp)
        self.port = harness.free_port()
        self.socket = str(self.data / "s")
        self.process = self.processes.start(
            [mariadbd, "--no-defaults", f"--datadir={self.data}", "--user=mysql", f"--port={self.port}",
             f"--socket={self.socket}", "--bind-address=127.0.0.1", "--local-infile=1",
             "--max-allowed-packet=64M", "--innodb-buffer-pool-size=32M", "--skip-name-resolve",
             "--innodb-flush-log-at-trx-commit=0", *options], self.port)
        self.pid = self.process.pid
        self.sql("CREATE USER joe@'%' IDENTIFIED BY 'hunter2'; GRANT ALL ON *.* TO joe@'%'; "
                 "CREATE USER joe@localhost IDENTIFIED BY 'hunter2'; GRANT ALL ON *.* TO joe@localhost")

    def sql(self, text):
        subprocess.run([self.cli, "--no-defaults", "-uroot", f"--socket={self.socket}", "-e", text],
                       check=True, timeout=60)

    def databases(self, names):
        """Each has a table of ten songs, and nothing else."""
        rows = ", ".join(f"({n}, 'song {n}')" for n in range(10))
        self.sql("; ".join(
            f"DROP DATABASE IF EXISTS {d}; CREATE DATABASE {d}; CREATE TABLE {d}.songs (id INT PRIMARY "
            f"KEY, name TEXT); INSERT INTO {d}.songs VALUES {rows}" for d in names))


@pytest.fixture(scope="module")
def server():
    if os.geteuid() != 0:
        pytest.skip("eBPF needs root")
    # Not below pytest's own directory: another user could not get into it.
    with tempfile.TemporaryDirectory(prefix="olly-mariadb-") as tmp:
        one = Server(pathlib.Path(tmp))
        yield one
        one.processes.stop_all()


# What, text with ? for arguments, how many arguments, the text of its span, its summary.
SHAPES = [
    ("query", "SELECT id, name FROM songs WHERE id < {n}", 0, "SELECT id, name FROM songs WHERE id < ?",
     "SELECT songs"),
    ("query", "INSERT INTO songs VALUES ({n}, 'hunter2 {n}'), ({m}, 'it''s')", 0,
     "INSERT INTO songs VALUES (?)", "INSERT songs"),
    ("query", "UPDATE songs SET name = 'hunter2' WHERE id IN ({n}, {m}, 5)", 0,
     "UPDATE songs SET name = ? WHERE id IN (?)", "UPDATE songs"),
    ("query", "DELETE FROM songs WHERE id = {n} /* hunter2 */", 0, "DELETE FROM songs WHERE id = ?",
     "DELETE songs"),
    ("query", "SELECT * FROM nowhere WHERE name = 'hunter2'", 0, "SELECT * FROM nowhere WHERE name = ?",
     "SELECT nowhere"),
    ("query", "SELECT FROM WHERE", 0, "SELECT FROM WHERE", None),
    ("query", "SELECT REPEAT('y', 2500 + {n})", 0, "SELECT REPEAT(?, ? + ?)", "SELECT"),
    ("query", "SELECT a.id FROM songs a, songs b", 0, "SELECT a.id FROM songs a, songs b",
     "SELECT songs songs"),
    ("execute", "SELECT name FROM songs WHERE id = ?", 1, "SELECT name FROM songs WHERE id = ?",
     "SELECT songs"),
    ("execute", "INSERT INTO songs VALUES (?, ?)", 2, "INSERT INTO songs VALUES (?)", "INSERT songs"),
    ("execute", "DELETE FROM songs WHERE id > ?", 1, "DELETE FROM songs WHERE id > ?", "DELETE songs"),
    ("ping", "", 0, None, None),
]
Operation = collections.namedtuple("Operation", "database number what text args shape")


def make_plan(connections, operations, seed):
    chance = random.Random(seed)
    plan = []
    for c in range(connections):
        for number in range(operations):
            shape = SHAPES[chance.randrange(len(SHAPES))]
            n, m = chance.randrange(60), chance.randrange(60, 120)
            args = ",".join(str(n + i) for i in range(shape[2]))
            plan.append(Operation(f"d{c}", number, shape[0], shape[1].format(n=n, m=m), args, shape))
    return plan


def go_client():
    go = harness.need("go")
    source = harness.PROGRAMS / "mysqlclient"
    target = harness.ROOT / "build" / "e2e" / "mysqlclient"
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / "mysql.lock", "w") as lock:  # test processes that run at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(f.stat().st_mtime for f in source.iterdir())
        if not target.exists() or target.stat().st_mtime < newest:
            env = {"GOCACHE": str(target.parent / "gocache"), **os.environ,
                   "GOMODCACHE": str(target.parent / "gomod"), "GOFLAGS": "-modcacherw -buildvcs=false",
                   "CGO_ENABLED": "0"}
            made = subprocess.run([go, "build", "-o", str(target), "."], cwd=source, env=env,
                                  capture_output=True, text=True, timeout=300)
            if made.returncode != 0 and "proxy.golang.org" in made.stderr:
                pytest.skip("go-sql-driver/mysql is not to be had: " + made.stderr.strip()[-300:])
            assert made.returncode == 0, made.stderr
    return [target]


def java_client(options=""):
    java, javac, mvn = harness.need("java"), harness.need("javac"), harness.need("mvn")
    target = harness.ROOT / "build" / "e2e" / "mysqljdbc"
    target.mkdir(parents=True, exist_ok=True)
    source = harness.PROGRAMS / "MysqlClient.java"
    made = target / "MysqlClient.class"
    with open(target / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
            fetched = subprocess.run(
                [mvn, "-q", "-B", f"-Dmaven.repo.local={target}/repository",
                 "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy", f"-Dartifact={JDBC}",
                 f"-DoutputDirectory={target}"], cwd=target, capture_output=True, text=True, timeout=300)
            if fetched.returncode != 0:
                pytest.skip("MariaDB's JDBC driver is not to be had: " + fetched.stdout.strip()[-300:])
            subprocess.run([javac, "-d", target, source], check=True, timeout=120)
    return [java, "-Xmx192m", "-XX:+UseSerialGC", "-cp", f"{target}:{target}/*", "MysqlClient",
            options]


DRIVERS = {
    "pymysql": lambda: [sys.executable, harness.PROGRAMS / "mysql_client.py", "pymysql"],
    "connector": lambda: [sys.executable, harness.PROGRAMS / "mysql_client.py", "connector"],
    "go": go_client,
    "jdbc": java_client,
    # With zlib. (PyMySQL does not speak it.)
    "connector-compressed": lambda: [sys.executable, harness.PROGRAMS / "mysql_client.py", "connector-compressed"],
    "jdbc-compressed": lambda: java_client("&useCompression=true"),
}


PING = ("PING", "PING", None, None, None, None)


class Client:
    def __init__(self, processes, driver, server, plan):
        command = DRIVERS[driver]()
        self.driver, self.plan = driver.removesuffix("-compressed"), plan
        self.go, self.log = processes.tmp / "go", processes.tmp / "log"
        path = processes.tmp / "plan"
        path.write_text("".join("\t".join(map(str, o[:5])) + "\n" for o in plan))
        self.process = processes.start([*command, server.port, path, self.log, self.go])
        self.pid = self.process.pid

    def work(self):
        """{(database, number): (rows, error)} of its own log, once it has done all."""
        self.go.touch()
        harness.wait_until(lambda: self.log.exists() or self.process.poll() is not None,
                           "the client has done its operations", 90)
        assert self.process.poll() is None, pathlib.Path(self.process.log).read_text()
        lines = [line.split("\t") for line in self.log.read_text().splitlines()]
        assert len(lines) == len(self.plan)
        return {(d, int(n)): (int(rows), int(error)) for d, n, rows, error in lines}

    def expected(self, done):
        """Per database, in order: what the spans of these operations say."""
        out = collections.defaultdict(list)
        prepared = collections.defaultdict(set)
        for o in self.plan:
            rows, error = done[(o.database, o.number)]
            _, _, _, text, summary = o.shape
            spans = out[o.database]
            rows, error = (rows if rows >= 0 else None), (str(error) if error else None)
            if self.driver == "connector" and o.what != "ping":
                spans.append(PING)  # it asks before it makes a cursor
            if o.what == "ping":
                spans.append(PING)
                continue
            # PyMySQL puts arguments into the text itself; the others prepare statements.
            if o.what == "execute" and self.driver != "pymysql":
                # The JDBC driver keeps its statements.
                if self.driver != "jdbc" or o.text not in prepared[o.database]:
                    name = f"PREPARE {summary}"
                    spans.append((name, "PREPARE", text, name, None, None))
                prepared[o.database].add(o.text)
            spans.append((summary, None, text, summary, rows, error))
        return out


def fields(span):
    return (span.name, span["db.operation.name"], span["db.query.text"], span["db.query.summary"],
            span["db.response.returned_rows"], span["db.response.status_code"])


# What drivers say of their own accord when they connect and leave.
OWN = re.compile(r"(SET|set|SELECT @@|select @@|ROLLBACK|COMMIT)\b|SELECT \?$")


def asked(span):
    text = span["db.query.text"]
    reset = span["db.operation.name"] in ("RESET", "RESET_CONNECTION")
    return not reset and not (text and OWN.match(text)) and bool(span["db.namespace"])


def normal(span_fields):
    """A statement that cannot be parsed has no name that could be asked for."""
    return ("*", *span_fields[1:3], "*", *span_fields[4:]) if span_fields[2] == "SELECT FROM WHERE" else span_fields


def assert_same(spans, expected):
    got = collections.defaultdict(list)
    for span in sorted(spans, key=lambda s: s.start):
        got[span["db.namespace"]].append(normal(fields(span)))
    for database, want in expected.items():
        assert got[database] == [normal(w) for w in want], database
    assert got.keys() == expected.keys()


def check_common(span, server):
    assert span["db.system.name"] == "mariadb"
    assert (span["server.address"], span["server.port"]) == ("127.0.0.1", server.port)
    assert span["olly.incomplete"] is None, span.attributes
    failed = span["db.response.status_code"] is not None
    assert (span.status == 2) == failed and span["error.type"] == span["db.response.status_code"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_random_operations_both_sides(processes, agent, server, driver):
    """1,000 operations on 20 connections at once: CLIENT spans, and SERVER spans as their children."""
    server.databases([f"d{n}" for n in range(20)])
    client = Client(processes, driver, server, make_plan(20, 50, driver))
    olly = agent([server.pid, client.pid])
    began = time.time_ns()
    expected = client.expected(client.work())
    count = sum(map(len, expected.values()))
    assert count >= 1000
    olly.wait_spans(2 * count, asked, seconds=30)
    spans = [s for s in olly.spans() if asked(s)]
    clients = [s for s in spans if s.kind == "client"]
    servers = {s.parent: s for s in spans if s.kind == "server"}
    assert_same(clients, expected)
    assert {s["error.type"] for s in clients} >= {None, "1062", "1146", "1064"}
    assert len(spans) == 2 * count and len(servers) == count
    for span in clients:
        check_common(span, server)
        other = servers[span.id]
        check_common(other, server)
        assert other.trace == span.trace and fields(other) == fields(span)
        assert other["client.address"] == "127.0.0.1" and span.pid == client.pid
        assert began <= span.start <= other.start <= other.end <= span.end
    assert SECRET not in olly.output.read_text()
    olly.assert_nothing_lost()


@pytest.mark.parametrize("side", ["server", "client"])
def test_one_side(processes, agent, server, side):
    server.databases(["d0", "d1"])
    client = Client(processes, "pymysql", server, make_plan(2, 30, side))
    olly = agent([server.pid if side == "server" else client.pid])
    expected = client.expected(client.work())
    spans = olly.wait_spans(sum(map(len, expected.values())), asked)
    assert {s.kind for s in spans} == {side}
    assert_same(spans, expected)
    olly.assert_nothing_lost()


def test_command_line_client(processes, agent, server):
    """Several statements, several result sets, another database, a file; over TCP and over a UNIX socket."""
    server.databases(["shop", "other"])
    server.sql("CREATE PROCEDURE shop.twice() SELECT id FROM shop.songs")
    (processes.tmp / "songs.txt").write_text("".join(f"{n}\thunter2\n" for n in range(100, 150)))
    script = (f"SELECT id FROM songs; LOAD DATA LOCAL INFILE '{processes.tmp}/songs.txt' INTO TABLE songs; "
              "CALL twice(); USE other; DELETE FROM songs; UPDATE missing SET a = 'hunter2';")
    olly = agent([server.pid])
    for where in ([f"--socket={server.socket}"], ["-h127.0.0.1", f"-P{server.port}", "--protocol=tcp"]):
        server.databases(["other"])
        server.sql("DELETE FROM shop.songs WHERE id >= 100")
        subprocess.run([server.cli, "--no-defaults", "-ujoe", f"-p{SECRET}", "--local-infile=1", "--force", *where,
                        "shop", "-e", script], timeout=30, capture_output=True)
    mine = lambda s: bool(s["db.namespace"]) and not (s["db.query.text"] or "").startswith("SELECT DATABASE")
    spans = olly.wait_spans(12, mine)
    want = [
        ("shop", "SELECT songs", "SELECT id FROM songs", 10, None),
        ("shop", "LOAD songs", "LOAD DATA LOCAL INFILE ? INTO TABLE songs", 50, None),
        ("shop", "CALL twice", "CALL twice()", 60, None),
        ("other", "INIT_DB other", None, None, None),
        ("other", "DELETE songs", "DELETE FROM songs", 10, None),
        ("other", "UPDATE missing", "UPDATE missing SET a = ?", None, "1146"),
    ]
    got = [(s["db.namespace"], s.name, s["db.query.text"], s["db.response.returned_rows"], s["error.type"])
           for s in sorted(spans, key=lambda s: s.start)]
    assert got == want + want
    unix = [s for s in spans if s["network.transport"] == "unix"]
    assert len(unix) == 6 and {s["server.address"] for s in unix} == {server.socket}
    assert SECRET not in olly.output.read_text()


def test_unix_socket(processes, agent, server):
    """Client and server over a UNIX socket: each SERVER span is its CLIENT span's child."""
    pymysql = pytest.importorskip("pymysql")
    server.databases(["shop"])
    olly = agent([server.pid, os.getpid()])
    connection = pymysql.connect(unix_socket=server.socket, user="joe", password=SECRET, database="shop",
                                 autocommit=True)
    cursor = connection.cursor()
    for n in range(20):
        assert cursor.execute(f"SELECT id FROM songs WHERE id < {n % 5}") == n % 5
    connection.close()
    spans = olly.wait_spans(40, asked)
    servers = {s.parent: s for s in spans if s.kind == "server"}
    clients = sorted((s for s in spans if s.kind == "client"), key=lambda s: s.start)
    assert [s["db.response.returned_rows"] for s in clients] == [n % 5 for n in range(20)]
    assert len(servers) == 20
    for span in clients:
        assert fields(servers[span.id]) == fields(span) and servers[span.id].trace == span.trace
        assert span["network.transport"] == "unix" and span["server.address"] == server.socket
    olly.assert_nothing_lost()


def test_many_rows(processes, agent, server):
    """Many rows to a call: each is counted, once the agent knows the connection."""
    pymysql = pytest.importorskip("pymysql")
    server.databases(["shop"])
    olly = agent([server.pid, os.getpid()])
    connection = pymysql.connect(host="127.0.0.1", port=server.port, user="joe", password=SECRET, database="shop",
                                 autocommit=True)
    time.sleep(0.3)  # the first milliseconds of a connection are copied in part only
    cursor = connection.cursor()
    for count in (100, 2000, 30000):
        assert cursor.execute(f"SELECT seq, 'hunter2' FROM seq_1_to_{count}") == count
    connection.close()
    spans = olly.wait_spans(6, asked)
    for kind in ("client", "server"):
        assert [(s["db.response.returned_rows"], s["olly.incomplete"])
                for s in sorted(spans, key=lambda s: s.start) if s.kind == kind] == [
                    (100, None), (2000, None), (30000, None)]
    olly.assert_bytes_conserved()


def test_compressed_command_line_client(processes, agent, server):
    """The distribution's client with --compress: statements and rows that are really compressed, and some that are not."""
    server.databases(["shop"])
    olly = agent([server.pid])
    long = "SELECT name FROM songs WHERE name <> '%s'" % ("hunter2 " * 2000)
    statements = ["SELECT id FROM songs", "SELECT seq, REPEAT('hunter2', 20) FROM seq_1_to_5000", long,
                  "DELETE FROM songs WHERE id > 6", "SELECT nothing FROM nowhere", "SELECT id FROM songs"]
    subprocess.run([server.cli, "--no-defaults", "-ujoe", f"-p{SECRET}", "--compress", "-h127.0.0.1", "--force",
                    f"-P{server.port}", "shop"], input=";\n".join(statements), text=True, timeout=30,
                   capture_output=True)
    spans = sorted(olly.wait_spans(6, asked), key=lambda s: s.start)
    assert [(s.name, s["db.response.returned_rows"], s["error.type"]) for s in spans] == [
        ("SELECT songs", 10, None), ("SELECT seq_1_to_5000", 5000, None), ("SELECT songs", 10, None),
        ("DELETE songs", 3, None), ("SELECT nowhere", None, "1146"), ("SELECT songs", 7, None)]
    for span in spans:
        assert span.kind == "server"
        check_common(span, server)
    assert SECRET not in olly.output.read_text()
    olly.assert_nothing_lost()


def test_large_packets(processes, agent, server):
    """A statement and a row of more than 16 MiB: each is one span, its bytes are skipped. What follows such a row in
    the same call is not captured, so that its span may be incomplete; the next is not touched."""
    pymysql = pytest.importorskip("pymysql")
    server.databases(["shop"])
    server.sql("CREATE TABLE shop.blobs (b LONGBLOB)")
    olly = agent([server.pid, os.getpid()])
    connection = pymysql.connect(host="127.0.0.1", port=server.port, user="joe", password=SECRET, database="shop",
                                 autocommit=True, max_allowed_packet=64 << 20)
    cursor = connection.cursor()
    cursor.execute("INSERT INTO blobs VALUES ('%s')" % ("x" * (17 << 20)))
    cursor.execute("SELECT b FROM blobs")
    assert len(cursor.fetchall()[0][0]) == 17 << 20
    cursor.execute("SELECT id FROM songs")
    connection.close()
    spans = olly.wait_spans(6, lambda s: asked(s))
    for kind in ("client", "server"):
        insert, large, small = sorted((s for s in spans if s.kind == kind), key=lambda s: s.start)
        said = lambda s: (s.name, s["db.response.returned_rows"], s["olly.incomplete"])
        assert said(insert) == ("INSERT blobs", 1, None) and said(small) == ("SELECT songs", 10, None)
        assert said(large) in (("SELECT blobs", 1, None), ("SELECT blobs", None, "lost bytes"))
    assert olly.total("olly_bytes_total", fate="skipped") > 4 * (16 << 20)


def test_older_connection(processes, agent, server):
    """Met in its middle: the first command shows how it speaks, from the second on there are spans."""
    pymysql = pytest.importorskip("pymysql")
    server.databases(["shop"])
    connection = pymysql.connect(host="127.0.0.1", port=server.port, user="joe", password=SECRET, database="shop")
    cursor = connection.cursor()
    cursor.execute("SELECT id FROM songs")
    olly = agent([server.pid, os.getpid()])
    for n in range(1, 5):
        cursor.execute(f"SELECT id FROM songs WHERE id < {n}")
    connection.close()
    spans = olly.wait_spans(6)
    for kind in ("client", "server"):
        rows = [s["db.response.returned_rows"] for s in sorted(spans, key=lambda s: s.start) if s.kind == kind]
        assert rows == [2, 3, 4]
    assert {(s["db.system.name"], s["db.namespace"], s["olly.incomplete"]) for s in spans} == {("mysql", None, None)}


def test_switched_off(processes, agent, server):
    server.databases(["d0"])
    client = Client(processes, "pymysql", server, make_plan(1, 20, "off"))
    olly = agent([server.pid, client.pid], {"tracing": {"protocols": {"mysql": {"enabled": False}}}})
    client.work()
    harness.wait_until(lambda: olly.total("olly_bytes_total", fate="unparsed") > 0, "bytes were seen")
    assert olly.spans() == []
    assert olly.total("olly_bytes_total", fate="parsed") == 0
