"""`olly trace start|stop|status`: capture on demand, in the kernel and in programs with libolly.so."""
import json
import os
import stat
import subprocess
import sys
import time

import harness
import pytest
from test_preload_tls import certificate  # noqa: F401

NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
          "--bounding-set", "-all", "--inh-caps", "-all"]


# One connection; a path a line.
CLIENT = """
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for path in sys.stdin:
    c.request("GET", path.strip())
    r = c.getresponse()
    r.read()
    print(r.status, flush=True)
"""


def trace(olly, word, prefix=()):
    return subprocess.run([*prefix, harness.OLLY, "trace", word, "--config", str(olly.config)],
                          capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture
def on_demand(tmp_path, agent, processes):
    path = tmp_path / "hook.sock"

    def start(provider, pids=None, env=None):
        config = {"hook": {"provider": provider, "socket_path": str(path), "on_demand": True}}
        if pids:
            config["hook"]["include"] = [{"pid": pid} for pid in pids]
        return agent(None, config, env=env)

    start.path = path
    start.env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}
    return start


@pytest.mark.parametrize("provider", ["socket", "ebpf", "auto"])
def test_start_and_stop(processes, on_demand, provider):
    """A connection lives through on, off and on: what it did while capture was off makes no span,
    its bytes are a gap, and it is read again afterwards."""
    env = on_demand.env if provider != "ebpf" else {}
    processes.env = env
    server, port = processes.python()
    driver = subprocess.Popen([sys.executable, "-c", CLIENT, str(port)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
    olly = on_demand(provider, [server.pid, driver.pid])

    def ask(tag, count=6):
        for n in range(count):
            driver.stdin.write(f"/ok/{tag}-{n}\n")
            driver.stdin.flush()
            assert driver.stdout.readline() == "200\n"

    def status(word):
        ran = trace(olly, word)
        assert ran.returncode == 0 and ran.stderr == "", ran
        return ran.stdout

    assert "capture is off" in status("status")
    ask("before")
    time.sleep(0.5)
    assert olly.total("olly_events_total", type="io") == 0
    assert "capture is on" in status("start")
    assert "capture is on" in status("start"), "twice is no mistake"
    assert "capture is on" in status("status")
    ask("first")
    olly.wait_spans(12, lambda s: "first" in s.path)
    assert "capture is off" in status("stop")
    time.sleep(0.1)  # the programs' next call sees it; the rings are read
    seen = olly.total("olly_events_total", type="io")
    ask("dark")
    time.sleep(0.5)
    assert olly.total("olly_events_total", type="io") == seen
    assert "capture is on" in status("start")
    ask("again")
    olly.wait_spans(12, lambda s: "again" in s.path)
    driver.stdin.close()
    assert driver.wait(20) == 0
    time.sleep(1)
    spans = olly.spans()
    tags = {s.path.split("/")[-1].split("-")[0] for s in spans}
    assert tags == {"first", "again"}, tags
    assert len(spans) == 24 == len({s.id for s in spans})
    assert olly.total("olly_bytes_total", fate="gap") > 0
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


# Both over TLS; on stdin of the client: "get PATH", "begin PATH" (half of a request's body), "finish".
TLS_SERVER = """
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    do_POST = do_GET
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:3])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"""
TLS_CLIENT = """
import http.client, ssl, sys
c = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=ssl._create_unverified_context())
for line in sys.stdin:
    word, _, path = line.strip().partition(" ")
    if word == "begin":
        c.putrequest("POST", path)
        c.putheader("Content-Length", "1000")
        c.endheaders(b"x" * 500)
        print("begun", flush=True)
        continue
    if word == "finish":
        c.send(b"x" * 500)
    else:
        c.request("GET", path)
    r = c.getresponse()
    r.read()
    print(r.status, flush=True)
"""


@pytest.mark.parametrize("provider", ["socket", "ebpf", "auto"])
def test_start_and_stop_with_tls(on_demand, certificate, provider):  # noqa: F811
    """The same through TLS, and capture ends within a request: what moved while it was off is missing where
    it was, so that the rest is not read for something else."""
    env = on_demand.env if provider != "ebpf" else {}
    python = ["/usr/bin/python3", "-c"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen([*python, TLS_SERVER, *certificate], env={**os.environ, **env}, **pipes)
    driver = subprocess.Popen([*python, TLS_CLIENT, server.stdout.readline().strip()],
                              env={**os.environ, **env}, **pipes)
    try:
        olly = on_demand(provider, [server.pid, driver.pid])

        def do(line, answer="200"):
            driver.stdin.write(line + "\n")
            driver.stdin.flush()
            assert driver.stdout.readline() == answer + "\n"

        def switch(word):
            assert trace(olly, word).returncode == 0
            time.sleep(0.2)  # the programs' next call sees it; the rings are read

        switch("start")
        if provider != "socket":
            time.sleep(1)  # probes
        for n in range(4):
            do(f"get /first/{n}")
        olly.wait_spans(8, lambda s: "first" in s.path)
        do("begin /half", "begun")
        time.sleep(0.2)
        switch("stop")
        do("finish")
        for n in range(5):
            do(f"get /dark/{n}")
        switch("start")
        for n in range(6):
            do(f"get /again/{n}")
        olly.wait_spans(12, lambda s: "again" in s.path)
        driver.stdin.close()
        assert driver.wait(20) == 0
        time.sleep(1)
        spans = olly.spans()
        names = [s.path.split("/")[1] for s in spans]
        assert (names.count("first"), names.count("again"), names.count("dark")) == (8, 12, 0), names
        # a reader of HTTP finds its feet some messages after a loss, and says so of those before
        odd = [s for s in spans if s["http.response.status_code"] != 200]
        assert all(s["olly.incomplete"] == "lost bytes" for s in odd), odd
        assert {s.path for s in odd} <= {"/half", "/again/0", "/again/1", "/again/2"}, odd
        # of each side five whole exchanges, and what of /half is no body (a body is skipped)
        gap = olly.total("olly_bytes_total", fate="gap")
        assert gap > 2 * 5 * 150, gap
        olly.assert_bytes_conserved()
    finally:
        for one in (driver, server):
            one.kill()
            one.wait()


def test_who_may(processes, on_demand, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it up")
    harness.need("setpriv")
    olly = on_demand("socket")
    control = f"{on_demand.path}.control"
    assert stat.S_IMODE(os.stat(control).st_mode) == 0o600
    for folder in (tmp_path, *tmp_path.parents):
        if stat.S_IMODE(folder.stat().st_mode) & 0o005 != 0o005:
            os.chmod(folder, 0o755)  # pytest's own: of root alone
    os.chmod(olly.config, 0o644)
    ran = trace(olly, "start", NOBODY)
    if "failed to execute" in ran.stderr:
        pytest.skip("the build folder is not readable for an unprivileged user")
    assert ran.returncode == 1 and ran.stdout == "", ran
    assert "somebody else's" in ran.stderr and "only root" in ran.stderr, ran
    assert "capture is off" in trace(olly, "status").stdout
    # Whoever gets past the mode is asked who he is.
    os.chmod(control, 0o666)
    ran = trace(olly, "start", NOBODY)
    assert ran.returncode == 1 and "somebody else's" in ran.stderr, ran
    assert "capture is off" in trace(olly, "status").stdout
    assert olly.stop() == 0
    assert not os.path.exists(control), "the agent takes its socket along"
    ran = trace(olly, "status")
    assert ran.returncode == 1 and "no agent answers" in ran.stderr and "hook.on_demand" in ran.stderr


def test_an_ordinary_users_agent(processes, tmp_path):
    """Agent, program and `olly trace` of one user without privileges; nobody else can reach the
    memory by which the program is switched."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it up")
    harness.need("setpriv")
    import pathlib
    import tempfile
    with tempfile.TemporaryDirectory() as name:
        home = pathlib.Path(name)
        os.chown(home, 65534, 65534)
        config = home / "olly.yaml"
        spans = home / "spans.jsonl"
        port = harness.free_port()
        config.write_text(json.dumps({
            "hook": {"provider": "auto", "socket_path": f"{home}/hook.sock", "on_demand": True},
            "exporters": {"file": {"path": str(spans)}},
            "health": {"address": f"127.0.0.1:{port}"}}))
        run = subprocess.run([*NOBODY, harness.OLLY, "version"], capture_output=True, text=True)
        if run.returncode != 0:
            pytest.skip("the build folder is not readable for an unprivileged user")
        agent = subprocess.Popen([*NOBODY, harness.OLLY, "--config", str(config)],
                                 stderr=subprocess.PIPE, text=True)
        try:
            harness.wait_until(lambda: (home / "hook.sock.control").exists(), "the agent listens")
            ask = lambda word: subprocess.run(
                [*NOBODY, harness.OLLY, "trace", word, "--config", str(config)],
                capture_output=True, text=True, timeout=20, check=False)
            assert "capture is off" in ask("status").stdout
            program = (
                "import http.server, os, sys, threading, urllib.request\n"
                "class H(http.server.BaseHTTPRequestHandler):\n"
                "    def do_GET(self): self.send_response(204); self.end_headers()\n"
                "    def log_message(self, *a): pass\n"
                "s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
                "threading.Thread(target=s.serve_forever, daemon=True).start()\n"
                "for path in sys.stdin:\n"
                "    urllib.request.urlopen(f'http://127.0.0.1:{s.server_port}{path.strip()}').read()\n"
                "    print(os.getpid(), flush=True)\n")
            child = subprocess.Popen(
                [*NOBODY, "/usr/bin/python3", "-c", program], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True, cwd="/",
                env={**os.environ, "LD_PRELOAD": harness.LIBRARY,
                     "OLLY_HOOK_SOCKET_PATH": f"{home}/hook.sock"})

            def call(path):
                child.stdin.write(path + "\n")
                child.stdin.flush()
                return int(child.stdout.readline())

            pid = call("/dark")
            harness.wait_until(lambda: "1 program " in ask("status").stdout, "the program is there")
            # The region is in its memory and nowhere else: no name, no descriptor.
            maps = [line for line in open(f"/proc/{pid}/maps") if "memfd:olly" in line]
            assert maps and all(" rw-s " in line for line in maps)
            held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            assert not [name for name in held if "memfd" in name], held
            reach = ("import sys\n"
                     "try:\n    open(sys.argv[1], 'r+b')\n"
                     "except OSError as e: print(type(e).__name__)\n")
            region = f"/proc/{pid}/map_files/{maps[0].split()[0]}"
            other = [w.replace("65534", "65533") for w in NOBODY]
            tried = subprocess.run([*other, "/usr/bin/python3", "-c", reach, region], cwd="/",
                                   capture_output=True, text=True, timeout=20)
            assert tried.stdout == "PermissionError\n", tried
            with open(region, "r+b") as file:  # not even root can make it shorter
                with pytest.raises(PermissionError):
                    os.ftruncate(file.fileno(), 0)
            assert "capture is on" in ask("start").stdout
            call("/bright")
            harness.wait_until(lambda: spans.exists() and spans.read_text().count("/bright") >= 2,
                               "both spans")
            assert "capture is off" in ask("stop").stdout
            call("/dark")
            child.stdin.close()
            assert child.wait(20) == 0
            time.sleep(0.5)
        finally:
            agent.terminate()
            agent.wait(20)
        assert "/dark" not in spans.read_text()


@pytest.mark.parametrize("words", [[], ["sideways"], ["start", "now"]])
def test_wrong_words(words):
    ran = subprocess.run([harness.OLLY, "trace", *words], capture_output=True, text=True,
                         timeout=20, check=False)
    assert ran.returncode == 2 and ran.stdout == "" and "olly" in ran.stderr, ran


def test_a_path_that_is_taken(tmp_path):
    """Capture that nobody could switch on is no capture: the agent says so and ends."""
    path = tmp_path / "hook.sock"
    (tmp_path / "hook.sock.control").write_text("a file")
    config = tmp_path / "olly.yaml"
    config.write_text(json.dumps({
        "hook": {"provider": "stub", "socket_path": str(path), "on_demand": True},
        "health": {"enabled": False}}))
    ran = subprocess.run([harness.OLLY, "--config", str(config)], capture_output=True, text=True,
                         timeout=20, check=False)
    assert ran.returncode == 1 and "control socket" in ran.stderr and "no socket" in ran.stderr, ran
