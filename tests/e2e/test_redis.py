"""A real redis-server under redis-py (RESP2 and RESP3), node-redis, redis-benchmark and a bare socket: the spans
of both ends are what the clients logged, one for one and field for field."""
import collections
import json
import os
import pathlib
import random
import socket
import subprocess
import threading
import time

import pytest
import redis

import harness
from redis_log import Log, assert_spans, fields_of, is_redis, server, text_of, words_of

PROTOCOLS = [2, 3]
SECRET = "hunter2secret"


def observe(agent, *pids, config=None):
    """The test itself is the client: its process is observed with the server's."""
    return agent([os.getpid(), *pids], config)


def ask(client, *args):
    """One command; errors of the server are part of the test."""
    try:
        return client.execute_command(*args)
    except redis.ResponseError:
        return None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_operations(processes, agent, tmp_path, protocol):
    process, port = server(processes, tmp_path, "--requirepass", SECRET)
    olly = observe(agent, process.pid)
    log = Log()
    client = log.client(port, protocol=protocol, db=3, username="default", password=SECRET)
    for args in [
            ("SET", "plain", "v"), ("GET", "plain"), ("get", "missing"), ("SET", "a key \"q\"\n", "v"),
            ("SET", "schlüssel", "wert"), ("SET", "", "empty"), ("SET", "k" * 512, "x"), ("SET", "k" * 513, "x"),
            ("LPUSH", "plain", "x"), ("LPUSH", "list", *map(str, range(50))), ("LRANGE", "list", 0, -1),
            ("MSET", "m1", "1", "m2", "2"), ("MGET", "m1", "m2", "m3"), ("DEL", "m1", "m2"),
            ("HSET", "hash", "f", "1", "g", "2"), ("HGETALL", "hash"), ("SADD", "set", "a", "b"),
            ("SMEMBERS", "set"), ("ZADD", "z", 1.5, "a"), ("ZRANGE", "z", 0, -1, "WITHSCORES"),
            ("XADD", "stream", "*", "field", "value"), ("OBJECT", "ENCODING", "plain"),
            ("EVAL", "return {1, 'x', {2}}", 1, "plain"), ("EVAL", "return redis.error_reply('MY no')", 0),
            ("EVALSHA", "0" * 40, 0), ("CONFIG", "SET", "masterauth", SECRET), ("CONFIG", "GET", "maxmemory"),
            ("ACL", "SETUSER", "bob", "on", ">" + SECRET), ("NOSUCHCOMMAND", SECRET), ("ECHO", SECRET),
            ("PING",), ("TYPE", "plain"), ("EXPIRE", "plain", "x"), ("RENAME", "plain", "other"),
            ("BLPOP", "nothing", "0.05"), ("PUBLISH", "channel", SECRET)]:
        ask(client, *args)
    ask(client, "SET", "large", "v" * 1_000_000)
    ask(client, "GET", "large")
    ask(client, "MSET", "small", "x", "large1", "v" * 100_000)
    ask(client, "MGET", "small", "large1")

    pipeline = client.pipeline(transaction=False)
    for i in range(100):
        pipeline.set(f"p{i}", i).get(f"p{i}").lpush(f"p{i}", "no list")
    pipeline.execute(raise_on_error=False)
    transaction = client.pipeline()
    transaction.set("t", 1).incr("t").lpush("t", "no list")
    transaction.execute(raise_on_error=False)
    client.connection_pool.disconnect()

    spans = assert_spans(olly, log, port)
    assert SECRET not in olly.output.read_text(), "no secret leaves"
    queued = [s for s in spans if s["db.query.text"] in ("SET t ?", "INCRBY t ?", "LPUSH t ?")]
    assert len(queued) == 6 and all(s.status == 0 for s in queued), "queued is no error"


