"""Header injection (tracing.propagation.inject): real clients to a receiver that nobody observes. Each
request comes with exactly one traceparent, whose ids are those of the exported CLIENT span."""
import http.client
import http.server
import json
import os
import re
import socketserver
import ssl
import subprocess
import threading
import time

import harness
import pytest
import workload
from test_preload import Client
from test_preload_tls import certificate  # noqa: F401

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUESTS = [("GET", "/ok/1", None), ("POST", "/echo/2", b"x" * 100), ("GET", "/size/30000/3", None),
            ("POST", "/echo/4", b"y" * 50_000), ("GET", "/ok/5", None)]


class Receiver:
    """Notes what each request came with."""

    def __init__(self, tls=None):
        seen = self.seen = []
        self.lock = threading.Lock()
        lock = self.lock

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer(b"x" * (int(self.path.split("/")[2]) if "/size/" in self.path else 10))

            def do_POST(self):
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b""
                    while n := int(self.rfile.readline(), 16):
                        body += self.rfile.read(n)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(body)

            def answer(self, body):
                with lock:
                    seen.append((self.path, self.headers.get_all("traceparent", [])))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                     do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def headers(self):
        with self.lock:
            return list(self.seen)


@pytest.fixture
def receive():
    started = []

    def start(tls=None):
        started.append(Receiver(tls))
        return started[-1]

    yield start
    for one in started:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture
def injecting(tmp_path, agent):
    """injecting(destinations): an agent; .env is of programs that report to it."""
    made = []

    def start(destinations=("*",), **config):
        path = tmp_path / f"inject-{len(made)}.sock"
        made.append(path)
        config["hook"] = {"provider": "socket", "socket_path": str(path), **config.get("hook", {})}
        config["tracing"] = {"propagation": {"inject": list(destinations)}, **config.get("tracing", {})}
        olly = agent(None, config)
        olly.env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path),
                    "OLLY_HOOK_SOCKET_ATTACH_WAIT": "10s"}
        return olly

    return start


def ids(header):
    match = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01", header)
    assert match, header
    return match[1], match[2]


def assert_spans_are_what_was_sent(olly, seen):
    """One header each, and the CLIENT span of that path has its ids."""
    assert all(len(headers) == 1 for _, headers in seen), seen
    spans = [s for s in olly.wait_spans(len(seen), lambda s: s.kind == "client")]
    sent = sorted((path, *ids(headers[0])) for path, headers in seen)
    assert sorted((s.path, s.trace, s.id) for s in spans) == sent
    assert olly.total("olly_injected_total") == len(seen)
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
    return spans


def do(env, client, port, requests, more=None):
    driver = Client({**env, **(more or {})})
    truth = driver.do(client, port, requests)
    driver.end()
    assert [e.status for e in truth] == [200] * len(requests)
    for (method, path, body), exchange in zip(requests, truth):
        if method == "POST":
            assert exchange.received == len(body), "the body came whole, and alone"
    return truth


@pytest.mark.parametrize("client", ["http.client", "urllib", "requests", "curl", "asyncio"])
def test_clients(injecting, receive, client):
    olly, receiver = injecting(), receive()
    do(olly.env, client, receiver.port, REQUESTS)
    spans = assert_spans_are_what_was_sent(olly, receiver.headers())
    assert all(not s.parent for s in spans), "nobody's calls"
    assert len({s.trace for s in spans}) == len(spans)


@pytest.mark.parametrize("client", ["http.client", "urllib", "requests", "curl", "asyncio", "curl-gnutls"])
def test_clients_over_tls(injecting, receive, certificate, client):
    olly, receiver = injecting(), receive(certificate)
    requests = [r for r in REQUESTS if not r[2] or len(r[2]) < 10_000]
    do(olly.env, client, receiver.port, requests, {"TEST_TLS_CA": certificate[0]})
    assert_spans_are_what_was_sent(olly, receiver.headers())


def test_large_bodies_over_tls(injecting, receive, certificate):
    """More than a record in one call is left as it is; the bodies are whole, and no header comes twice."""
    olly, receiver = injecting(), receive(certificate)
    for client in ("requests", "asyncio", "curl"):
        do(olly.env, client, receiver.port, [("POST", "/echo/1", b"z" * 200_000)] * 3,
           {"TEST_TLS_CA": certificate[0]})
    assert all(len(headers) <= 1 for _, headers in receiver.headers())
    sent = {ids(headers[0])[1] for _, headers in receiver.headers() if headers}
    spans = olly.wait_spans(9, lambda s: s.kind == "client")
    assert sent <= {s.id for s in spans}
    assert all(s["http.request.body.size"] == 200_000 for s in spans)
    harness.wait_until(lambda: len(sent) + olly.total("olly_not_injected_total", cause="whole") >= 9,
                       "what got no header is counted")


