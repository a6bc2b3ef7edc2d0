"""Starts the agent and real programs for the end-to-end tests, and reads what the agent said.

Environment: E2E_OLLY (the agent; default build/olly), E2E_CAPTURE (hook.ebpf.capture of every agent).
What the agent itself takes from its environment (OLLY_*, OTEL_*) is not handed on: a caller's variable
would change, or add a warning to, what the tests look at.
"""
import collections
import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROGRAMS = HERE / "programs"
OLLY = os.environ.get("E2E_OLLY", str(ROOT / "build" / "olly"))
LIBRARY = os.environ.get("E2E_LIBRARY", str(ROOT / "build" / "libolly.so"))

for name in [n for n in os.environ if n.startswith(("OLLY_", "OTEL_"))]:
    del os.environ[name]

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


# Below the kernel's range for outgoing connections, so that no client takes a port between here and
# the server's listen(); a range of its own for each of the test processes that run at once, and a lock
# for each port, kept until this process ends: other test runs on this machine look for ports, too.
_ports = itertools.count(12000 + 2000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))
_locks = []


def free_port():
    directory = pathlib.Path(tempfile.gettempdir()) / f"olly-e2e-ports-{os.geteuid()}"
    directory.mkdir(exist_ok=True)
    for port in _ports:
        lock = open(directory / str(port), "w")
        with socket.socket() as s:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                s.bind(("127.0.0.1", port))
            except OSError:
                lock.close()
                continue
        _locks.append(lock)
        return port


def wait_until(condition, what, seconds=40, every=0.02):
    """For everything that another thread or process does: that A has been seen says nothing of B, which
    comes right after it. The time is what a machine that is busy with other work may need."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {what}")


def listening(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), 0.3).close()
        return True
    except OSError:
        return False


def listeners(pid, port):
    """Inodes of the sockets that listen on the TCP port in the network namespace of this process."""
    out = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        out |= {f[9] for f in map(str.split, lines)
                if f[3] == "0A" and int(f[1].rpartition(":")[2], 16) == port}
    return out


def listens(pid, port):
    """Whether something listens on the TCP port in the network namespace of this process."""
    return bool(listeners(pid, port))


def serves(pid, port):
    """Whether it is this process (or a child of it) that listens on the TCP port: another program's
    listener would be taken for it, and tested in its place."""
    try:
        wanted = {f"socket:[{inode}]" for inode in listeners(pid, port)}
        return any(os.readlink(fd) in wanted for one in (pid, *children(pid))
                   for fd in pathlib.Path(f"/proc/{one}/fd").iterdir())
    except OSError:  # it is only beginning, or a descriptor was closed just now
        return False


def rss_kib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


class Processes:
    """Programs of one test; all of them are ended with it, by pid."""

    def __init__(self, tmp):
        self.tmp = tmp
        self.running = []
        self.env = {}  # of every program

    def start(self, command, port=None, env=None, prefix=(), host="127.0.0.1", check_port=True):
        log = open(self.tmp / f"program-{len(self.running)}.log", "w")
        process = subprocess.Popen(
            [*prefix, *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, **self.env, **(env or {})}, start_new_session=True)
        process.log = log.name
        self.running.append(process)
        if port and check_port:
            wait_until(lambda: serves(process.pid, port) and listening(port, host)
                       or process.poll() is not None, f"{command[0]} listens")
            assert process.poll() is None, pathlib.Path(log.name).read_text()
        return process

    def stop_all(self):
        for process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- the programs ---------------------------------------------------------------------------
    def python(self, *args, env=None):
        port = free_port()
        return self.start([sys.executable, PROGRAMS / "pyserver.py", port, *args], port, env), port

    def flask(self):
        port = free_port()
        return self.start([sys.executable, PROGRAMS / "flask_app.py", port], port), port

    def node(self, *args):
        node = need("node", "nodejs")
        port = free_port()
        return self.start([node, PROGRAMS / "server.js", port, *args], port), port

    def aiohttp(self, *args):
        port = free_port()
        return self.start([sys.executable, PROGRAMS / "aiohttp_app.py", "server", port, *args], port), port

    def go(self, *args):
        port = free_port()
        return self.start([go_server(), port, *args], port), port

    def nginx(self, locations, workers=1, extra="", listen=""):
        """nginx with these location blocks; returns (master, port, pids of all its processes)."""
        nginx = need("nginx")
        port = free_port()
        home = self.tmp / f"nginx-{port}"
        (home / "html").mkdir(parents=True)
        home.chmod(0o755)
        (home / "nginx.conf").write_text(f"""
