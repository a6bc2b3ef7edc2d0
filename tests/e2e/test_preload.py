"""libolly.so and the provider `socket`: the spans are those that the kernel's events give."""
import collections
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import harness
import pytest
import workload

SERVERS = ["python", "flask", "node", "nginx-proxy", "nginx-proxy-keepalive"]
CLIENTS = ["http.client", "urllib", "requests", "curl"]


@pytest.fixture
def socket_agent(tmp_path, agent, processes):
    """An agent that listens for libolly.so, and programs that run with it from now on."""
    if not os.path.exists(harness.LIBRARY):
        pytest.fail(f"{harness.LIBRARY} is not built")
    path = tmp_path / "hook.sock"

    def start(config=None, **more):
        config = dict(config or {})
        config["hook"] = {"provider": "socket", "socket_path": str(path), **config.get("hook", {})}
        processes.env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}
        return agent(None, config, **more)

    start.path = path
    start.env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}
    return start


class Client:
    """A client in a process of its own, which waits to be told what to do."""

    def __init__(self, env):
        self.process = subprocess.Popen(
            [sys.executable, harness.PROGRAMS / "client.py"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
        self.pid = self.process.pid

    def do(self, client, port, requests):
        plain = [(m, p, b.decode() if b is not None else None) for m, p, b in requests]
        self.process.stdin.write(
            json.dumps({"client": client, "port": port, "requests": plain}) + "\n")
        self.process.stdin.flush()
        return [workload.Exchange(*e) for e in json.loads(self.process.stdout.readline())]

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0


def start_server(processes, name):
    """(pids, ports of everything, port)."""
    if name.startswith("nginx"):
        backend, upstream = processes.python()
        if name == "nginx-proxy":
            locations, extra = f"location / {{ proxy_pass http://127.0.0.1:{upstream}; }}", ""
        else:
            locations = ('location / { proxy_pass http://up; proxy_http_version 1.1; '
                         'proxy_set_header Connection ""; }')
            extra = f"upstream up {{ server 127.0.0.1:{upstream}; keepalive 16; }}"
        _, port, pids = processes.nginx(locations, extra=extra)
        return [*pids, backend.pid], [port, upstream]
    process, port = getattr(processes, name)()
    return [process.pid], [port]


def described(spans, ports):
    """What can be compared of spans: everything but time, ids and the numbers of ports."""
    names = {str(port): f"PORT{n}" for n, port in enumerate(ports)}

    def value(key, v):
        if key.startswith(("client.port", "network.peer.port", "network.local.port")):
            return "any" if str(v) not in names else names[str(v)]
        return re.sub(r"\d{5}", lambda m: names.get(m[0], m[0]), v) if isinstance(v, str) else (
            names.get(str(v), v) if key.endswith(".port") else v)

    def one(span):
        kept = {k: value(k, v) for k, v in span.attributes.items() if not k.startswith("olly.time.")}
        return (span.service, span.kind, span.name, span.path, span.status,
                json.dumps(kept, sort_keys=True))

    by_id = {s.id: s for s in spans}
    assert len(by_id) == len(spans), "span ids must be unique"
    return collections.Counter(
        (one(s), one(by_id[s.parent])[:4] if s.parent in by_id else s.parent) for s in spans)


def observed(olly, processes, server, client, requests, pids=None, env=None):
    """Runs the workload; the spans, described. None: events were lost, and counted: the records of
    the whole machine share the kernel's rings until it is known whose they are, and the agent may not
    get the CPU that it needs for a ring of the library's. Then this run compares nothing."""
    hops = 4 if server.startswith("nginx") else 2
    server_pids, ports = start_server(processes, server)
    driver = Client(env or {})
    running = olly(pids=[*server_pids, driver.pid]) if pids else olly
    truth = driver.do(client, ports[0], requests)
    driver.end()
    harness.wait_until(
        lambda: len(running.spans()) >= hops * len(truth) or running.total("olly_drops_total"),
        "all spans, or losses")
    if running.total("olly_drops_total"):
        running.stop()
        return None
    spans = running.wait_spans(hops * len(truth))
    running.assert_nothing_lost()
    running.assert_bytes_conserved()
    workload.assert_same([s for s in spans if s.kind == "client" and s.pid not in server_pids], truth)
    return described(spans, ports)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", SERVERS)
def test_same_spans_as_from_the_kernel(processes, agent, socket_agent, server, client):
    requests = workload.plan(16)
    from_kernel = from_library = None
    for _ in range(4):
        from_kernel = from_kernel or observed(agent, processes, server, client, requests, pids=True)
    for _ in range(4):
        from_library = from_library or observed(socket_agent(), processes, server, client, requests,
                                                env=socket_agent.env)
    assert from_kernel and from_library, "events were lost four times: a busy machine"
    missing, extra = from_kernel - from_library, from_library - from_kernel
    assert not missing and not extra, (
        f"only from the kernel ({missing.total()}): {list(missing)[:2]}\n"
        f"only from the library ({extra.total()}): {list(extra)[:2]}")


def test_agent_later_than_the_programs_and_again(processes, socket_agent):
    """Programs run before there is an agent, live through its end, and report to the next one."""
    socket_agent_env = socket_agent.env
    processes.env = socket_agent_env
    server, port = processes.python()
    driver = Client(socket_agent_env)

    def seen_by(olly, tag):
        # Attempts are seconds apart at most 8 s: ask until it is seen.
        end = time.monotonic() + 25
        n = 0
        while time.monotonic() < end:
            driver.do("http.client", port, [("GET", f"/ok/{tag}-{n}", None)])
            n += 1
            kinds = {s.kind for s in olly.spans() if f"/ok/{tag}" in s.path}
            if kinds == {"server", "client"}:
                return
            time.sleep(0.3)
        raise AssertionError(f"{tag}: not seen\n{olly.log.read_text()}")

    assert driver.do("http.client", port, [("GET", "/ok/nobody", None)])[0].status == 200
    first = socket_agent()
    seen_by(first, "first")
    assert first.stop() == 0
    assert not socket_agent.path.exists(), "the agent takes its socket along"
    assert driver.do("http.client", port, [("GET", "/ok/between", None)])[0].status == 200
    second = socket_agent()
    seen_by(second, "second")
    # Killed: it leaves its socket behind, which the next one replaces.
    second.process.send_signal(signal.SIGKILL)
    second.process.wait()
    third = socket_agent()
    seen_by(third, "third")
    third.assert_bytes_conserved()
    driver.end()


def test_fork_and_exec(processes, socket_agent, tmp_path):
    """A server that forks per connection, and a client that is started by a shell by a fork."""
    program = tmp_path / "forking.py"
    program.write_text(
        "import http.server, socketserver, sys, time\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.send_header('Content-Length', '2')\n"
        "        self.end_headers(); self.wfile.write(b'ok')\n"
        "    def log_message(self, *a): pass\n"
        "    def finish(self):\n"
        "        super().finish(); time.sleep(0.2)  # so that /proc can be asked for its name\n"
        "class S(socketserver.ForkingMixIn, http.server.HTTPServer): pass\n"
        "S(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n")
    olly = socket_agent()
    port = harness.free_port()
    server = processes.start([sys.executable, program, port], port)
    for n in range(5):
        subprocess.run(["sh", "-c", f"curl -s http://127.0.0.1:{port}/fork/{n} && true"], check=True,
                       env={**os.environ, **socket_agent.env}, stdout=subprocess.DEVNULL, timeout=20)
    spans = olly.wait_spans(10, lambda s: s.path.startswith("/fork/"))
    clients = {s.path: s for s in spans if s.kind == "client"}
    servers = {s.path: s for s in spans if s.kind == "server"}
    assert len(clients) == len(servers) == 5
    for path, called in servers.items():
        assert called.parent == clients[path].id
        assert called.pid != server.pid, "a child answered"
        assert called.service == "forking"
    assert {s.service for s in clients.values()} == {"curl"}
    olly.assert_nothing_lost()


def test_loss_is_counted(processes, socket_agent):
    """Tiny rings and a stopped agent: what does not fit is counted, and the sum holds."""
    olly = socket_agent()
    processes.env = {**processes.env, "OLLY_HOOK_SOCKET_RING_SIZE": "32KiB"}
    _, port = processes.python()
    workload.keep_alive(port, workload.plan(1))
    olly.wait_spans(1)
    olly.process.send_signal(signal.SIGSTOP)
    truth = workload.keep_alive(port, workload.plan(400))
    assert all(e.status in (200, 404, 500) for e in truth)
    olly.process.send_signal(signal.SIGCONT)
    harness.wait_until(lambda: olly.total("olly_drops_total", cause="ring_full") > 0, "loss is counted")
    olly.assert_bytes_conserved()
    late = workload.keep_alive(port, [("GET", f"/ok/later-{n}", None) for n in range(5)])
    spans = olly.wait_spans(5, lambda s: "later" in s.path)
    workload.assert_same(spans, late)


def test_loss_is_counted_exactly(socket_agent):
    """As many records as calls, or counted as lost; and every byte has its place."""
    olly = socket_agent()
    script = ("import socket, sys\n"
              "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
              "s.sendall(b'POST / HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n')\n"
              "for count in sys.stdin:\n"
              "    for n in range(int(count)): s.sendall(b'12a\\r\\n' + b'x' * 298 + b'\\r\\n')\n"
              "    print('done', flush=True)\n")
    head = len(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    events = lambda: olly.total("olly_events_total", type="io")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        program = subprocess.Popen([sys.executable, "-c", script, str(listening.getsockname()[1])],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, **socket_agent.env, "OLLY_HOOK_SOCKET_RING_SIZE": "32KiB"})
        with listening.accept()[0] as peer:
            threading.Thread(target=lambda: [None for _ in iter(lambda: peer.recv(65536), b"")]).start()

            def send(count):
                program.stdin.write(f"{count}\n")
                program.stdin.flush()
                assert program.stdout.readline() == "done\n"

            send(10)
            harness.wait_until(lambda: events() == 11, "what fits is read")
            olly.process.send_signal(signal.SIGSTOP)
            send(1000)
            olly.process.send_signal(signal.SIGCONT)
            lost = lambda: olly.total("olly_drops_total", cause="ring_full")
            harness.wait_until(lambda: events() + lost() == 1011, "each call is a record or a loss")
            assert 800 < lost() < 1000
            send(1)
            program.stdin.close()
            assert program.wait(20) == 0
    harness.wait_until(lambda: olly.total("olly_bytes_total", fate="seen") == head + 1011 * 305, "each byte")
    assert olly.total("olly_bytes_total", fate="gap") == lost() * 305
    olly.assert_bytes_conserved()


def test_excluded_programs_are_quiet(processes, socket_agent):
    olly = socket_agent({"hook": {"include": [{"service": "wanted"}]}})
    _, wanted = processes.python(env={"OTEL_SERVICE_NAME": "wanted"})
    _, other = processes.python(env={"OTEL_SERVICE_NAME": "other"})
    for port in (other, wanted):
        workload.keep_alive(port, workload.plan(8))
    olly.wait_spans(8)
    time.sleep(1.5)
    assert {s.service for s in olly.spans()} == {"wanted"} and len(olly.spans()) == 8


def test_two_agents_and_what_is_in_the_way(tmp_path, agent, socket_agent):
    first = socket_agent()
    config = tmp_path / "second.yaml"
    config.write_text(json.dumps({
        "hook": {"provider": "socket", "socket_path": str(socket_agent.path)},
        "health": {"enabled": False}}))
    run = lambda: subprocess.run([harness.OLLY, "--config", config], capture_output=True, text=True,
                                 timeout=20, check=False)
    ran = run()
    assert ran.returncode == 1 and "another agent listens on" in ran.stderr, ran
    mode = os.stat(socket_agent.path).st_mode & 0o777
    assert mode == 0o660, oct(mode)
    assert first.stop() == 0
    socket_agent.path.write_text("a file")
    ran = run()
    assert ran.returncode == 1 and "is no socket" in ran.stderr, ran
    assert socket_agent.path.read_text() == "a file"


def test_run_as_an_ordinary_user(tmp_path, processes):
    """`olly run` without privileges: linked spans, the program's own exit status and output."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it up")
    nobody = [harness.need("setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups",
              "--bounding-set", "-all", "--inh-caps", "-all"]
    python = "/usr/bin/python3"  # whoever runs the tests may have one that only he may run
    if not os.path.exists(python):
        pytest.skip("no /usr/bin/python3")
    script = ("import http.server, threading, urllib.request\n"
              "class H(http.server.BaseHTTPRequestHandler):\n"
              "    def do_GET(self): self.send_response(204); self.end_headers()\n"
              "    def log_message(self, *a): pass\n"
              "s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
              "threading.Thread(target=s.serve_forever, daemon=True).start()\n"
              "print(urllib.request.urlopen(f'http://127.0.0.1:{s.server_port}/mine').status)\n"
              "raise SystemExit(7)\n")
    ran = subprocess.run([*nobody, harness.OLLY, "run", "--", python, "-c", script],
                         capture_output=True, text=True, timeout=30, cwd="/",
                         env={**os.environ, "TMPDIR": "/tmp"}, check=False)
    if "failed to execute" in ran.stderr:
        pytest.skip("the build folder is not readable for an unprivileged user")
    assert (ran.returncode, ran.stdout) == (7, "204\n"), ran
    lines = [line for line in ran.stderr.splitlines() if "/mine" in line]
    assert len(lines) == 2 and "CLIENT GET" in lines[0] and "SERVER GET /mine" in lines[1], ran.stderr
    assert lines[1].startswith("  "), "the server is the client's child"


def test_run_says_who_cannot_take_the_library(tmp_path, request):
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it up")
    nobody = [harness.need("setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups",
              "--bounding-set", "-all", "--inh-caps", "-all"]
    reachable = pathlib.Path(tempfile.mkdtemp())  # pytest's own folders are its user's alone
    reachable.chmod(0o755)
    request.addfinalizer(lambda: shutil.rmtree(reachable))
    source = tmp_path / "s.c"
    source.write_text("int main(void) { return 0; }\n")
    static = reachable / "static"
    subprocess.run(["cc", "-static", "-o", str(static), str(source)], check=True)
    shutil.copy(harness.go_server(), reachable / "goserver")
    for program, words in (([static], "statically linked"), ([reachable / "goserver", "1"], "Go"),
                           ([harness.need("su"), "--version"], "setuid")):
        ran = subprocess.run([*nobody, harness.OLLY, "run", "--", *map(str, program)],
                             capture_output=True, text=True, timeout=30, cwd="/", check=False)
        if "failed to execute" in ran.stderr:
            pytest.skip("the build folder is not readable for an unprivileged user")
        assert ran.returncode == 125 and words in ran.stderr and ran.stdout == "", ran


# --- both providers: the kernel's capture, and programs with libolly.so beside it -------------------


@pytest.fixture
def both(tmp_path, agent, processes):
    """An agent with both: start(pids) observes those."""
    path = tmp_path / "hook.sock"

    def start(pids, config=None):
        config = dict(config or {})
        config["hook"] = {"provider": "auto", "socket_path": str(path), **config.get("hook", {})}
        olly = agent(pids, config)
        if "olly_preloaded_programs" not in olly.metrics():
            pytest.skip("libolly.so reports beside the kernel only where its capture is sockio")
        return olly

    start.env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}
    return start


@pytest.mark.parametrize("with_library", ["client", "server", "both"])
@pytest.mark.parametrize("server", ["python", "nginx-proxy-keepalive"])
def test_both_providers_capture_once(processes, both, server, with_library):
    """One span for each exchange and each byte once, and links to those whom only the kernel sees."""
    env = both.env
    processes.env = env if with_library != "client" else {}
    pids, ports = start_server(processes, server)
    driver = Client(env if with_library != "server" else {})
    olly = both([*pids, driver.pid])
    hops = 4 if server.startswith("nginx") else 2
    truth = driver.do("requests", ports[0], workload.plan(40))
    truth += driver.do("http.client", ports[0], workload.plan(20))
    olly.wait_spans(hops * len(truth))
    assert olly.total("olly_preloaded_programs") >= 1
    time.sleep(1)
    spans = olly.spans()
    assert len(spans) == hops * len(truth) == len({s.id for s in spans})
    workload.assert_same([s for s in spans if s.kind == "client" and s.pid == driver.pid], truth)
    by_id = {s.id for s in spans}
    assert all(s.parent in by_id for s in spans if s.kind == "server"), "every server has its client"
    driver.end()
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


def test_the_kernel_is_quiet_for_who_has_the_library(processes, both):
    """A long-lived connection between two such programs: its calls come once, not twice."""
    processes.env = both.env
    server, port = processes.python()
    driver = Client(both.env)
    olly = both([server.pid, driver.pid])
    driver.do("requests", port, [("GET", "/ok/first", None)])
    olly.wait_spans(2)

    driver.do("requests", port, [("GET", f"/ok/{n}", None) for n in range(300)])
    spans = olly.wait_spans(2 + 600)
    assert len(spans) == 602
    timed = [s for s in spans if any(key.startswith("olly.time.") for key in s.attributes)]
    assert len(timed) < 20, "only the kernel's events tell CPU time: of the first calls, then no more"
    driver.end()
    olly.assert_bytes_conserved()


def test_attach_and_detach_in_the_middle(processes, both, tmp_path):
    """Connections that are older than the agent, a program that ends the library's part by exec
    while its connection lives on, and forks."""
    program = tmp_path / "handing_on.py"
    program.write_text(
        "import os, socket, sys, time\n"
        "def ask(s, path):\n"
        "    s.sendall(f'GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'.encode())\n"
        "    got = b''\n"
        "    while b'\\r\\n\\r\\n' not in got or not got.partition(b'\\r\\n\\r\\n')[2]:\n"
        "        got += s.recv(65536)\n"
        "    time.sleep(0.05)\n"
        "if len(sys.argv) == 3:\n"
        "    s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "    ask(s, '/ok/before-the-agent')\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
        "    for n in range(10): ask(s, f'/ok/library-{n}')\n"
        "    if os.fork() == 0:\n"
        "        for n in range(10): ask(s, f'/ok/child-{n}')\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    os.set_inheritable(s.fileno(), True)\n"
        "    os.environ.pop('LD_PRELOAD')\n"
        "    time.sleep(0.3)\n"
        "    os.execv(sys.executable, [sys.executable, sys.argv[0], str(s.fileno())])\n"
        "s = socket.socket(fileno=int(sys.argv[1]))\n"
        "time.sleep(0.5)\n"
        "for n in range(10): ask(s, f'/ok/kernel-{n}')\n")
    server, port = processes.python()
    child = subprocess.Popen([sys.executable, program, str(port), "first"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, env={**os.environ, **both.env})
    assert child.stdout.readline() == "ready\n"
    olly = both([server.pid, child.pid])
    child.communicate("go\n", timeout=40)
    assert child.returncode == 0
    wanted = {f"/ok/{who}-{n}" for who in ("library", "child", "kernel") for n in range(10)}
    olly.wait_spans(60, lambda s: s.path in wanted)
    time.sleep(1)
    for kind in ("client", "server"):
        seen = collections.Counter(s.path for s in olly.spans() if s.kind == kind)
        assert set(seen) == wanted and set(seen.values()) == {1}, seen
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
