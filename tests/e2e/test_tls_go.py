"""Go's crypto/tls as the kernel's probes see it: programs of net/http, stripped or not. The spans are what the
client did, one for one, and those of the same workload in the clear.

E2E_GO_VERSIONS="1.18.10 1.22.12" adds programs of these Go versions (`make test-go-versions`)."""
import json
import os
import subprocess

import harness
import pytest
import workload
from test_preload import described
from test_preload_tls import certificate, in_the_clear  # noqa: F401
from test_tls_ebpf import tls_agent  # noqa: F401

STRIPPED = ("-ldflags=-s -w",)
KERNEL_PROGRAM = harness.ROOT / "tests" / "kernel" / "programs" / "kt_go_tls" / "main.go"
VERSIONS = os.environ.get("E2E_GO_VERSIONS", "").split()


class Client:
    """goclient: its connections live from one job to the next."""

    def __init__(self, processes, http="http1", tls=None, flags=(), version=None, host="127.0.0.1", newest=""):
        self.host = host
        self.process = subprocess.Popen(
            [harness.go_build("goclient", flags, version), http], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "TEST_TLS_CA": tls[0] if tls else "", "TEST_TLS_MAX": newest})
        processes.running.append(self.process)
        self.pid = self.process.pid
        self.scheme = "https" if tls else "http"

    def do(self, port, requests, connections=1):
        plain = [(m, p, b.decode() if b is not None else None) for m, p, b in requests]
        self.process.stdin.write(json.dumps({"url": f"{self.scheme}://{self.host}:{port}", "requests": plain,
                                             "connections": connections}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the client has ended"
        return [workload.Exchange(*e) for e in json.loads(line)]


def start_server(processes, tls=None, flags=(), version=None):
    port = harness.free_port()
    env = {"TEST_TLS_CERT": tls[0], "TEST_TLS_KEY": tls[1]} if tls else {}
    return processes.start([harness.go_build("goserver", flags, version), port], port, env=env), port


def observed(processes, tls_agent, requests, tls, http="http1", connections=1, **programs):
    server, port = start_server(processes, tls, **programs)
    client = Client(processes, http, tls, **programs)
    olly = tls_agent([server.pid, client.pid])
    truth = client.do(port, requests, connections)
    spans = olly.wait_spans(2 * len(truth))
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
    for kind in ("client", "server"):
        workload.assert_same([s for s in spans if s.kind == kind], truth)
    servers = {s.path: s for s in spans if s.kind == "server"}
    assert all(servers[s.path].parent == s.id for s in spans if s.kind == "client")
    if tls:
        for s in spans:
            assert s["tls.protocol.version"] == "1.3" and s["tls.cipher"].startswith("TLS_"), s
            assert s["network.protocol.version"] == ("2" if http == "http2" else "1.1"), s
    assert olly.stop() == 0
    return spans, [port]


@pytest.mark.parametrize("programs", [{}, {"flags": STRIPPED}, *({"version": v} for v in VERSIONS)],
                         ids=lambda p: p.get("version") or ("stripped" if p else "whole"))
def test_same_spans_as_in_the_clear(processes, tls_agent, certificate, programs):
    requests = workload.plan(24)
    over_tls = observed(processes, tls_agent, requests, certificate, **programs)
    plain = described(*observed(processes, tls_agent, requests, None, **programs))
    over_tls = in_the_clear(described(*over_tls))
    missing, extra = plain - over_tls, over_tls - plain
    assert not missing and not extra, (
        f"only in the clear ({missing.total()}): {list(missing)[:2]}\n"
        f"only over TLS ({extra.total()}): {list(extra)[:2]}")


@pytest.mark.parametrize("http", ["http1", "http2"])
def test_many_connections_at_once(processes, tls_agent, certificate, http):
    """1,000 requests on 20 connections at once: a span for each on each side, linked; what is read and
    written moves from thread to thread."""
    observed(processes, tls_agent, workload.plan(1000), certificate, http, 20, flags=STRIPPED)


def test_http2(processes, tls_agent, certificate):
    """ALPN chooses HTTP/2; on one connection."""
    observed(processes, tls_agent, workload.plan(24), certificate, "http2")


@pytest.mark.parametrize("newest", ["1.2", "1.3"])
def test_names_of_the_handshake(processes, tls_agent, certificate, newest):
    """Version and server name, on both sides; ALPN where it is said in the clear."""
    server, port = start_server(processes, certificate, STRIPPED)
    client = Client(processes, "http2", certificate, STRIPPED, host="localhost", newest=newest)
    olly = tls_agent([server.pid, client.pid])
    client.do(port, workload.plan(4))
    spans = olly.wait_spans(8)
    for s in spans:
        assert s["tls.protocol.version"] == newest and s["tls.client.server_name"] == "localhost", s
        assert s["tls.next_protocol"] == ("h2" if newest == "1.2" else None), s
        assert s["network.protocol.version"] == "2" and s["tls.cipher"].startswith("TLS_"), s
    assert {s.kind for s in spans} == {"client", "server"}
    olly.assert_bytes_conserved()


def test_agent_later_than_the_connections(processes, tls_agent, certificate):
    """Connections that were there before the agent: seen from their next message on, each once. A server
    says first what it answers: the request that its answer is for was read on a socket nobody knew."""
    server, port = start_server(processes, certificate)
    client = Client(processes, "http1", certificate)
    client.do(port, workload.plan(8), 4)
    olly = tls_agent([server.pid, client.pid])
    first, rest = workload.plan(4), workload.plan(40)
    truth = client.do(port, first, 4)
    later = client.do(port, rest, 4)
    spans = olly.wait_spans(2 * len(later) + len(truth))
    workload.assert_same([s for s in spans if s.kind == "client"], truth + later)
    workload.assert_same([s for s in spans if s.kind == "server"], later)
    for s in spans:
        assert s["tls.protocol.name"] == "tls", s
    olly.assert_bytes_conserved()


def test_check_names_the_sites(processes, certificate):
    server, _ = start_server(processes, certificate, flags=STRIPPED)
    ran = subprocess.run([harness.OLLY, "check", "--json"], capture_output=True, text=True, check=False)
    found = [f for f in json.loads(ran.stdout)["tls"] if f["path"] == os.readlink(f"/proc/{server.pid}/exe")]
    assert len(found) == 1 and found[0]["library"].startswith("crypto/tls of Go 1."), found
    assert {s["function"] for s in found[0]["sites"]} == {"(*Conn).Read", "(*Conn).Write", "handshakes"}


def test_random_sizes(processes, tls_agent):
    """Reads of one byte, writes of several records, while stacks move and memory is given back: never a
    wrong byte."""
    program = subprocess.Popen([harness.go_build("kt_go_tls", source=KERNEL_PROGRAM), "7"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    processes.running.append(program)
    olly = tls_agent([program.pid])
    asked = program.communicate("go\n", timeout=60)[0].removeprefix("pause begin\n").split()
    assert program.returncode == 0 and len(asked) == 200
    spans = olly.wait_spans(400)
    workload.assert_sizes(spans, asked)
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
