"""What the agent must survive, each with a clear message or counter: no crash, no loss, no harm."""
import os
import random
import signal
import socket
import subprocess
import threading
import time

import harness
import pytest
import workload


def dead_end(behaviour):
    """A TCP server for exporters to fail at: 'slow' never answers, 'close' hangs up mid-request."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    kept = []

    def serve():
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            if behaviour == "close":
                peer.recv(10)
                peer.close()
            else:
                kept.append(peer)

    threading.Thread(target=serve, daemon=True).start()
    return listener, listener.getsockname()[1]


def test_hostile_bytes(processes, agent):
    """Malformed requests and plain noise, whole and in pieces, at a real server and at a dumb one."""
    server, port = processes.python()
    dumb = socket.create_server(("127.0.0.1", 0))

    def answer_noise():
        noise = random.Random(5)
        while True:
            try:
                peer, _ = dumb.accept()
            except OSError:
                return
            try:
                peer.recv(65536)
                peer.sendall(noise.randbytes(noise.randrange(1, 9000)))
            except OSError:
                pass
            peer.close()

    threading.Thread(target=answer_noise, daemon=True).start()
    olly = agent([server.pid, os.getpid()])
    rng = random.Random(7)
    seeds = [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET " + b"a" * 20000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3000 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c: folded\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(40),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"", b"\0" * 5000, b"\r\n" * 4000,
    ]
    for n in range(300):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(0, 4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            with socket.create_connection(
                    ("127.0.0.1", port if n % 2 else dumb.getsockname()[1]), 2) as s:
                s.settimeout(0.05)
                cut = rng.randrange(len(data) + 1)
                s.sendall(data[:cut])
                s.sendall(data[cut:])
                s.recv(1000)
        except OSError:
            pass
    dumb.close()
    truth = workload.keep_alive(port, workload.plan(8))
    paths = {e.path for e in truth}
    workload.assert_same(
        olly.wait_spans(8, lambda s: s.kind == "server" and s.path in paths), truth)
    assert olly.get("/health")[0] == 200
    olly.assert_bytes_conserved()
    olly.assert_nothing_lost()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("behaviour", ["absent", "slow", "close"])
def test_destination_that_fails(processes, agent, behaviour, protocol):
    """The file gets everything, /ready stays 200, failures are counted, SIGTERM still takes < 5 s."""
    server, port = processes.python()
    listener = None
    if behaviour == "absent":
        target = harness.free_port()
    else:
        listener, target = dead_end(behaviour)
    # The harness adds the file exporter; both are on.
    olly = agent([server.pid], {"exporters": {"otlp": {
        "endpoint": f"http://127.0.0.1:{target}", "protocol": protocol, "timeout": "2s"}}})
    truth = workload.in_flight(port, workload.plan(200), 8)
    workload.assert_same(olly.wait_spans(200, lambda s: s.kind == "server"), truth)
    assert olly.get("/ready")[0] == 200
    began = time.monotonic()
    assert olly.stop() == 0
    assert time.monotonic() - began < 5
    if listener:
        listener.close()


def test_sigterm_in_the_middle_of_load(processes, agent):
    """Flushes what it has seen, ends with 0 within five seconds; the load does not notice."""
    server, port = processes.python()
    olly = agent([server.pid])
    failures, done, ended = [], [], threading.Event()

    def load():
        while not ended.is_set():
            try:
                done.extend(workload.keep_alive(port, workload.plan(8)))
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for t in threads:
        t.start()
    time.sleep(2)
    before = len(done)
    assert olly.stop() == 0
    time.sleep(0.5)
    ended.set()
    for t in threads:
        t.join()
    assert not failures
    paths = {s.path for s in olly.spans() if s.kind == "server"}
    missing = [e.path for e in done[:before] if e.path not in paths]
    assert not missing, f"{len(missing)} of {before} exchanges that were over are not in the file"


def test_twenty_thousand_connections_in_a_minute(processes, agent):
    _, port, pids = processes.nginx("location / { return 200 'ok'; }")
    olly = agent(pids)
    request = b"GET /c HTTP/1.0\r\n\r\n"
    before = harness.rss_kib(olly.pid)
    began = time.monotonic()

    def run(count):
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", port), 10) as s:
                s.sendall(request)
                while s.recv(4096):
                    pass

    threads = [threading.Thread(target=run, args=(5000,)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.monotonic() - began
    spans = olly.wait_spans(20000, lambda s: s.path == "/c", seconds=60)
    assert len(spans) == 20000
    after = harness.rss_kib(olly.pid)
    print(f"\n20000 connections in {seconds:.1f} s, RSS {before} -> {after} KiB")
    assert seconds < 60
    assert after < before + 12 * 1024, "memory is bounded"
    harness.wait_until(lambda: olly.total("olly_connections") <= 4, "what is closed is forgotten")
    assert olly.total("olly_connections_opened_total") >= 20000
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


def test_process_killed_with_open_connections(processes, agent):
    server, port = processes.python("--delay", "5")
    olly = agent([server.pid, os.getpid()])
    sockets, sent = [], 0
    for n in range(20):
        s = socket.create_connection(("127.0.0.1", port))
        request = f"GET /ok/killed-{n} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        s.sendall(request)
        sent += len(request)
        sockets.append(s)
    # Both ends are observed: sent here, read there.
    harness.wait_until(lambda: olly.total("olly_bytes_total", fate="seen") >= 2 * sent,
                       "the server has read every request")
    server.kill()
    server.wait()
    for s in sockets:
        try:
            s.recv(10)
        except OSError:
            pass
        s.close()
    spans = olly.wait_spans(40, lambda s: s.path.startswith("/ok/killed-"))
    assert {s["http.response.status_code"] for s in spans} == {None}
    assert all(s["error.type"] for s in spans), "a request without a response is an error"
    assert len(spans) == 40
    harness.wait_until(lambda: olly.total("olly_connections") == 0, "its connections are forgotten")
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


def test_agent_killed_and_started_again(processes, agent):
    """The programs go on unharmed; the new agent picks up the connections that are open."""
    import http.client

    server, port = processes.python()
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(path):
        connection.request("GET", path)
        return connection.getresponse().read()

    first = agent([server.pid, os.getpid()])
    assert ask("/ok/one") == b"ok one"
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert ask("/ok/two") == b"ok two"
    second = agent([server.pid, os.getpid()])
    assert ask("/ok/three") == b"ok three"
    spans = second.wait_spans(2, lambda s: s.path == "/ok/three")
    assert {(s.kind, s.pid) for s in spans} == {("server", server.pid), ("client", os.getpid())}
    assert not [s for s in second.spans() if s.path == "/ok/two"]
    connection.close()


def run_olly(*arguments, **more):
    return subprocess.run([harness.OLLY, *map(str, arguments)], capture_output=True, text=True,
                          timeout=20, check=False, **more)


def test_without_privileges_it_says_what_is_missing(tmp_path):
    asked = {"env": {**os.environ, "OLLY_HOOK_PROVIDER": "ebpf"}}
    if os.geteuid() != 0:
        ran = run_olly("run", "true", **asked)
    else:
        setpriv = harness.need("setpriv")
        ran = subprocess.run(
            [setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups",
             "--bounding-set", "-all", "--inh-caps", "-all", harness.OLLY, "run", "--", "true"],
            capture_output=True, text=True, timeout=20, check=False, cwd="/", **asked)
        if "failed to execute" in ran.stderr:
            pytest.skip("the build folder is not readable for an unprivileged user")
    assert ran.returncode == 125, (ran.returncode, ran.stderr)
    assert "CAP_" in ran.stderr


WITHOUT_BTF = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
               'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh"]


@pytest.fixture
def without_btf():
    """A command before another one, for which the kernel's type information is not there."""
    if os.geteuid() != 0:
        pytest.skip("hiding /sys/kernel/btf needs root")
    harness.need("unshare")
    if subprocess.run([*WITHOUT_BTF, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace with a tmpfs over /sys/kernel/btf here")
    return WITHOUT_BTF


def test_kernel_without_btf(without_btf, agent):
    """Asked for the kernel, `olly run` refuses before the program starts; the agent looks for another
    provider, and without one goes on without capture and says why."""
    asked = {**os.environ, "OLLY_HOOK_PROVIDER": "ebpf"}
    ran = subprocess.run([*without_btf, harness.OLLY, "run", "--", "echo", "started"],
                         capture_output=True, text=True, timeout=20, check=False, env=asked)
    assert ran.returncode == 125 and "BTF" in ran.stderr, ran
    assert "started" not in ran.stdout
    checked = subprocess.run([*without_btf, harness.OLLY, "check"], capture_output=True, text=True,
                             timeout=20, check=False)
    assert "BTF" in checked.stdout and "Traceback" not in checked.stderr, checked
    # A file is where the socket's folder would be.
    olly = agent(config={"hook": {"socket_path": "/etc/hostname/hook.sock"}}, prefix=without_btf,
                 ready=False)
    harness.wait_until(lambda: olly.get("/health")[0] == 200, "the agent lives")
    assert olly.get("/ready")[0] == 503, "nothing is captured"
    text = olly.log.read_text()
    assert "BTF" in text and "stub" in text and "/etc/hostname" in text, text


@pytest.mark.parametrize("text, place, words", [
    ("tracing:\n  enabeld: true\n", ":2:3", ["enabeld"]),
    ("capture:\n  max_bytes_per_call: lots\n", ":2:23", ["lots"]),
    ("log_level: loud\n", ":1:12", ["debug", "info", "warn", "error"]),
    ("tracing: {}\ntracing: {}\n", ":2:1", ["tracing"]),
    ("profiling:\n  enabled: true\n", ":1", ["not supported yet"]),
])
def test_configuration_mistakes(tmp_path, text, place, words):
    file = tmp_path / "olly.yaml"
    file.write_text(text)
    ran = run_olly("--config", file)
    assert ran.returncode == 2, ran.stderr
    assert f"{file}{place}" in ran.stderr
    for word in words:
        assert word in ran.stderr