def play(client, seed, count, longest_in_pipeline=100):
    """`count` random operations, some in pipelines."""
    rng = random.Random(seed)

    def operation(lengths, key):
        return rng.choice([
            ("SET", key, "v" * rng.choice(lengths)), ("GET", key), ("INCR", key),
            ("APPEND", key, "x" * rng.randrange(20)), ("LPUSH", f"l{key}", *["e"] * rng.randrange(1, 20)),
            ("LRANGE", f"l{key}", 0, rng.randrange(20)), ("HSET", f"h{key}", "f", rng.random()), ("HGETALL", f"h{key}"),
            ("MGET", *[f"k{rng.randrange(40)}" for _ in range(rng.randrange(1, 9))]), ("LPUSH", key, "x"),
            ("DEL", key, f"l{key}"), ("SELECT", rng.randrange(3)), ("STRLEN", key), ("PING",),
            ("EVAL", "return redis.call('GET', KEYS[1])", 1, key), ("EXISTS", key, f"h{key}"), ("NOSUCH", key)])

    while count > 0:
        n = min(count, rng.choice([1, 1, 1, 5, 30]))
        count -= n
        if n == 1:
            ask(client, *operation([1, 100, 5000, 100000], f"long{rng.randrange(9)}"))
            continue
        pipeline = client.pipeline(transaction=False)
        for _ in range(n):
            pipeline.execute_command(*operation([1, longest_in_pipeline], f"k{rng.randrange(40)}"))
        pipeline.execute(raise_on_error=False)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_thousand_random_operations_on_twenty_connections(processes, agent, tmp_path, protocol):
    process, port = server(processes, tmp_path)
    olly = observe(agent, process.pid)
    log = Log()
    clients = [log.client(port, protocol=protocol, max_connections=1) for _ in range(20)]
    threads = [threading.Thread(target=play, args=(c, seed, 50)) for seed, c in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.connection_pool.disconnect()
    assert len(log) >= 1000
    assert_spans(olly, log, port)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_longer_calls_than_are_copied(processes, agent, tmp_path, protocol):
    """Replies behind a long value, within one call, are not captured: spans may be missing or incomplete then,
    but none gets another command's reply."""
    process, port = server(processes, tmp_path)
    olly = observe(agent, process.pid)
    log = Log()
    client = log.client(port, protocol=protocol, max_connections=1)
    for seed in range(20):
        play(client, seed, 40, longest_in_pipeline=20000)
        ask(client, "PING")
        time.sleep(0.03)  # a pause with nothing outstanding: the pairing is certain again
    ask(client, "GET", "the-last")
    client.connection_pool.disconnect()
    olly.wait_spans(2, lambda s: s["db.query.text"] == "GET the-last")
    want = collections.Counter(sent.fields()[::3] for sent in log)
    spans = [s for s in olly.spans() if is_redis(s)]
    for side in ("client", "server"):
        whole = [s for s in spans if s.kind == side and s["olly.incomplete"] is None]
        got = collections.Counter(fields_of(s)[::3] for s in whole)
        assert not got - want, f"{side}: {dict(got - want)}"
        assert len(whole) > len(log) / 4
    for span in spans:
        if span.name in ("NOSUCH", "redis") and span["olly.incomplete"] is None:
            assert span["error.type"] == "ERR", span
        if span.name in ("PING", "SELECT", "EXISTS", "SET", "MGET"):
            assert span["error.type"] is None, span


def assert_asked(olly, asked, port, handshakes=("HELLO", "CLIENT", "QUIT")):
    """The spans but for those that the library makes when it connects."""
    want = collections.Counter((words[0], text_of(words)) for words in map(words_of, asked))
    olly.wait_spans(2 * want.total(), lambda s: is_redis(s) and s.name not in handshakes)
    spans = [s for s in olly.spans() if is_redis(s) and s.name not in handshakes]
    for side in ("client", "server"):
        got = collections.Counter(fields_of(s)[:2] for s in spans if s.kind == side)
        assert got == want, f"{side}: missing {dict(want - got)}, too many {dict(got - want)}"
    for span in spans:
        assert span["server.port"] == port and span["olly.incomplete"] is None, span
    olly.assert_nothing_lost()
    return spans


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pub_sub(processes, agent, tmp_path, protocol):
    process, port = server(processes, tmp_path)
    olly = observe(agent, process.pid)
    publisher = redis.Redis(port=port, protocol=protocol)
    asked = []
    subscriber = redis.Redis(port=port, protocol=protocol).pubsub()

    def receive(kind):
        for _ in range(200):
            message = subscriber.get_message(timeout=0.1)
            if message and message["type"] == kind:
                return message
        raise AssertionError(f"no {kind}")

    subscriber.subscribe("a", "b")
    asked.append(("SUBSCRIBE", "a", "b"))
    receive("subscribe"), receive("subscribe")
    subscriber.psubscribe("p*")
    asked.append(("PSUBSCRIBE", "p*"))
    receive("psubscribe")
    for i in range(20):
        asked.append(("PUBLISH", "a", f"m{i}"))
        publisher.publish("a", f"m{i}")
        asked.append(("PUBLISH", "pq", f"m{i}"))
        publisher.publish("pq", f"m{i}")
        receive("message"), receive("pmessage")
    subscriber.ping()
    asked.append(("PING",))
    publisher.publish("b", "x")
    asked.append(("PUBLISH", "b", "x"))
    receive("message")
    subscriber.unsubscribe()
    asked.append(("UNSUBSCRIBE",))
    receive("unsubscribe"), receive("unsubscribe")
    subscriber.punsubscribe("p*")
    asked.append(("PUNSUBSCRIBE", "p*"))
    receive("punsubscribe")
    subscriber.close()
    publisher.close()
    assert_asked(olly, asked, port)


def test_client_side_caching(processes, agent, tmp_path):
    """Invalidations come between the replies; each error must stay with its own command."""
    process, port = server(processes, tmp_path)
    olly = observe(agent, process.pid)
    log = Log()
    tracked = log.client(port, protocol=3, max_connections=1)
    writer = log.client(port, protocol=2, max_connections=1)
    ask(tracked, "CLIENT", "TRACKING", "ON", "BCAST")
    stop = threading.Event()

    def write():
        i = 0
        while not stop.is_set():
            ask(writer, "SET", f"k{i % 7}", i)
            i += 1

    thread = threading.Thread(target=write)
    thread.start()
    for i in range(150):
        ask(tracked, "GET", f"k{i % 7}")
        ask(tracked, "LPUSH", f"k{i % 7}", "no list")
    stop.set()
    thread.join()
    tracked.connection_pool.disconnect()
    writer.connection_pool.disconnect()
    assert_spans(olly, log, port)


def test_bare_socket(processes, agent, tmp_path):
    """Inline commands, a pipeline written by hand in single bytes, CLIENT REPLY."""
    process, port = server(processes, tmp_path)
    olly = observe(agent, process.pid)
    expected = []
    with socket.create_connection(("127.0.0.1", port)) as s:
        reader = s.makefile("rb")

        def say(data, replies, *entries):
            s.sendall(data)
            expected.extend(entries)
            return [reader.readline() for _ in range(replies)]

        assert say(b"PING\r\n", 1, ("PING", "PING", "0", None)) == [b"+PONG\r\n"]
        say(b"set \"a b\" 'c d'\n", 1, ("set", 'set "a b" ?', "0", None))
        assert say(b"GET \"a b\"\r\n\r\nSELECT 2\r\nEXISTS k\r\n", 4, ("GET", 'GET "a b"', "0", None),
                   ("SELECT", "SELECT ?", "0", None), ("EXISTS", "EXISTS k", "2", None))[-1] == b":0\r\n"
        say(b"hunter2\r\n", 1, (None, "?", "2", "ERR"))
        for byte in b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\nLLEN \"a b\"\r\n":
            s.sendall(bytes([byte]))
        assert [reader.readline() for _ in range(2)] == [b":1\r\n", b":0\r\n"]
        expected += [("INCR", "INCR n", "2", None), ("LLEN", 'LLEN "a b"', "2", None)]
        say(b"CLIENT REPLY SKIP\r\nSET n x\r\nLPUSH n x\r\n", 1, ("CLIENT", "CLIENT REPLY ?", "2", None),
            ("SET", "SET n ?", "2", None), ("LPUSH", "LPUSH n ?", "2", "WRONGTYPE"))
    spans = olly.wait_spans(2 * len(expected), is_redis)
    for side in ("client", "server"):
        got = [fields_of(s) for s in spans if s.kind == side]
        assert collections.Counter(got) == collections.Counter(expected)
    assert "hunter2" not in olly.output.read_text()
    olly.assert_nothing_lost()


def test_unix_socket(processes, agent, tmp_path):
    """Client and server over a UNIX socket: each SERVER span is its CLIENT span's child."""
    path = str(tmp_path / "s")
    process, _ = server(processes, tmp_path, "--unixsocket", path)
    olly = observe(agent, process.pid)
    client = redis.Redis(unix_socket_path=path)
    for n in range(30):
        client.set(f"k{n}", "v")
        with client.pipeline(transaction=False) as pipeline:
            pipeline.get(f"k{n}").incr("n").execute()
    client.close()
    wanted = lambda s: is_redis(s) and s.name in ("SET", "GET", "INCRBY")  # noqa: E731
    spans = olly.wait_spans(2 * 90, wanted)
    clients = {s.id: s for s in spans if s.kind == "client"}
    servers = [s for s in spans if s.kind == "server"]
    assert len(clients) == len(servers) == 90
    for span in servers if harness.SEES_YOUNG_UNIX_SOCKETS else ():
        parent = clients[span.parent]
        assert fields_of(parent) == fields_of(span) and parent.trace == span.trace
        assert span["network.transport"] == "unix" and span["server.address"] == path
    olly.assert_nothing_lost()


@pytest.mark.parametrize("depth", [1, 16])
def test_redis_benchmark(processes, agent, tmp_path, depth):
    benchmark = harness.need("redis-benchmark", "redis-tools")
    process, port = server(processes, tmp_path)
    olly = agent([process.pid])
    count = 8000
    subprocess.run([benchmark, "-p", str(port), "-t", "set,get", "-n", str(count), "-c", "10", "-P", str(depth),
                    "-r", "100", "-q"], check=True, capture_output=True, timeout=60)
    chosen = lambda s: is_redis(s) and s.name in ("SET", "GET")  # noqa: E731
    spans = olly.wait_spans(2 * count, chosen, seconds=30)
    assert collections.Counter(s.name for s in spans) == {"SET": count, "GET": count}
    for span in spans:
        assert span.kind == "server" and span.status == 0 and span["olly.incomplete"] is None
        assert span["db.namespace"] == "0"
    olly.assert_nothing_lost()


def test_joined_in_the_middle(processes, agent, tmp_path):
    """The agent comes while connections are in use: no span is wrong, and after a pause there are spans."""
    process, port = server(processes, tmp_path)
    log = Log()
    client = log.client(port, protocol=2, max_connections=1)
    stop = threading.Event()

    def run():
        while not stop.is_set():
            ask(client, "SET", "k", "v")
            ask(client, "LPUSH", "k", "v")

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.2)
    olly = observe(agent, process.pid)
    time.sleep(0.3)
    stop.set()
    thread.join()
    time.sleep(0.1)
    marker = ("GET", "the-last")
    ask(client, *marker)
    olly.wait_spans(2, lambda s: is_redis(s) and s["db.query.text"] == "GET the-last")
    for span in filter(is_redis, olly.spans()):
        assert (span["db.response.status_code"] == "WRONGTYPE") == (span.name == "LPUSH"), span
    client.connection_pool.disconnect()


