"""PostgreSQL: real servers and clients. The spans are the clients' own log, one for one and field for field, on
both sides: every CLIENT has the server's SERVER as its child."""
import collections
import concurrent.futures
import fcntl
import json
import os
import subprocess
import time

import pytest

import harness
import postgresql_log
from postgresql_log import Operation, Told, aborted, plan, program, told

JDBC = "org.postgresql:postgresql:42.7.3"


@pytest.fixture(scope="module")
def server():
    with postgresql_log.running() as one:
        yield one


@pytest.fixture
def psycopg():
    return pytest.importorskip("psycopg")


def connect(psycopg, server, **more):
    connection = psycopg.connect(host="127.0.0.1", port=server.port, user="olly", dbname="shop",
                                 autocommit=True, **more)
    time.sleep(0.2)  # the kernel copies 4 KiB of each call until the agent has seen what it is
    return connection


def check(olly, server, log, client_pid, path=None):
    """The log's spans on both sides, and nothing else; returns the CLIENT spans."""
    here = lambda s: s["db.system.name"] == "postgresql" and s["db.namespace"] == "shop"
    spans = olly.wait_spans(2 * len(log), here)
    calls = [s for s in spans if s.kind == "client"]
    server_side = [s for s in spans if s.kind == "server"]
    for side in (calls, server_side):
        assert collections.Counter(map(told, side)) == collections.Counter(log)
    assert len(spans) == 2 * len(log)
    if path and not harness.SEES_YOUNG_UNIX_SOCKETS:
        return calls
    served = {s.parent: s for s in server_side}
    assert len(served) == len(calls)
    for call in calls:
        child = served[call.id]
        assert told(child) == told(call) and child.trace == call.trace
        assert call.start <= child.end and child.start <= call.end
        assert call.pid == client_pid
        assert call["db.query.summary"] in (None, call.name)
        for span in (call, child):
            where = (path, None) if path else ("127.0.0.1", server.port)
            assert (span["server.address"], span["server.port"]) == where
            assert span["network.transport"] == ("unix" if path else None)
        if not path:
            assert call["network.peer.port"] == server.port
            assert child["client.address"] == "127.0.0.1"
    olly.assert_nothing_lost()
    return calls


def run(cursor, op, psycopg, **more):
    """Executes the operation; the client must find what its span must say."""
    try:
        cursor.execute(op.sql, op.args or None, **more)
    except psycopg.Error as error:
        assert error.sqlstate == op.code, op.sql
        return
    rows = 0
    while True:
        if cursor.description:
            rows += len(cursor.fetchall())
        if not cursor.nextset():
            break
    assert op.code is None and rows == (op.rows or 0), op.sql


@pytest.mark.parametrize("how", ["simple", "extended", "prepared"])
def test_psycopg(server, agent, psycopg, how):
    olly = agent([os.getpid(), server.pid])
    ops = plan(60, several=how == "simple", argument=None if how == "simple" else "%s")
    with connect(psycopg, server) as connection:
        # ClientCursor: the simple protocol. A binary result: the extended one.
        cursor = psycopg.ClientCursor(connection) if how == "simple" else connection.cursor(binary=True)
        for op in ops:
            run(cursor, op, psycopg, **({"prepare": True} if how == "prepared" else {}))
    check(olly, server, [op.told for op in ops], os.getpid())


def test_prepared_statement_is_used_again(server, agent, psycopg):
    olly = agent([os.getpid(), server.pid])
    with connect(psycopg, server) as connection:
        for n in range(20):
            connection.execute("SELECT n FROM items WHERE id = %s", (n + 1,), prepare=True).fetchall()
    check(olly, server, 20 * [Told("SELECT items", "SELECT n FROM items WHERE id = $1", 1)], os.getpid())


