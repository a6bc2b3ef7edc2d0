"""Real, unmodified programs: every span is one exchange of the client's own log, and nothing else is."""
import concurrent.futures
import os
import random
import threading
import time

import pytest
import workload

CLIENTS = {
    "http.client": workload.keep_alive,
    "urllib": workload.urllib_each,
    "requests": workload.requests_session,
    "curl": workload.curl,
}


def check_spans(spans, truth, kind, began, ended):
    workload.assert_same(spans, truth)
    ids = {s.id for s in spans}
    assert len(ids) == len(spans), "span ids must be unique"
    for span in spans:
        assert span.kind == kind
        assert span.name == span["http.request.method"], "no route is known: the method is the name"
        assert began <= span.start <= span.end <= ended, "event time, inside the test's own time"
        assert span["server.address"] == "127.0.0.1"
        assert span["network.protocol.version"] in ("1.0", "1.1")
        status = span["http.response.status_code"]
        # Status by kind: a server's 4xx is the client's mistake, not its own.
        failed = status >= 500 if kind == "server" else status >= 400
        assert (span.status == 2) == failed, span
        assert (span["error.type"] == str(status)) == failed, span
        assert span["olly.incomplete"] is None


def start_server(processes, name):
    """(pids, port) of one of the servers."""
    if name == "nginx-proxy" or name == "nginx-proxy-keepalive":
        _, upstream = processes.python()
        if name == "nginx-proxy":
            locations, extra = f"location / {{ proxy_pass http://127.0.0.1:{upstream}; }}", ""
        else:
            locations = ('location / { proxy_pass http://up; proxy_http_version 1.1; '
                         'proxy_set_header Connection ""; }')
            extra = f"upstream up {{ server 127.0.0.1:{upstream}; keepalive 16; }}"
        _, port, pids = processes.nginx(locations, extra=extra)
        return pids, port
    process, port = getattr(processes, name)()
    return [process.pid], port


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "server", ["python", "flask", "node", "go", "nginx-proxy", "nginx-proxy-keepalive"])
def test_server_spans(processes, agent, server, client):
    pids, port = start_server(processes, server)
    olly = agent(pids)
    began = time.time_ns()
    truth = CLIENTS[client](port, workload.plan(24))
    ended = time.time_ns() + 1_000_000
    spans = olly.wait_spans(len(truth), lambda s: s.kind == "server")
    check_spans(spans, truth, "server", began - 1_000_000, ended)
    assert {s["server.port"] for s in spans} == {port}
    assert {s.pid for s in spans} <= set(pids)
    assert len({s.service for s in spans}) == 1
    if server.startswith("nginx"):
        assert spans[0].service == "nginx"
    olly.assert_nothing_lost()


def test_nginx_static(processes, agent):
    master, port, pids = processes.nginx("", workers=2)
    (master.html / "small").write_bytes(b"s" * 100)
    (master.html / "large").write_bytes(b"l" * 3_000_000)  # goes out by sendfile
    olly = agent(pids)
    truth = []
    for n in range(10):
        truth += workload.keep_alive(port, [
            ("GET", "/small", None), ("GET", "/large", None), ("HEAD", "/large", None),
            ("GET", f"/none-{n}", None)])
    spans = olly.wait_spans(len(truth), lambda s: s.kind == "server")
    workload.assert_same(spans, truth)
    olly.assert_nothing_lost()


def test_service_names(processes, agent):
    """OTEL_SERVICE_NAME, else the script's name, else the executable's."""
    named, named_port = processes.python(env={"OTEL_SERVICE_NAME": "called-by-env"})
    script, script_port = processes.python()
    binary, binary_port = processes.go()
    olly = agent([named.pid, script.pid, binary.pid])
    for port in (named_port, script_port, binary_port):
        workload.keep_alive(port, workload.plan(1))
    spans = olly.wait_spans(3, lambda s: s.kind == "server")
    names = {s.pid: s.service for s in spans}
    assert names[named.pid] == "called-by-env"
    assert names[script.pid] in ("pyserver", "pyserver.py")
    assert names[binary.pid] == "goserver"


@pytest.mark.parametrize("client", ["http.client", "urllib", "requests"])
def test_client_and_server_are_one_trace(processes, agent, client):
    """This process calls the server: each CLIENT span is the parent of its SERVER span."""
    server, port = processes.python()
    olly = agent([server.pid, os.getpid()])
    truth = CLIENTS[client](port, workload.plan(24))
    on_port = lambda s: s["server.port"] == port
    spans = olly.wait_spans(2 * len(truth), on_port)
    servers = {s.path: s for s in spans if s.kind == "server"}
    clients = {s.path: s for s in spans if s.kind == "client"}
    workload.assert_same(clients.values(), truth)
    workload.assert_same(servers.values(), truth)
    for path, called in servers.items():
        caller = clients[path]
        assert called.parent == caller.id and called.trace == caller.trace, path
        assert caller.start <= called.end and caller.end >= called.start
        assert caller.start <= called.start, "the client begins to write before the server reads"
    olly.assert_nothing_lost()