def test_node(injecting, receive, processes):
    olly, receiver = injecting(), receive()
    node = harness.need("node", "nodejs")
    subprocess.run([node, harness.PROGRAMS / "inject_client.js", str(receiver.port), "20"], check=True,
                   timeout=60, env={**os.environ, **olly.env})
    assert len(assert_spans_are_what_was_sent(olly, receiver.headers())) == 40


def test_off_unless_allowed(injecting, receive):
    """Without the key, for other destinations, and where the program has its own."""
    receiver = receive()
    for destinations in ([], ["*.internal"], ["10.0.0.0/8"], [f"127.0.0.1:{receiver.port + 1}"]):
        olly = injecting(destinations)
        do(olly.env, "requests", receiver.port, REQUESTS[:2])
        olly.stop()
    off = injecting(tracing={"protocols": {"http": {"enabled": False}}, "propagation": {"inject": ["*"]}})
    do(off.env, "requests", receiver.port, REQUESTS[:2])
    assert len(receiver.headers()) == 10
    assert all(headers == [] for _, headers in receiver.headers()), receiver.headers()
    olly = injecting([f"127.0.0.*:{receiver.port}"])
    do(olly.env, "http.client", receiver.port, REQUESTS[:1])
    subprocess.run([harness.need("curl"), "-s", "-H", f"traceparent: {PARENT}",
                    f"http://127.0.0.1:{receiver.port}/ok/own"], check=True, env={**os.environ, **olly.env})
    assert len(receiver.headers()[-2][1]) == 1
    assert receiver.headers()[-1] == ("/ok/own", [PARENT])
    own, = [s for s in olly.wait_spans(2) if s.path == "/ok/own"]
    assert (own.trace, own.parent) == (PARENT[3:35], PARENT[36:52])


@pytest.mark.parametrize("traced", [False, True], ids=["root", "traced"])
@pytest.mark.parametrize("server", ["python", "python-tls", "flask"])
def test_what_a_server_calls(injecting, receive, processes, certificate, server, traced):
    """A thread that serves a request and calls: one trace, of the request if that has one."""
    olly, receiver = injecting(), receive()
    processes.env = olly.env
    if server != "flask":
        tls = ["--tls", *certificate] if server == "python-tls" else []
        _, port = processes.python("--call", f"http://127.0.0.1:{receiver.port}", *tls)
    else:
        port = harness.free_port()
        processes.start([harness.sys.executable, harness.PROGRAMS / "flask_app.py", port,
                         f"http://127.0.0.1:{receiver.port}"], port)
    context = ssl.create_default_context(cafile=certificate[0])
    for n in range(5):
        connection = (http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
                      if server == "python-tls" else http.client.HTTPConnection("127.0.0.1", port, timeout=20))
        connection.request("GET", f"/chain/{n}", headers={"traceparent": PARENT} if traced else {})
        assert connection.getresponse().read()
        connection.close()
    spans = olly.wait_spans(15)
    clients = assert_spans_are_what_was_sent(olly, receiver.headers())
    servers = {s.id: s for s in spans if s.kind == "server"}
    assert len(servers) == 5 and len(clients) == 10
    for s in clients:
        assert s.trace == servers[s.parent].trace
        assert s["olly.link.method"] == "thread"
    if traced:
        assert {s.trace for s in spans} == {PARENT[3:35]}
        assert all(s.parent == PARENT[36:52] for s in servers.values())
    else:
        assert len({s.trace for s in spans}) == 5


@pytest.mark.parametrize("tls", [False, True], ids=["", "tls"])
def test_two_agents(injecting, processes, certificate, tls):
    """The agents see one end each, and share nothing but what goes over the wire."""
    one, other = injecting(), injecting([])
    processes.env = other.env
    _, port = processes.python(*(["--tls", *certificate] if tls else []))
    requests = [("GET", f"/ok/{n}", None) for n in range(10)]
    do(one.env, "requests", port, requests, {"TEST_TLS_CA": certificate[0]} if tls else {})
    clients = {s.id: s for s in one.wait_spans(10)}
    servers = other.wait_spans(10)
    for s in servers:
        assert s.kind == "server" and s["olly.link.method"] == "traceparent"
        assert s.parent in clients and s.trace == clients[s.parent].trace and s.path == clients[s.parent].path
    assert len({s.parent for s in servers}) == 10