def test_psycopg_pipeline(server, agent, psycopg):
    """Answers come in the order of requests; what follows an error up to the Sync is aborted."""
    olly = agent([os.getpid(), server.pid])
    log = []
    with connect(psycopg, server) as connection:
        for turn in range(5):
            ops = [op for op in plan(20, several=False, seed=turn) if op.code is None]
            with connection.pipeline():
                cursors = [connection.execute(op.sql, op.args or None) for op in ops]
            for op, cursor in zip(ops, cursors):
                assert (len(cursor.fetchall()) if cursor.description else 0) == (op.rows or 0)
            log += [op.told for op in ops]
        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline() as pipeline:
            connection.execute("SELECT 1 AS before")
            connection.execute("SELECT 1 / (id - 1) FROM items WHERE id = 1")
            connection.execute("SELECT 1 AS behind")
            pipeline.sync()
    log += [Told("SELECT", "SELECT ? AS before", 1),
            Told("SELECT items", "SELECT ? / (id - ?) FROM items WHERE id = ?", code="22012")]
    everything = olly.wait_spans(2 * (len(log) + 1), lambda s: s["db.system.name"] == "postgresql")
    behind = [s for s in everything if aborted(s)]
    assert [s["db.query.text"] for s in behind] == 2 * ["SELECT ? AS behind"]
    assert {s.kind for s in behind} == {"client", "server"}
    rest = [s for s in everything if not aborted(s)]
    for kind in ("client", "server"):
        assert collections.Counter(told(s) for s in rest if s.kind == kind) == collections.Counter(log)


def test_copy_and_cursor(server, agent, psycopg):
    olly = agent([os.getpid(), server.pid])
    with connect(psycopg, server) as connection:
        with connection.cursor() as cursor:
            with cursor.copy("COPY logs (u, n) FROM STDIN") as copy:
                for n in range(5000):
                    copy.write_row(("secret", n))
            with cursor.copy("COPY (SELECT * FROM items) TO STDOUT") as copy:
                assert sum(1 for _ in copy.rows()) == 1000
            with pytest.raises(RuntimeError):
                with cursor.copy("COPY logs FROM STDIN") as copy:
                    copy.write_row(("secret", 1))
                    raise RuntimeError("given up")
        with connection.transaction():
            with connection.cursor(name="walker") as cursor:
                cursor.itersize = 400
                cursor.execute("SELECT id FROM items")
                assert sum(1 for _ in cursor) == 1000
    fetch = 'FETCH FORWARD ? FROM "walker"'
    check(olly, server, [
        Told("COPY logs", "COPY logs (u, n) FROM STDIN"),
        Told("COPY SELECT items", "COPY (SELECT * FROM items) TO STDOUT"),
        Told("COPY logs", "COPY logs FROM STDIN", code="57014"),
        Told("BEGIN", "BEGIN"),
        Told("DECLARE SELECT items", 'DECLARE "walker" CURSOR FOR SELECT id FROM items'),
        *[Told("FETCH", fetch, n) for n in (400, 400, 200)],
        Told("CLOSE", 'CLOSE "walker"'),
        Told("COMMIT", "COMMIT")], os.getpid())


def test_reads_larger_than_what_is_captured(server, agent, psycopg):
    """libpq's buffer grows with its largest message: of larger reads only 16 KiB are seen. Then a CLIENT span says
    that it lost bytes; the server writes 8 KiB at a time."""
    olly = agent([os.getpid(), server.pid])
    ops = [Operation(f"SELECT repeat('x', 70000) AS l{n} FROM generate_series(1, 3)", "SELECT",
                     f"SELECT repeat(?, ?) AS l{n} FROM generate_series(?, ?)", 3) for n in range(20)]
    with connect(psycopg, server) as connection:
        for op in ops:
            run(connection.cursor(), op, psycopg)
    spans = olly.wait_spans(2 * len(ops))
    calls = [s for s in spans if s.kind == "client"]
    assert [told(s) for s in spans if s.kind == "server"] == [op.told for op in ops]
    assert [s["db.query.text"] for s in calls] == [op.told.text for op in ops]
    for call in calls:
        assert call["olly.incomplete"] in (None, "lost bytes")
        assert call["db.response.returned_rows"] == (None if call["olly.incomplete"] else 3)
        assert call["error.type"] is None


def test_unix_socket(server, agent, psycopg):
    olly = agent([os.getpid(), server.pid])
    with psycopg.connect(host=str(server.home), port=server.port, user="olly", dbname="shop",
                         autocommit=True) as connection:
        for _ in range(10):
            connection.execute("SELECT 1").fetchall()
    check(olly, server, 10 * [Told("SELECT", "SELECT ?", 1)], os.getpid(),
          path=f"{server.home}/.s.PGSQL.{server.port}")