def test_switched_off(processes, agent, tmp_path):
    process, port = server(processes, tmp_path)
    olly = observe(agent, process.pid, config={"tracing": {"protocols": {"redis": {"enabled": False}}}})
    client = redis.Redis(port=port)
    for _ in range(20):
        client.set("k", "v")
    client.close()
    harness.wait_until(lambda: olly.total("olly_bytes_total", fate="unparsed") > 0, "bytes are unparsed")
    time.sleep(1.5)  # a batch's age
    assert not [s for s in olly.spans() if is_redis(s)]


def node_redis():
    """node-redis below build/, where tests may put what they need."""
    npm, node = harness.need("npm"), harness.need("node", "nodejs")
    home = harness.ROOT / "build" / "e2e" / "node-redis"
    home.mkdir(parents=True, exist_ok=True)
    with harness.locked(home / "lock"):
        if not (home / "node_modules" / "redis").exists():
            done = subprocess.run(
                [npm, "install", "--prefix", str(home), "--no-audit", "--no-fund", "redis@4"],
                capture_output=True, text=True, timeout=300)
            if done.returncode != 0:
                pytest.skip("npm cannot install redis: " + done.stderr.strip()[-200:])
    return node, home / "node_modules"


def test_node_redis(processes, agent, tmp_path):
    """Its pipelines are what it gathers in one turn of its loop."""
    node, modules = node_redis()
    process, port = server(processes, tmp_path)
    go, log = tmp_path / "go", tmp_path / "node.log"
    client = processes.start([node, harness.PROGRAMS / "redis_client.js", port, go, log],
                             env={"NODE_PATH": str(modules)})
    olly = agent([process.pid, client.pid])
    go.write_text("")
    assert client.wait(60) == 0, pathlib.Path(client.log).read_text()
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    spans = assert_asked(olly, [a["args"] for a in asked], port)
    errors = collections.Counter((words_of(a["args"])[0], a["error"]) for a in asked if a["error"])
    for side in ("client", "server"):
        got = collections.Counter(
            (s.name, s["db.response.status_code"]) for s in spans if s.kind == side and s.status == 2)
        assert got == errors
