"""HTTP/2 and gRPC of real programs: every span is one request or call of the client's own log, field for
field, and nothing else is. Both sides are observed: each SERVER span is its CLIENT span's child.

What becomes of frames that were lost, the recordings have (tests/replay/http2_gap.olly, http2_lost_frames.olly)."""
import collections
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

import harness
import workload

Call = collections.namedtuple("Call", "method status sent received timeout")


def go_program():
    """build/e2e/grpcgo; its modules come from the Go proxy, and stay in build/."""
    go = harness.need("go")
    build = harness.ROOT / "build" / "e2e"
    source = harness.PROGRAMS / "grpcgo"
    target = build / "grpcgo"
    build.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "GOCACHE": str(build / "gocache"), "GOMODCACHE": str(build / "gomodcache"),
           "GOFLAGS": "-modcacherw", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    with open(build / "lock", "w") as lock:  # test processes that run at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(f.stat().st_mtime for f in source.iterdir())
        if not target.exists() or target.stat().st_mtime < newest:
            got = subprocess.run([go, "mod", "download"], cwd=source, env=env, capture_output=True,
                                 text=True, timeout=120)
            if got.returncode != 0:
                pytest.skip("the Go modules could not be had: " + got.stderr.strip()[-200:])
            subprocess.run([go, "build", "-o", target, "."], cwd=source, env=env, check=True)
    return target


def cpp_program():
    """build/e2e/grpccpp, from generated code, with the distribution's gRPC. Ten seconds; less with ccache."""
    for need in ("protoc", "grpc_cpp_plugin", "pkg-config"):
        harness.need(need)
    build = harness.ROOT / "build" / "e2e"
    source = harness.PROGRAMS / "grpccpp"
    work = build / "grpccpp.o"
    target = build / "grpccpp"
    work.mkdir(parents=True, exist_ok=True)
    compiler = [*filter(None, [shutil.which("ccache")]), harness.need("g++", "c++"), "-std=c++17", "-I."]
    run = lambda *command: subprocess.run([*map(str, command)], cwd=work, check=True, text=True,
                                          stdout=subprocess.PIPE).stdout
    with open(build / "lock", "w") as lock:  # test processes that run at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(f.stat().st_mtime for f in source.iterdir())
        if not target.exists() or target.stat().st_mtime < newest:
            run("protoc", "-I", source, "--cpp_out=.", "--grpc_out=.",
                "--plugin=protoc-gen-grpc=" + shutil.which("grpc_cpp_plugin"), source / "stock.proto")
            objects = []
            for file in (source / "main.cpp", "stock.pb.cc", "stock.grpc.pb.cc"):
                objects.append(os.path.basename(file) + ".o")
                run(*compiler, "-c", file, "-o", objects[-1])
            libraries = run("pkg-config", "--libs", "grpc++", "protobuf").split()
            run(*compiler, *objects, "-o", target, *libraries)
    return target


def start_server(processes, what):
    port = harness.free_port()
    command = {
        "python": lambda: [sys.executable, harness.PROGRAMS / "grpc_py.py", "server", port],
        "go": lambda: [go_program(), "server", port],
        "cpp": lambda: [cpp_program(), "server", port],
        "go-h2c": lambda: [go_program(), "h2c", port],
        "node": lambda: [harness.need("node", "nodejs"), harness.PROGRAMS / "h2_node.js", "server", port],
    }[what]()
    return processes.start(command, port), port


