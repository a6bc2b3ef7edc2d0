"""MongoDB: the spans are, one for one and field for field, what pymongo was asked to do.

The server is mongo-java-server (the real thing has no free package here); it speaks OP_MSG and OP_QUERY.
OP_COMPRESSED and exhaust streams, which it does not speak, are tested by recordings only.
"""
import collections
import fcntl
import json
import pathlib
import subprocess
import sys

import harness
import pytest


def server_classes():
    """The class path of the server, made once: its jars and the compiled main."""
    javac, mvn = harness.need("javac"), harness.need("mvn")
    source = harness.PROGRAMS / "mongoserver"
    target = harness.ROOT / "build" / "e2e" / "mongoserver"
    target.mkdir(parents=True, exist_ok=True)
    made = target / "Server.class"
    newest = max(f.stat().st_mtime for f in source.iterdir())
    with open(target / "lock", "w") as lock:  # test processes that run at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.stat().st_mtime < newest:
            fetched = subprocess.run(
                [mvn, "-q", "-B", "-f", source / "pom.xml", f"-Dmaven.repo.local={target}/repository",
                 "dependency:copy-dependencies", f"-DoutputDirectory={target}/jars"],
                capture_output=True, text=True, timeout=300)
            if fetched.returncode != 0:
                pytest.skip("mongo-java-server is not to be had: " + fetched.stdout.strip()[-300:])
            subprocess.run([javac, "-cp", f"{target}/jars/*", "-d", target, source / "Server.java"],
                           check=True, timeout=120)
    return f"{target}:{target}/jars/*"


def start(processes, connections, operations, certificate=()):
    """(server, client, go): both run, the client waits for the file `go`. `certificate` and its key: they talk TLS."""
    pytest.importorskip("pymongo")
    classes = server_classes()
    port = harness.free_port()
    server = processes.start([harness.need("java"), "-Xmx192m", "-XX:+UseSerialGC", "-cp", classes,
                              "Server", port, *certificate], port)
    go, log = processes.tmp / "go", processes.tmp / "log"
    client = processes.start([sys.executable, harness.PROGRAMS / "mongo_client.py", port, go, log,
                              connections, operations, 5, *certificate[:1]])
    server.port, client.log_path = port, log
    return server, client, go


def asked(client, go):
    """What the client's own log says, once it has done all."""
    go.touch()
    harness.wait_until(lambda: client.log_path.exists() or client.poll() is not None,
                       "the client has done its operations", 90)
    assert client.poll() is None, pathlib.Path(client.log).read_text()
    return [json.loads(line) for line in client.log_path.read_text().splitlines()]


def fields_of_log(entry):
    name = f"{entry['operation']} {entry['collection'] or entry['database']}"
    return (name, entry["operation"], entry["database"], entry["collection"], entry["batch"],
            entry["code"], entry["rows"])


def fields_of_span(span):
    return (span.name, span["db.operation.name"], span["db.namespace"], span["db.collection.name"],
            span["db.operation.batch.size"], span["db.response.status_code"],
            span["db.response.returned_rows"])


def by_database(items, database, start, fields):
    """Each connection has a database of its own, and asks one thing after the other."""
    out = collections.defaultdict(list)
    for item in sorted(items, key=start):
        out[database(item)].append(fields(item))
    out["admin"] = sorted(out["admin"], key=str)  # endSessions of all of them
    return out


def assert_same(spans, truth):
    want = by_database(truth, lambda e: e["database"], lambda e: e["began"], fields_of_log)
    got = by_database(spans, lambda s: s["db.namespace"], lambda s: s.start, fields_of_span)
    assert got == want


def check_common(span, server):
    assert span["db.system.name"] == "mongodb"
    assert (span["server.address"], span["server.port"]) == ("127.0.0.1", server.port)
    assert span["db.query.text"] is None and span["olly.incomplete"] is None
    failed = span["db.response.status_code"] is not None
    assert (span.status == 2) == failed and span["error.type"] == span["db.response.status_code"]


def test_random_operations_both_sides(processes, agent):
    server, client, go = start(processes, 20, 50)
    olly = agent([server.pid, client.pid])
    truth = asked(client, go)
    assert len(truth) >= 1000
    olly.wait_spans(len(truth) * 2, seconds=30)
    spans = olly.spans()
    clients = [s for s in spans if s.kind == "client"]
    servers = {s.parent: s for s in spans if s.kind == "server"}
    assert_same(clients, truth)
    assert {s["error.type"] for s in clients} >= {None, "11000", "59"}
    assert len(spans) == 2 * len(truth) and len(servers) == len(clients)
    for span in clients:
        check_common(span, server)
        other = servers[span.id]
        check_common(other, server)
        assert other.trace == span.trace and fields_of_span(other) == fields_of_span(span)
        assert other["client.address"] == "127.0.0.1" and span.pid == client.pid
        assert span.start <= other.start <= other.end <= span.end
    assert "hunter2" not in olly.output.read_text()
    olly.assert_nothing_lost()


@pytest.mark.parametrize("side", ["server", "client"])
def test_one_side_and_large_messages(processes, agent, side):
    server, client, go = start(processes, 2, 0)
    olly = agent([server.pid if side == "server" else client.pid])
    truth = asked(client, go)
    spans = olly.wait_spans(len(truth))
    assert {s.kind for s in spans} == {side}
    for entry in truth:
        # What lies behind 4 KiB is not said: how many rows a longer reply has, and of the command
        # with the long filter (it finds nothing) its database.
        if entry["operation"] == "find" and entry["rows"] == 0:
            entry["database"] = None
        entry["rows"] = None if entry["rows"] else entry["rows"]
    assert sum(e["database"] is None for e in truth) == 2
    want, got = map(fields_of_log, truth), map(fields_of_span, spans)
    assert sorted(got, key=str) == sorted(want, key=str)
    assert {s["olly.incomplete"] for s in spans} == {None}
    assert olly.total("olly_bytes_total", fate="skipped") > 1_000_000
    assert olly.total("olly_bytes_total", fate="gap") == 0
    olly.assert_nothing_lost()


def test_switched_off(processes, agent):
    server, client, go = start(processes, 1, 20)
    olly = agent([server.pid, client.pid],
                 {"tracing": {"protocols": {"mongodb": {"enabled": False}}}})
    asked(client, go)
    harness.wait_until(lambda: olly.total("olly_bytes_total", fate="unparsed") > 0, "bytes were seen")
    assert olly.spans() == []
    assert olly.total("olly_bytes_total", fate="parsed") == 0