def test_thousand_random_operations_on_twenty_connections(server, agent, psycopg):
    olly = agent([os.getpid(), server.pid])

    def client(n):
        ops = plan(50, several=False, seed=n)
        with connect(psycopg, server) as connection:
            for i, op in enumerate(ops):
                # As it comes, prepared, by the extended protocol.
                run(connection.cursor(binary=i % 3 == 2), op, psycopg, prepare=i % 3 == 1)
        return [op.told for op in ops]

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        log = [line for lines in pool.map(client, range(20)) for line in lines]
    assert len(log) == 1000
    check(olly, server, log, os.getpid())


def test_connections_older_than_the_agent(server, agent, psycopg):
    """Met in their middle: from the second turn on everything is told."""
    ops = plan(30, several=False, argument=None)
    with connect(psycopg, server) as connection:
        olly = agent([os.getpid(), *harness.children(server.pid)])
        connection.execute("SELECT 1 AS warm").fetchall()
        time.sleep(0.2)
        for op in ops:
            run(connection.cursor(), op, psycopg)
        warm = lambda s: (s["db.query.text"] or "").endswith("AS warm")
        spans = olly.wait_spans(2 * len(ops), lambda s: s["db.system.name"] == "postgresql" and not warm(s))
    for kind in ("client", "server"):
        assert [told(s) for s in spans if s.kind == kind] == [op.told for op in ops]
    assert all(s["db.namespace"] is None for s in spans), "the startup was not seen"
    assert len(olly.spans()) - len(spans) <= 2