def test_chain_within_one_agent(injecting, receive, processes):
    """Preloaded client, server and its backend: one trace from end to end, by connection and thread."""
    olly, receiver = injecting(), receive()
    processes.env = olly.env
    _, port = processes.python("--call", f"http://127.0.0.1:{receiver.port}")
    do(olly.env, "http.client", port, [("GET", f"/chain/{n}", None) for n in range(5)])
    spans = olly.wait_spans(20)
    by_id = {s.id: s for s in spans}
    sent = {ids(headers[0]) for _, headers in receiver.headers()}
    assert len(sent) == 10
    for trace, span in sent:
        call = by_id[span]
        server = by_id[call.parent]
        client = by_id[server.parent]
        assert (call.kind, server.kind, client.kind) == ("client", "server", "client")
        assert call.trace == server.trace == client.trace == trace and not client.parent
        assert server["olly.link.method"] == "connection"


POOL = """
import http.client, queue, socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
waiting = queue.Queue()
def work():
    while True:
        client = waiting.get()
        call = http.client.HTTPConnection("127.0.0.1", int(sys.argv[2]))
        call.request("GET", "/ok/pool")
        call.getresponse().read()
        call.close()
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
        client.close()
threading.Thread(target=work, daemon=True).start()
while True:
    client, _ = listener.accept()
    if client.recv(65536):
        waiting.put(client)
"""


def test_a_call_whose_owner_is_found_later(injecting, receive, processes):
    """A worker that was handed the request: no header, counted, and the link inside the process stays."""
    olly, receiver = injecting(), receive()
    processes.env = olly.env
    port = harness.free_port()
    processes.start([harness.sys.executable, "-c", POOL, port, receiver.port], port)
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/ok/pooled")
        assert connection.getresponse().read() == b"ok"
        connection.close()
    spans = olly.wait_spans(6, lambda s: s.path in ("/ok/pool", "/ok/pooled"))
    servers = {s.id for s in spans if s.kind == "server"}
    assert [headers for path, headers in receiver.headers() if path == "/ok/pool"] == [[]] * 3
    assert all(s.parent in servers for s in spans if s.kind == "client")
    harness.wait_until(lambda: olly.total("olly_not_injected_total", cause="owner") >= 3, "they are counted")


def test_socket_loops_are_left_alone(injecting, receive, processes):
    """nginx: whose call it is shows in the order of its events, later than its request goes out."""
    olly, receiver = injecting(), receive()
    processes.env = olly.env
    _, port, _ = processes.nginx(f"location / {{ proxy_pass http://127.0.0.1:{receiver.port}; }}")
    for n in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", f"/ok/{n}")
        assert connection.getresponse().read()
        connection.close()
    spans = olly.wait_spans(10)
    assert [headers for _, headers in receiver.headers()] == [[]] * 5
    assert all(s.parent for s in spans if s.kind == "client")


def test_olly_run(receive, tmp_path):
    """`olly run` gives the program a moment, so that its first request has a header, too."""
    receiver = receive()
    config = tmp_path / "run.yaml"
    out = tmp_path / "out.jsonl"
    config.write_text(json.dumps({"tracing": {"propagation": {"inject": ["127.0.0.1"]}},
                                  "hook": {"provider": "socket", "socket": {"attach_wait": "5s"}},
                                  "health": {"enabled": False}, "exporters": {"file": {"path": str(out)}}}))
    subprocess.run([harness.OLLY, "run", "--config", config, "--", harness.need("curl"), "-s",
                    f"http://127.0.0.1:{receiver.port}/ok/1"], check=True, timeout=60)
    (_, header), = receiver.headers()
    spans = [s for line in out.read_text().splitlines() for s in harness.spans_of(json.loads(line))]
    assert [(s.trace, s.id) for s in spans] == [ids(header[0])]


def test_beside_the_kernel(agent, receive, tmp_path):
    """Both providers at once: the first bytes of a connection may come from either."""
    receiver = receive()
    path = tmp_path / "joint.sock"
    olly = agent(None, {"hook": {"socket_path": str(path)}, "tracing": {"propagation": {"inject": ["*"]}}})
    if "sockio" not in olly.log.read_text():
        pytest.skip("the kernel has no socket tracepoints")
    env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path), "OLLY_HOOK_SOCKET_ATTACH_WAIT": "10s"}
    requests = [("GET", f"/ok/joint-{n}", None) for n in range(20)]
    do(env, "urllib", receiver.port, requests)
    do(env, "http.client", receiver.port, requests)
    assert all(len(headers) == 1 for _, headers in receiver.headers())
    sent = {ids(headers[0]) for _, headers in receiver.headers()}
    mine = lambda s: s.kind == "client" and s.path.startswith("/ok/joint-")
    assert {(s.trace, s.id) for s in olly.wait_spans(40, mine)} == sent