user root;
worker_processes {workers};
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  client_max_body_size 0;
  keepalive_requests 1000000;
  {extra}
  server {{ listen 127.0.0.1:{port} {listen}; root {home}/html; {locations} }}
}}
""")
        master = self.start([nginx, "-p", home, "-c", home / "nginx.conf"], port)
        # The master listens before it has its workers.
        wait_until(lambda: len(children(master.pid)) == workers, "nginx has its workers")
        master.html = home / "html"
        return master, port, [master.pid, *children(master.pid)]


def children(pid):
    path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [int(p) for p in path.read_text().split()]


def need(*names):
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    pytest.skip(f"{names[0]} is not installed")


@contextlib.contextmanager
def locked(path):
    """One of the test processes that run at once is in here at a time."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def go_build(name, flags=(), version=None, source=None):
    """build/e2e/NAME of programs/NAME/main.go, or of another source; flags and another version make another file."""
    go = need("go")
    variant = "".join(c if c.isalnum() else "-" for c in "".join([name, *flags, version or ""]))
    target = ROOT / "build" / "e2e" / variant
    source = source or PROGRAMS / name / "main.go"
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent / "lock"):
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            env = {"GOCACHE": str(ROOT / "build" / "e2e" / "gocache"), **os.environ,
                   "GO111MODULE": "off", "GOFLAGS": "", "CGO_ENABLED": "0",
                   **({"GOTOOLCHAIN": "go" + version} if version else {})}
            subprocess.run([go, "build", *flags, "-o", str(target), str(source)], check=True, env=env)
    return target


def go_server():
    return go_build("goserver")


# The syscall back end takes every UNIX socket for one that is older than the agent: no links.
SEES_YOUNG_UNIX_SOCKETS = os.environ.get("E2E_CAPTURE") != "syscall"


class Span:
    def __init__(self, resource, span):
        self.resource = resource
        self.service = resource.get("service.name")
        self.pid = resource.get("process.pid")
        self.kind = KINDS[span["kind"]]
        self.name = span["name"]
        self.trace = span["traceId"]
        self.id = span["spanId"]
        self.parent = span.get("parentSpanId", "")
        self.start = int(span["startTimeUnixNano"])
        self.end = int(span["endTimeUnixNano"])
        self.attributes = attributes(span)
        self.status = span.get("status", {}).get("code", 0)

    def __getitem__(self, key):
        return self.attributes.get(key)

    @property
    def path(self):
        """The request's path, from url.path (server) or url.full (client)."""
        path = self["url.path"]
        return path if path is not None else urllib.parse.urlsplit(self["url.full"] or "").path

    def __repr__(self):
        return f"<{self.service} {self.kind} {self.name} {self.path} {self['http.response.status_code']}>"


def attributes(holder):
    out = {}
    for item in holder.get("attributes", []):
        (kind, value), = item["value"].items()
        out[item["key"]] = int(value) if kind == "intValue" else value
    return out


def spans_of(request):
    """Every span of one OTLP/JSON ExportTraceServiceRequest."""
    for group in request.get("resourceSpans", []):
        resource = attributes(group.get("resource", {}))
        for scope in group.get("scopeSpans", []):
            assert scope["scope"]["name"] == "olly"
            for span in scope["spans"]:
                yield Span(resource, span)