def test_psql(server, agent, processes):
    ops = plan(40, argument=None, seed=7)
    command = [program("psql"), "-h", "127.0.0.1", "-p", str(server.port), "-U", "olly", "-XqAt", "shop"]
    # A shell that becomes psql when it is told to: the agent knows it before it connects.
    client = subprocess.Popen(["sh", "-c", 'read go; exec "$@"', "sh", *command], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    try:
        olly = agent([client.pid, server.pid])
        # \; joins statements into one Query.
        lines = [op.sql.rstrip(";").replace("; ", "\\; ") + ";" for op in ops]
        client.stdin.write("go\n")
        client.stdin.flush()
        time.sleep(0.5)
        client.communicate("\n".join(lines) + "\n", timeout=60)
    finally:
        client.kill()
        client.wait()
    # psql sends what stands before the last semicolon.
    log = [op.told._replace(text=op.told.text if op.sql.endswith(";") else op.told.text + ";")
           for op in ops]
    check(olly, server, log, client.pid)


def test_switched_off(server, agent, psycopg):
    olly = agent([os.getpid(), server.pid], {"tracing": {"protocols": {"postgresql": {"enabled": False}}}})
    with connect(psycopg, server) as connection:
        for _ in range(5):
            connection.execute("SELECT 1").fetchall()
    harness.wait_until(lambda: olly.total("olly_connections_unknown_total") >= 2, "both ends are unknown")
    assert not olly.spans()


# --- programs that run a plan ---------------------------------------------------------------------------------


def locked_build(target, source, build):
    """Makes what is older than its source; one of the test processes that run at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f"{target.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists() or target.stat().st_mtime < max(f.stat().st_mtime for f in source):
            build()


def go_client():
    go = harness.need("go")
    target = harness.ROOT / "build" / "e2e" / "pgclient"
    source = harness.PROGRAMS / "pgclient"

    def build():
        env = {"GOCACHE": str(target.parent / "gocache"), **os.environ,
               "GOMODCACHE": str(target.parent / "gomod"), "GOFLAGS": "-modcacherw -buildvcs=false",
               "CGO_ENABLED": "0"}
        made = subprocess.run([go, "build", "-o", str(target), "."], cwd=source, env=env,
                              capture_output=True, text=True, timeout=600)
        if made.returncode != 0 and "proxy.golang.org" in made.stderr:
            pytest.skip("pgx is not to be had: " + made.stderr.strip()[-300:])
        assert made.returncode == 0, made.stderr

    locked_build(target, list(source.iterdir()), build)
    return [target]


def java_client():
    java, javac, mvn = harness.need("java"), harness.need("javac"), harness.need("mvn")
    target = harness.ROOT / "build" / "e2e" / "pgjdbc"
    source = harness.PROGRAMS / "PgClient.java"

    def build():
        target.mkdir(exist_ok=True)
        fetched = subprocess.run(
            [mvn, "-q", "-B", f"-Dmaven.repo.local={target}/repository",
             "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy", f"-Dartifact={JDBC}",
             f"-DoutputDirectory={target}"], cwd=target, capture_output=True, text=True, timeout=600)
        if fetched.returncode != 0:
            pytest.skip("PostgreSQL's JDBC driver is not to be had: " + fetched.stdout.strip()[-300:])
        subprocess.run([javac, "-d", target, source], check=True, timeout=300)

    locked_build(target / "PgClient.class", [source], build)
    return [java, "-Xmx192m", "-XX:+UseSerialGC", "-cp", f"{target}:{target}/*", "PgClient"]


def run_program(command, server, agent, text):
    """Starts it, then the agent, then hands it its plan; returns (agent, its output's lines, pid)."""
    client = subprocess.Popen([*map(str, command), str(server.port)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        olly = agent([client.pid, server.pid])
        out, err = client.communicate(text, timeout=120)
    finally:
        client.kill()
        client.wait()
    assert client.returncode == 0, err
    return olly, out.splitlines(), client.pid


@pytest.mark.parametrize("connections, each", [(1, 60), (20, 50)])
def test_pgx(server, agent, connections, each):
    plans, log, expected = [], [], {}
    for n in range(connections):
        lines = []
        for i, op in enumerate(plan(each, several=False, argument="$1", seed=n)):
            mode = ["cache", "describe", "exec", "simple"][i % 4]
            if op.args and mode == "simple":
                mode = "exec"  # pgx would put the argument into the text
            lines.append({"id": op.id, "kind": "query", "mode": mode, "sql": op.sql,
                          "args": list(op.args)})
            log.append(op.told)
            expected[op.id, 0] = (op.rows or 0, op.code or "")
        batch = [op for op in plan(6, several=False, argument=None, seed=100 + n) if not op.code]
        lines.append({"id": next(postgresql_log._ids), "kind": "batch", "many": [op.sql for op in batch]})
        log += [op.told for op in batch]
        for i, op in enumerate(batch):
            expected[lines[-1]["id"], i] = (op.rows or 0, "")
        lines.append({"id": next(postgresql_log._ids), "kind": "copy", "rows": 2000})
        expected[lines[-1]["id"], 0] = (0, "")
        log.append(Told('copy "logs"', 'copy "logs" ( "u", "n" ) from stdin binary;'))
        plans.append(lines)
    olly, lines, pid = run_program(go_client(), server, agent, json.dumps(plans) + "\n")
    found = {(o["id"], o["n"]): (o["rows"], o["code"]) for o in map(json.loads, lines)}
    assert found == expected
    check(olly, server, log, pid)


@pytest.mark.parametrize("connections, each", [(1, 40), (20, 50)])
def test_jdbc(server, agent, connections, each):
    lines, log, expected = [], [], {}
    for n in range(connections):
        for i, op in enumerate(plan(each, several=False, argument="?", seed=n)):
            kind = "prepared" if i % 2 or op.args else "statement"
            lines.append(f"{n}\t{op.id}\t{kind}\t5\t{op.sql}")
            log.append(op.told)
            expected[op.id, 0] = (op.rows or 0, op.code or "")
        # Prepared under a name from the fifth time on.
        again = Operation("SELECT n FROM items WHERE id = ?", "SELECT items",
                          "SELECT n FROM items WHERE id = $1", 1)
        lines.append(f"{n}\t{again.id}\tagain\t12\t{again.sql}")
        log += 12 * [again.told]
        expected.update({(again.id, i): (1, "") for i in range(12)})
        # A portal that is suspended twice.
        fetch = next(postgresql_log._ids)
        lines.append(f"{n}\t{fetch}\tfetch\t400\tSELECT id FROM items")
        log += [Told("BEGIN", "BEGIN"), Told("COMMIT", "COMMIT"),
                *[Told("SELECT items", "SELECT id FROM items", rows) for rows in (400, 400, 200)]]
        expected[fetch, 0] = (1000, "")
    olly, out, pid = run_program(java_client(), server, agent, "\n".join(lines) + "\n\n")
    found = {}
    for line in out:
        number, n, rows, code = line.split(" ")
        found[int(number), int(n)] = (int(rows), code)
    assert found == expected
    check(olly, server, log, pid)
