"""TLS of programs that move the ciphertext themselves, past the library's sight (memory BIOs: Node,
Python's asyncio): which socket an object of the library stands for is known for certain, or not said.
The client's log has the local port of each request, so a span of another connection would show."""
import json
import os
import subprocess
import sys

import harness
import pytest
import workload
from test_preload import described
from test_preload_tls import certificate, in_the_clear  # noqa: F401
from test_tls_ebpf import tls_agent  # noqa: F401

PAIRS = [("node", "node"), ("aiohttp", "aiohttp"), ("node", "aiohttp"), ("aiohttp", "node")]


class Client:
    """client.js or aiohttp_app.py, which waits to be told what to do."""

    def __init__(self, processes, kind, certificate=None):
        command = {"node": lambda: [harness.need("node", "nodejs"), harness.PROGRAMS / "client.js"],
                   "aiohttp": lambda: [sys.executable, harness.PROGRAMS / "aiohttp_app.py", "client"]}
        self.process = subprocess.Popen(
            [*map(str, command[kind]())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **({"TEST_TLS_CA": certificate[0]} if certificate else {})})
        processes.running.append(self.process)
        self.pid = self.process.pid
        self.ports = {}  # of each path

    def do(self, port, requests, connections):
        plain = [(m, p, b.decode() if b is not None else None) for m, p, b in requests]
        self.process.stdin.write(json.dumps({"port": port, "requests": plain, "connections": connections})
                                 + "\n")
        self.process.stdin.flush()
        done = json.loads(self.process.stdout.readline())
        self.ports.update((e[1], e[5]) for e in done if e[5] is not None)
        return [workload.Exchange(*e[:5]) for e in done]

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0


def assert_right_socket(spans, ports):
    """Those that have a peer have the right one. How many."""
    known = 0
    for s in spans:
        if s.kind == "server" and s["network.peer.port"] is not None and s.path in ports:
            assert s["network.peer.port"] == ports[s.path], (s, ports[s.path])
            known += 1
    return known


def observed(processes, tls_agent, server, client, tls, requests):
    process, port = getattr(processes, server)(*(["--tls", *tls] if tls else []))
    driver = Client(processes, client, tls)
    olly = tls_agent([process.pid, driver.pid])
    truth = driver.do(port, requests, 20)
    spans = olly.wait_spans(2 * len(requests))
    driver.end()
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
    for kind in ("client", "server"):
        workload.assert_same([s for s in spans if s.kind == kind], truth)
    assert assert_right_socket(spans, driver.ports) == len(driver.ports)
    clients = {s.path: s for s in spans if s.kind == "client"}
    for s in spans:
        if s.kind == "server":
            assert s.parent == clients[s.path].id and s["olly.link.method"] == "connection", s
    assert olly.stop() == 0
    return spans, [port]


@pytest.mark.parametrize("server, client", PAIRS)
def test_same_spans_as_in_the_clear(processes, tls_agent, certificate, server, client):  # noqa: F811
    """1,000 requests on 20 connections of one loop thread on each side: span by span the client's log, and
    those of the same workload in the clear."""
    requests = workload.plan(1000 if server == client else 100, chunked=False)
    spans, ports = observed(processes, tls_agent, server, client, certificate, requests)
    for s in spans:
        assert s["tls.protocol.name"] == "tls" and s["tls.protocol.version"] == "1.3", s
        scheme = s["url.scheme"] if s.kind == "server" else s["url.full"].partition(":")[0]
        assert scheme == "https", s
    over_tls = in_the_clear(described(spans, ports))
    plain = described(*observed(processes, tls_agent, server, client, None, requests))
    missing, extra = plain - over_tls, over_tls - plain
    assert not missing and not extra, (
        f"only in the clear ({missing.total()}): {list(missing)[:2]}\n"
        f"only over TLS ({extra.total()}): {list(extra)[:2]}")


def test_http2_by_alpn(processes, tls_agent, certificate):  # noqa: F811
    """Node's http2 on both sides, chosen by ALPN: several streams in flight on each of four connections."""
    node, port = harness.need("node", "nodejs"), harness.free_port()
    program = harness.PROGRAMS / "h2_node.js"
    server = processes.start([node, program, "server", port], port,
                             {"TEST_TLS_CERTIFICATE": certificate[0], "TEST_TLS_KEY": certificate[1]})
    client = subprocess.Popen([node, program, "client", str(port), "400", "4"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, env={**os.environ, "TEST_TLS_CA": certificate[0]})
    processes.running.append(client)
    olly = tls_agent([server.pid, client.pid])
    out, _ = client.communicate(b"go\n", timeout=60)
    assert client.returncode == 0
    truth = [workload.Exchange(*(json.loads(line)[k] for k in workload.Exchange._fields))
             for line in out.splitlines()]
    assert len(truth) == 400
    spans = olly.wait_spans(800)
    clients = {s.path: s for s in spans if s.kind == "client"}
    for kind in ("client", "server"):
        workload.assert_same([s for s in spans if s.kind == kind], truth)
    for s in spans:
        assert s["network.protocol.version"] == "2" and s["tls.protocol.name"] == "tls", s
        if s.kind == "server":
            assert s["url.scheme"] == "https" and s.parent == clients[s.path].id, s
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


@pytest.mark.parametrize("kind", ["node", "aiohttp"])
def test_agent_later_than_the_connections(processes, tls_agent, certificate, kind):  # noqa: F811
    """20 connections that were open before the agent: every request from the second on of each end is a
    span. None has a socket that it does not have; in the end all have theirs."""
    process, port = getattr(processes, kind)("--tls", *certificate)
    driver = Client(processes, kind, certificate)
    driver.do(port, workload.plan(100, chunked=False), 20)
    olly = tls_agent([process.pid, driver.pid])
    driver.do(port, workload.plan(200, chunked=False), 20)  # by the end of it every connection is met
    truth = driver.do(port, workload.plan(400, chunked=False), 20)
    paths = {e.path for e in truth}
    spans = olly.wait_spans(800, lambda s: s.path in paths)
    for side in ("client", "server"):
        workload.assert_same([s for s in spans if s.kind == side], truth)
    assert all(s["tls.protocol.name"] == "tls" for s in spans)
    known = assert_right_socket(olly.spans(), driver.ports)
    last = [s for s in spans if s.kind == "server"][-100:]
    assert all(s["network.peer.port"] is not None for s in last), (known, len(last))
    driver.end()
    olly.assert_bytes_conserved()