class Agent:
    """The agent with the file exporter, its own health port, and the given part of a configuration."""

    def __init__(self, tmp, pids=None, config=None, prefix=(), ready=True, env=None):
        self.port = free_port()
        self.output = tmp / f"spans-{self.port}.jsonl"
        whole = {
            "exporters": {"file": {"path": str(self.output)}},
            "health": {"address": f"127.0.0.1:{self.port}"},
        }
        if pids is not None:
            whole["hook"] = {"include": [{"pid": pid} for pid in pids]}
        for key, value in (config or {}).items():
            whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
        capture = os.environ.get("E2E_CAPTURE")
        if capture:
            whole.setdefault("hook", {}).setdefault("ebpf", {})["capture"] = capture
        self.config = tmp / f"olly-{self.port}.yaml"
        self.config.write_text(json.dumps(whole))  # JSON is YAML
        self.log = tmp / f"olly-{self.port}.log"
        self.process = subprocess.Popen(
            [*prefix, OLLY, "--config", str(self.config)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=open(self.log, "w"), start_new_session=True,
            env={**os.environ, **(env or {})})
        self.pid = self.process.pid
        if ready:
            try:
                wait_until(lambda: serves(self.pid, self.port) and self.get("/ready")[0] == 200
                           or self.process.poll() is not None, "the agent is ready")
            except AssertionError:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the agent is not ready:\n{self.log.read_text()}") from None
            if self.process.poll() is not None:
                text = self.log.read_text()
                if "privilege" in text or "CAP_" in text:
                    pytest.skip("no privileges for the eBPF provider: " + text.strip().splitlines()[-1])
                raise AssertionError(f"the agent ended with {self.process.returncode}:\n{text}")

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self):
        """{name: {labels as a frozenset of pairs: value}} of /metrics."""
        out = collections.defaultdict(dict)
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith("#") or not line.strip():
                continue
            key, _, value = line.rpartition(" ")
            name, _, rest = key.partition("{")
            labels = frozenset(
                tuple(pair.split("=", 1)) for pair in rest.rstrip("}").replace('"', "").split(",")
                if "=" in pair)
            out[name][labels] = float(value)
        return out

    def total(self, name, **labels):
        want = set(labels.items())
        return sum(v for k, v in self.metrics()[name].items() if want <= k)

    def wait_total(self, value, name, **labels):
        """Until the counter has that value; one that goes past it fails."""
        wait_until(lambda: self.total(name, **labels) >= value, f"{name} {labels} is {value}")
        assert self.total(name, **labels) == value

    def assert_nothing_lost(self):
        metrics = self.metrics()
        assert "olly_drops_total" in metrics, "olly_drops_total must be there from the start"
        lost = {k: v for k, v in metrics["olly_drops_total"].items() if v}
        assert not lost, f"dropped: {lost}"

    def assert_bytes_conserved(self):
        """seen = parsed + skipped + gap + evicted + unparsed + pending, always."""
        metrics = self.metrics()
        fate = {dict(k)["fate"]: v for k, v in metrics["olly_bytes_total"].items()}
        pending = sum(metrics["olly_bytes_pending"].values())
        rest = sum(v for k, v in fate.items() if k != "seen")
        assert fate["seen"] == rest + pending, (fate, pending)

    def spans(self):
        """Every span written so far."""
        out = []
        if self.output.exists():
            # What follows the last line end is a line that is being written.
            for line in self.output.read_text().split("\n")[:-1]:
                out.extend(spans_of(json.loads(line)))
        return out

    def wait_spans(self, count, choose=lambda span: True, seconds=40):
        """Until `count` spans are chosen; returns them. More than `count` shows after it."""
        try:
            wait_until(lambda: sum(map(choose, self.spans())) >= count, "", seconds, every=0.1)
        except AssertionError:
            got = [s for s in self.spans() if choose(s)]
            raise AssertionError(
                f"{len(got)} of {count} spans\n{self.log.read_text()}\n"
                f"{self.get('/metrics')[1]}") from None
        return [s for s in self.spans() if choose(s)]

    def stop(self, seconds=5):
        """SIGTERM; the exit status. Must end within the promised five seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the agent did not end within {seconds} s of SIGTERM") from None
        return self.process.returncode

    def end(self):
        """After each test: whatever it was about, the agent was sound."""
        if self.process.poll() is None:
            try:
                if self.get("/health")[0] == 200:
                    self.assert_bytes_conserved()
            finally:
                code = self.stop()
            assert code == 0, f"the agent ended with {code}:\n{self.log.read_text()}"