class Client:
    """A client program that waits for a line before it begins, and prints a JSON line per operation."""

    def __init__(self, processes, what, *arguments):
        command = {
            "python": lambda: [sys.executable, harness.PROGRAMS / "grpc_py.py", "client"],
            "go": lambda: [go_program(), "client"],
            "cpp": lambda: [cpp_program(), "client"],
            "node": lambda: [harness.need("node", "nodejs"), harness.PROGRAMS / "h2_node.js", "client"],
        }[what]()
        self.process = subprocess.Popen([*map(str, command), *map(str, arguments)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, start_new_session=True)
        processes.running.append(self.process)
        self.pid = self.process.pid

    def run(self, seconds=60):
        out, errors = self.process.communicate(b"go\n", timeout=seconds)
        assert self.process.returncode == 0, errors.decode()[-2000:]
        return [json.loads(line) for line in out.splitlines()]


def call_of(span):
    return Call(span["rpc.method_original"] or span["rpc.method"], span["rpc.response.status_code"],
                span["olly.rpc.request.messages"], span["olly.rpc.response.messages"],
                span["olly.rpc.timeout"] is not None)


def assert_same(got, want):
    got, want = collections.Counter(got), collections.Counter(want)
    missing, extra = want - got, got - want
    assert not missing and not extra, (
        f"missing: {list(missing)[:5]} ({missing.total()}), extra: {list(extra)[:5]} ({extra.total()})")


def assert_children(spans):
    """Each SERVER is the child of the CLIENT that asked for the same, and each CLIENT has one."""
    clients = {s.id: s for s in spans if s.kind == "client"}
    servers = [s for s in spans if s.kind == "server"]
    assert len({s.parent for s in servers}) == len(servers) == len(clients)
    for server in servers:
        client = clients[server.parent]
        assert server.trace == client.trace and server["olly.link.method"] == "connection"
        assert client.start <= server.start and server.end <= client.end or server.status == 2
        yield client, server


def check_grpc(spans, truth):
    # A call that ended early had fewer messages than the caller meant: what went out is not known to it.
    whole = lambda c: c if c.status == "OK" else c._replace(sent=None, received=None)
    want = [whole(Call(**line)) for line in truth]
    assert_same([whole(call_of(s)) for s in spans if s.kind == "client"], want)
    # The caller's clock decides on its deadline; its cancel may reach the server before that one's own.
    blur = lambda c: c._replace(status="late") if c.timeout and c.status in late else c
    late = ("DEADLINE_EXCEEDED", "CANCELLED")
    assert_same([blur(whole(call_of(s))) for s in spans if s.kind == "server"], map(blur, want))
    for span in spans:
        status = span["rpc.response.status_code"]
        assert span["rpc.system.name"] == "grpc"
        assert span["http.request.method"] is None
        assert (span.status == 2) == (status != "OK")
        assert span["error.type"] == (None if status == "OK" else status)
        assert span["olly.incomplete"] is None, span.attributes
        if span["rpc.method"] == "_OTHER":
            assert span.kind == "server" and status == "UNIMPLEMENTED" and span.name == "grpc"
        else:
            assert span.name == span["rpc.method"]
    for client, server in assert_children(spans):
        assert client["rpc.method"] in (server["rpc.method"], server["rpc.method_original"])
        assert "private" not in json.dumps(client.attributes)


# The messages of the C++ ones are protobuf's, of the others plain bytes.
@pytest.mark.parametrize("client, server", [("python", "python"), ("python", "go"), ("go", "python"),
                                            ("go", "go"), ("cpp", "cpp")])
def test_grpc(processes, agent, client, server):
    """1,000 random calls on 20 connections, each of which carries two at a time."""
    process, port = start_server(processes, server)
    caller = Client(processes, client, port, 1000, 20, 7)
    olly = agent([process.pid, caller.pid])
    truth = caller.run()
    assert len(truth) == 1000
    spans = olly.wait_spans(2000, lambda s: s["rpc.system.name"] == "grpc")
    check_grpc(spans, truth)
    assert {s["server.port"] for s in spans} == {port}
    olly.assert_nothing_lost()


@pytest.mark.parametrize("server", ["node"])
def test_h2c_node(processes, agent, server):
    """1,000 requests on 20 connections, five in flight on each."""
    process, port = start_server(processes, server)
    caller = Client(processes, "node", port, 1000, 20)
    olly = agent([process.pid, caller.pid])
    truth = [workload.Exchange(**line) for line in caller.run()]
    assert len(truth) == 1000
    spans = olly.wait_spans(2000, lambda s: s["server.port"] == port)
    for kind in ("client", "server"):
        workload.assert_same([s for s in spans if s.kind == kind], truth)
    for client, span in assert_children(spans):
        assert client.path == span.path
    for span in spans:
        assert span["network.protocol.version"] == "2"
        assert span.name == span["http.request.method"]
        assert span["olly.incomplete"] is None
    olly.assert_nothing_lost()


def curl(port, path, *more):
    got = subprocess.run(["curl", "-s", "-o", "-", "-w", "%{stderr}%{http_code} %{http_version}", *more,
                          f"http://127.0.0.1:{port}{path}"], capture_output=True, check=True, timeout=20)
    status, version = got.stderr.split()
    method = more[more.index("-X") + 1] if "-X" in more else "GET"
    sent = len(more[more.index("-d") + 1]) if "-d" in more else 0
    return workload.Exchange(method, path, int(status), sent, len(got.stdout)), version.decode()


def curl_speaks_http2():
    return "HTTP2" in subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout


@pytest.mark.skipif(not shutil.which("curl") or not curl_speaks_http2(), reason="curl without HTTP/2")
def test_nginx_and_curl(processes, agent):
    """nginx with HTTP/2 in front of an HTTP/1 server: its calls are its requests' children."""
    _, upstream = processes.python()
    master, port, pids = processes.nginx(
        f"location /up {{ proxy_pass http://127.0.0.1:{upstream}/ok; }}", listen="http2")
    (master.html / "large").write_bytes(b"l" * 6_000)
    olly = agent(pids)
    truth = []
    for n in range(5):
        for path in (f"/up/{n}", "/large", f"/none/{n}"):
            done, version = curl(port, path, "--http2-prior-knowledge")
            assert version == "2"
            truth.append(done)
    spans = olly.wait_spans(len(truth) + 5)
    servers = [s for s in spans if s.kind == "server"]
    workload.assert_same(servers, truth)
    by_path = {s.path: s for s in servers}
    calls = [s for s in spans if s.kind == "client"]
    assert len(calls) == 5
    for call in calls:
        parent = by_path["/up" + call.path.removeprefix("/ok")]
        assert call.parent == parent.id and call["olly.link.method"] == "loop"
    olly.assert_nothing_lost()


@pytest.mark.skipif(not shutil.which("curl") or not curl_speaks_http2(), reason="curl without HTTP/2")
@pytest.mark.parametrize("server", ["nginx", "node", "go-h2c"])
def test_large_bodies(processes, agent, server):
    """100 KB to 1 MB: many frames in one call. On a new connection each (curl), and on shared ones (Node)."""
    if server == "nginx":
        master, port, pids = processes.nginx("", listen="http2")
        for size in (100_000, 1_000_000):
            folder = master.html / "size" / str(size)
            folder.mkdir(parents=True)
            for n in range(60):
                (folder / str(n)).write_bytes(b"l" * size)
    else:
        process, port = start_server(processes, server)
        pids = [process.pid]
    caller = Client(processes, "node", port, 20, 2, "large")
    # Tens of MB in a moment: on a busy machine the agent may not get the CPU before 4 MiB are full.
    olly = agent([*pids, caller.pid], {"hook": {"ebpf": {"ring_size": "32MiB"}}})
    truth = [workload.Exchange(**line) for line in caller.run()]
    assert len(truth) == 20 and sum(t.received >= 1_000_000 for t in truth) == 4
    alone = []
    for size in (100_000, 1_000_000):
        for n in range(50, 55):
            alone.append(curl(port, f"/size/{size}/{n}", "--http2-prior-knowledge")[0])
    spans = olly.wait_spans(2 * len(truth) + len(alone), lambda s: s["server.port"] == port)
    lost = [s for s in spans if s["olly.incomplete"] is not None]
    why = (olly.total("olly_drops_total"), olly.total("olly_bytes_total", fate="gap"))
    assert not lost, (why, [(s.kind, s.path, s["olly.incomplete"]) for s in lost])
    # nginx refuses a POST to a file before it has read it: how much of it the client sent is not settled.
    if server == "nginx":
        truth = [t for t in truth if t.method != "POST"]
        spans = [s for s in spans if s["http.request.method"] != "POST"]
    workload.assert_same([s for s in spans if s.kind == "client"], truth)
    workload.assert_same([s for s in spans if s.kind == "server"], truth + alone)
    olly.assert_nothing_lost()
    assert olly.total("olly_bytes_total", fate="gap") == 0


@pytest.mark.skipif(not shutil.which("curl") or not curl_speaks_http2(), reason="curl without HTTP/2")
def test_upgrade(processes, agent):
    """h2c by upgrade: one span per request, with the status of stream 1; and by prior knowledge."""
    process, port = start_server(processes, "go-h2c")
    olly = agent([process.pid])
    truth = []
    for n in range(4):
        for path, more in ((f"/u/{n}", ("--http2",)), ("/missing", ("--http2",)),
                           (f"/p/{n}", ("--http2-prior-knowledge", "-X", "POST", "-d", "12345")),
                           (f"/one/{n}", ("--http1.1",))):
            done, version = curl(port, path, *more)
            assert version == ("1.1" if path.startswith("/one") else "2")
            truth.append(done)
    spans = olly.wait_spans(len(truth))
    workload.assert_same(spans, truth)
    for span in spans:
        assert span["network.protocol.version"] == ("1.1" if span.path.startswith("/one") else "2")
        assert span["olly.incomplete"] is None
    time.sleep(1.2)  # a batch leaves after 1 s
    assert len(olly.spans()) == len(truth), "nothing is counted twice"
    olly.assert_nothing_lost()


def test_joined_in_the_middle(processes, agent):
    """A connection older than the agent: what its table holds is unknown, and nothing is made up."""
    process, port = start_server(processes, "python")
    caller = subprocess.Popen([sys.executable, harness.PROGRAMS / "grpc_py.py", "joined", str(port)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    processes.running.append(caller)
    assert caller.stdout.readline() == b"ready\n"
    olly = agent([process.pid])
    caller.communicate(b"go\n", timeout=20)
    # The first call after that may go by before the connection is recognised.
    spans = olly.wait_spans(3)
    assert len(spans) in (3, 4)
    for span in spans:
        assert span.kind == "server"
        known = span["rpc.method"]
        assert known in (None, "shop.v1.Stock/Both")
        if known is None:
            assert span["olly.incomplete"] == "unknown header fields", span.attributes
            assert span["url.path"] in (None, "/shop.v1.Stock/Both")  # sent anew, so it is known


@pytest.mark.parametrize("off", ["http2", "grpc"])
def test_switches(processes, agent, off):
    """tracing.protocols.http2 and .grpc each leave the other alone."""
    grpc_server, grpc_port = start_server(processes, "python")
    http_server, http_port = start_server(processes, "node")
    calls = Client(processes, "python", grpc_port, 20, 2, 3)
    requests = Client(processes, "node", http_port, 20, 2)
    olly = agent([grpc_server.pid, http_server.pid],
                 {"tracing": {"protocols": {off: {"enabled": False}}}})
    calls.run()
    requests.run()
    spans = olly.wait_spans(20)
    time.sleep(1.2)
    spans = olly.spans()
    assert len(spans) == 20
    assert {s["rpc.system.name"] for s in spans} == ({"grpc"} if off == "http2" else {None})