def test_received_traceparent(processes, agent):
    """The caller is not observed: its header gives trace id and parent."""
    import urllib.request

    server, port = processes.python()
    olly = agent([server.pid])
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    urllib.request.urlopen(urllib.request.Request(
        f"http://127.0.0.1:{port}/ok/tp", headers={"traceparent": f"00-{trace}-{parent}-01"})).read()
    urllib.request.urlopen(urllib.request.Request(
        f"http://127.0.0.1:{port}/ok/bad", headers={"traceparent": f"00-{trace}-{parent}"})).read()
    spans = {s.path: s for s in olly.wait_spans(2, lambda s: s.kind == "server")}
    assert (spans["/ok/tp"].trace, spans["/ok/tp"].parent) == (trace, parent)
    assert spans["/ok/bad"].trace != trace and spans["/ok/bad"].parent == ""


def test_older_connection_is_picked_up(processes, agent):
    """A keep-alive connection that was there before the agent: right role, right spans from then on."""
    import http.client

    server, port = processes.python()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/ok/before")
    connection.getresponse().read()
    olly = agent([server.pid, os.getpid()])
    for n in range(3):
        connection.request("GET", f"/ok/after-{n}")
        connection.getresponse().read()
    spans = olly.wait_spans(6, lambda s: s["server.port"] == port)
    assert sorted((s.kind, s.path) for s in spans) == sorted(
        (kind, f"/ok/after-{n}") for kind in ("client", "server") for n in range(3))
    for s in spans:
        assert (s.kind == "server") == (s.pid == server.pid)
    connection.close()


def test_parallel_clients(processes, agent):
    server, port = processes.python()
    olly = agent([server.pid])
    truth = workload.in_flight(port, workload.plan(400), 32)
    spans = olly.wait_spans(len(truth), lambda s: s.kind == "server")
    workload.assert_same(spans, truth)
    olly.assert_nothing_lost()


def test_thousand_random_operations_on_twenty_connections(processes, agent):
    """Kept alive; both sides are observed, and each SERVER span is its CLIENT span's child."""
    server, port = processes.go()
    olly = agent([server.pid, os.getpid()])
    requests = workload.plan(1000)
    random.Random(20).shuffle(requests)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        done = pool.map(lambda n: workload.keep_alive(port, requests[n::20]), range(20))
        truth = [exchange for each in done for exchange in each]
    assert len(truth) == 1000
    spans = olly.wait_spans(2000, lambda s: s["server.port"] == port)
    clients = {s.id: s for s in spans if s.kind == "client"}
    servers = [s for s in spans if s.kind == "server"]
    workload.assert_same(clients.values(), truth)
    workload.assert_same(servers, truth)
    assert len({s.parent for s in servers}) == 1000
    assert all(clients[s.parent].path == s.path for s in servers)
    olly.assert_nothing_lost()


def test_time_of_a_span(processes, agent):
    """A handler that sleeps: the span lasts at least as long, and says that it was blocked."""
    server, port = processes.python("--delay", "0.15")
    olly = agent([server.pid])
    workload.keep_alive(port, [("GET", "/ok/slow", None)])
    (span,) = olly.wait_spans(1, lambda s: s.kind == "server")
    seconds = (span.end - span.start) / 1e9
    assert 0.15 <= seconds < 1.0
    assert span["olly.time.blocked"] >= 0.14
    assert span["olly.time.cpu"] <= 0.1


def test_exclude(processes, agent):
    wanted, wanted_port = processes.python()
    other, other_port = processes.python()
    olly = agent([wanted.pid, other.pid], {"hook": {
        "include": [{"pid": wanted.pid}, {"pid": other.pid}], "exclude": [{"pid": other.pid}]}})
    for port in (other_port, wanted_port):
        workload.keep_alive(port, workload.plan(8))
    spans = olly.wait_spans(8)
    time.sleep(1.5)  # a batch leaves after 1 s: nothing of the other may come later
    spans = olly.spans()
    assert {s.pid for s in spans} == {wanted.pid} and len(spans) == 8


def test_process_started_later_is_found_by_its_executable(processes, agent):
    pattern = "*/build/e2e/goserver"
    import harness
    harness.go_server()
    olly = agent(config={"hook": {"include": [{"exe": pattern}]}})
    process, port = processes.go()
    truth = workload.keep_alive(port, workload.plan(16))
    spans = olly.wait_spans(16, lambda s: s.pid == process.pid and s.kind == "server")
    workload.assert_same(spans, truth)


def test_threads_that_share_a_keep_alive_pool(processes, agent):
    """Client spans of several threads in this process, each with its own connections."""
    server, port = processes.go()
    olly = agent([os.getpid(), server.pid])
    truth, lock = [], threading.Lock()

    def run():
        done = workload.requests_session(port, workload.plan(40))
        with lock:
            truth.extend(done)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    spans = olly.wait_spans(2 * len(truth), lambda s: s["server.port"] == port)
    for kind in ("client", "server"):
        workload.assert_same([s for s in spans if s.kind == kind], truth)
    olly.assert_nothing_lost()
