"""libolly.so under TLS: the spans of a workload over TLS are those of the same workload in the clear,
but for the scheme and what is said of TLS."""
import collections
import ctypes.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import harness
import postgresql_log
import pytest
import workload
from test_preload import Client, both, described, socket_agent  # noqa: F401

PAIRS = [("python", client) for client in ("http.client", "urllib", "requests", "curl", "asyncio",
                                           "curl-gnutls")]
PAIRS += [("nginx", "requests"), ("nginx", "asyncio"), ("nginx-proxy", "curl"),
          ("nginx-proxy", "http.client"), ("nginx-proxy", "curl-gnutls")]
TLS_KEYS = ("tls.protocol.name", "tls.protocol.version", "tls.cipher", "tls.next_protocol",
            "tls.client.server_name")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """(certificate, key) of 127.0.0.1 and localhost."""
    home = tmp_path_factory.mktemp("certificate")
    home.chmod(0o755)
    cert, key = home / "cert.pem", home / "key.pem"
    subprocess.run([harness.need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", "10",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                   check=True, capture_output=True)
    key.chmod(0o644)
    return str(cert), str(key)


def start_server(processes, name, certificate):
    """(pids, ports, port); certificate None: in the clear."""
    tls = ["--tls", *certificate] if certificate else []
    listen = f"ssl; ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]}" if tls else ""
    if name == "python":
        process, port = processes.python(*tls)
        return [process.pid], [port]
    if name == "nginx":
        _, port, pids = processes.nginx(
            "location /ok/ { return 200 'ok'; } location / { return 404; }", listen=listen)
        return pids, [port]
    backend, upstream = processes.python(*tls)
    scheme = "https" if certificate else "http"
    _, port, pids = processes.nginx(
        f"location / {{ proxy_pass {scheme}://up; proxy_http_version 1.1; "
        f"proxy_set_header Connection ''; proxy_set_header Host up:8000; }}",
        extra=f"upstream up {{ server 127.0.0.1:{upstream}; keepalive 16; }}", listen=listen)
    return [*pids, backend.pid], [port, upstream]


def observed(olly, processes, server, client, requests, env, certificate):
    server_pids, ports = start_server(processes, server, certificate)
    driver = Client({**env, **({"TEST_TLS_CA": certificate[0]} if certificate else {})})
    truth = driver.do(client, ports[0], requests)
    spans = olly.wait_spans((4 if server == "nginx-proxy" else 2) * len(truth))
    driver.end()  # not before its name has been asked for
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
    workload.assert_same([s for s in spans if s.kind == "client" and s.pid not in server_pids], truth)
    return spans, ports


def in_the_clear(described_spans):
    """What TLS adds is taken away; the names of what differs otherwise stay."""
    def one(text):
        attributes = json.loads(text)
        if attributes.get("url.scheme"):
            attributes["url.scheme"] = "http"
        if "url.full" in attributes:
            attributes["url.full"] = attributes["url.full"].replace("https://", "http://")
        return json.dumps({k: v for k, v in attributes.items() if k not in TLS_KEYS}, sort_keys=True)

    return collections.Counter({((*own[:-1], one(own[-1])), parent): n
                                for (own, parent), n in described_spans.items()})


@pytest.mark.parametrize("server, client", PAIRS)
def test_same_spans_as_in_the_clear(processes, socket_agent, certificate, server, client):
    if client == "curl-gnutls" and not ctypes.util.find_library("curl-gnutls"):
        pytest.skip("libcurl-gnutls is not installed")
    requests = workload.plan(16)
    if server == "nginx":
        requests = [("GET", f"/ok/{n}", None) for n in range(12)]
    olly = socket_agent()
    spans, ports = observed(olly, processes, server, client, requests, socket_agent.env, certificate)
    for s in spans:
        assert s["tls.protocol.name"] == "tls" and s["tls.protocol.version"] in ("1.2", "1.3"), s
        if s.kind == "server":
            assert s["url.scheme"] == "https", s
        else:
            assert s["url.full"].startswith("https://"), s
    tls = in_the_clear(described(spans, ports))
    assert olly.stop() == 0
    olly = socket_agent()
    spans, ports = observed(olly, processes, server, client, requests, socket_agent.env, None)
    plain = described(spans, ports)
    missing, extra = plain - tls, tls - plain
    assert not missing and not extra, (
        f"only in the clear ({missing.total()}): {list(missing)[:2]}\n"
        f"only over TLS ({extra.total()}): {list(extra)[:2]}")


def test_names_of_the_handshake(processes, socket_agent, certificate):
    """Version, server name and ALPN, on both sides, with each version."""
    olly = socket_agent()
    _, port, _ = processes.nginx("location / { return 204; }", listen=(
        f"ssl http2; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {certificate[0]}; "
        f"ssl_certificate_key {certificate[1]}"))
    for version, protocol in (("1.2", "http/1.1"), ("1.3", "h2")):
        subprocess.run(["curl", "-sf", "--tlsv" + version, "--tls-max", version, "--cacert", certificate[0],
                        "--http1.1" if protocol == "http/1.1" else "--http2",
                        f"https://localhost:{port}/named/{version}"], check=True, timeout=20,
                       env={**os.environ, **socket_agent.env})
    spans = olly.wait_spans(4)
    for s in spans:
        version = s.path.rpartition("/")[2]
        assert s["tls.protocol.version"] == version, s
        assert s["tls.client.server_name"] == "localhost", s
        assert s["tls.next_protocol"] == ("http/1.1" if version == "1.2" else "h2"), s
        assert s["network.protocol.version"] == ("1.1" if version == "1.2" else "2"), s
    olly.assert_bytes_conserved()


def test_many_connections_at_once(processes, socket_agent, certificate):
    """20 connections at once: one span for each request on each side, linked."""
    olly = socket_agent()
    _, port = processes.python("--tls", *certificate)
    script = (f"import sys; sys.path.insert(0, {str(harness.PROGRAMS.parent)!r}); import workload\n"
              f"n = workload.in_flight({port}, workload.plan(400), 20)\n"
              "assert all(e.status in (200, 404, 500) for e in n)\n")
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60,
                   env={**os.environ, **socket_agent.env, "TEST_TLS_CA": certificate[0]})
    spans = olly.wait_spans(800)
    clients = {s.path: s for s in spans if s.kind == "client"}
    servers = {s.path: s for s in spans if s.kind == "server"}
    assert len(clients) == len(servers) == 400
    assert all(servers[path].parent == s.id for path, s in clients.items())
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


def test_both_ends_in_one_program(processes, socket_agent, certificate):
    """asyncio, client and server, in one program, many handshakes at once: neither end has its socket in
    the library's hands, and each is told apart by what it sent or received."""
    olly = socket_agent()
    script = (
        "import asyncio, ssl, sys\n"
        "s = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); s.load_cert_chain(*sys.argv[1:3])\n"
        "c = ssl.create_default_context(cafile=sys.argv[1])\n"
        "async def serve(r, w):\n"
        "    while head := await r.readuntil(b'\\r\\n\\r\\n'):\n"
        "        w.write(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok'); await w.drain()\n"
        "async def ask(port, k):\n"
        "    r, w = await asyncio.open_connection('127.0.0.1', port, ssl=c)\n"
        "    for n in range(5):\n"
        "        w.write(f'GET /both/{k}/{n} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'.encode())\n"
        "        await r.readuntil(b'\\r\\n\\r\\n'); await r.readexactly(2)\n"
        "async def main():\n"
        "    l = await asyncio.start_server(serve, '127.0.0.1', 0, ssl=s)\n"
        "    port = l.sockets[0].getsockname()[1]\n"
        "    await asyncio.gather(*(ask(port, k) for k in range(20)))\n"
        "asyncio.run(main())\n")
    subprocess.run([sys.executable, "-c", script, *certificate], timeout=60, check=True,
                   stderr=subprocess.DEVNULL, env={**os.environ, **socket_agent.env})
    spans = olly.wait_spans(200)
    clients = {s.path: s for s in spans if s.kind == "client"}
    servers = {s.path: s for s in spans if s.kind == "server"}
    assert len(clients) == len(servers) == 100
    assert all(servers[path].parent == s.id for path, s in clients.items())
    assert all(s["network.peer.port"] is not None for s in spans), "each has its socket"
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


def test_agent_later_than_the_connection(processes, socket_agent, certificate):
    """A connection that was there before the agent: the next message is seen."""
    processes.env = socket_agent.env
    _, port = processes.python("--tls", *certificate)
    script = (f"import http.client, ssl, sys, time\n"
              f"t = ssl.create_default_context(cafile={certificate[0]!r})\n"
              f"c = http.client.HTTPSConnection('127.0.0.1', {port}, context=t)\n"
              "for line in sys.stdin:\n"
              "    c.request('GET', line.strip()); print(c.getresponse().read(), flush=True)\n")
    driver = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True,
                              stdout=subprocess.PIPE, env={**os.environ, **socket_agent.env})

    def ask(path):
        driver.stdin.write(path + "\n")
        driver.stdin.flush()
        return driver.stdout.readline()

    assert "ok" in ask("/ok/before")
    olly = socket_agent()

    def seen():
        ask("/ok/now")
        return {s.kind for s in olly.spans() if s.path == "/ok/now"} == {"server", "client"}

    harness.wait_until(seen, "both sides are seen", seconds=25, every=0.3)
    driver.stdin.close()
    assert driver.wait(20) == 0
    spans = olly.spans()
    ids = {s.id: s for s in spans}
    for s in spans:
        assert s["tls.protocol.version"] == "1.3", [(x.kind, x.path, x.start, x.attributes) for x in spans]
        assert s.kind == "client" or s.parent not in ids or ids[s.parent].path == s.path
    olly.assert_bytes_conserved()


def test_both_providers_capture_once(processes, both, certificate):  # noqa: F811
    """The kernel's probes and the library's hooks see the same calls of the same TLS library: each byte
    is taken once."""
    processes.env = both.env
    pids, ports = start_server(processes, "python", certificate)
    driver = Client({**both.env, "TEST_TLS_CA": certificate[0]})
    olly = both([*pids, driver.pid])
    truth = []
    for client in ("requests", "http.client", "requests"):
        truth += driver.do(client, ports[0], workload.plan(20, chunked=False))
    olly.wait_spans(2 * len(truth))
    assert olly.total("olly_preloaded_programs") >= 1
    time.sleep(1)
    spans = olly.spans()
    driver.end()
    assert len(spans) == 2 * len(truth) == len({s.id for s in spans})
    workload.assert_same([s for s in spans if s.kind == "client"], truth)
    assert {s.attributes["url.scheme"] for s in spans if "url.scheme" in s.attributes} == {"https"}
    olly.assert_bytes_conserved()


def test_early_data(processes, socket_agent, certificate, tmp_path):
    """A request in the first flight of a resumed session is read, at both ends, from the same position."""
    olly = socket_agent()
    processes.env = socket_agent.env
    _, port, _ = processes.nginx(
        "ssl_early_data on; ssl_protocols TLSv1.3; location /ok/ { return 200 'ok'; }",
        listen=f"ssl; ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]}")
    session, request = tmp_path / "session", tmp_path / "request"
    request.write_bytes(b"GET /ok/early HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    def client(*words, text=b""):
        return subprocess.run([harness.need("openssl"), "s_client", "-tls1_3", "-ign_eof", "-connect",
                               f"127.0.0.1:{port}", *words], input=text, capture_output=True, timeout=30,
                              env={**os.environ, **socket_agent.env}, check=False).stdout.decode()

    first = client("-sess_out", session, text=request.read_bytes().replace(b"early", b"first"))
    assert "HTTP/1.1 200 OK" in first, first
    early = client("-sess_in", session, "-early_data", request)
    assert "Early data was accepted" in early and "HTTP/1.1 200 OK" in early, early
    spans = olly.wait_spans(4)
    assert sorted((s.path, s.kind, s["http.response.status_code"]) for s in spans) == sorted(
        (path, kind, 200) for path in ("/ok/first", "/ok/early") for kind in ("client", "server"))
    for s in spans:
        assert s["olly.incomplete"] is None, s.attributes
        if s.kind == "server":
            assert s.parent in {c.id for c in spans if c.kind == "client" and c.path == s.path}
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


def test_run_as_an_ordinary_user(certificate, tmp_path_factory):
    """`olly run` without privileges: linked spans of calls over HTTPS."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it up")
    python = "/usr/bin/python3"  # whoever runs the tests may have one that only he may run
    if not os.path.exists(python):
        pytest.skip("no /usr/bin/python3")
    cert, key = (open(path).read() for path in certificate)  # pytest's own folders are its user's alone
    script = ("import http.server, os, ssl, tempfile, threading, urllib.request\n"
              "class H(http.server.BaseHTTPRequestHandler):\n"
              "    def do_GET(self): self.send_response(204); self.end_headers()\n"
              "    def log_message(self, *a): pass\n"
              f"pem = tempfile.NamedTemporaryFile('w'); pem.write({(cert + key)!r}); pem.flush()\n"
              "s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
              "c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(pem.name)\n"
              "s.socket = c.wrap_socket(s.socket, server_side=True)\n"
              "threading.Thread(target=s.serve_forever, daemon=True).start()\n"
              "url = f'https://localhost:{s.server_port}/mine'\n"
              "t = ssl.create_default_context(cafile=pem.name)\n"
              "print(urllib.request.urlopen(url, context=t).status)\n"
              "raise SystemExit(7)\n")
    ran = subprocess.run([harness.need("setpriv"), "--reuid", "65534", "--regid", "65534",
                          "--clear-groups", "--bounding-set", "-all", "--inh-caps", "-all",
                          harness.OLLY, "run", "--", python, "-c", script],
                         capture_output=True, text=True, timeout=30, cwd="/",
                         env={**os.environ, "TMPDIR": "/tmp"}, check=False)
    if "failed to execute" in ran.stderr:
        pytest.skip("the build folder is not readable for an unprivileged user")
    assert (ran.returncode, ran.stdout) == (7, "204\n"), ran
    lines = [line for line in ran.stderr.splitlines() if "/mine" in line]
    assert len(lines) == 2 and "SERVER GET /mine" in lines[1], ran.stderr
    assert "CLIENT GET https://localhost:" in lines[0], ran.stderr
    assert lines[1].startswith("  "), "the server is the client's child"


def test_a_wheels_own_library(processes, socket_agent, certificate, monkeypatch):
    """psycopg brings a libssl of its own (libssl-HASH.so) into a program that has Python's as well: each
    call reaches the right one. PostgreSQL turns to TLS in the middle of a connection."""
    pytest.importorskip("psycopg")
    reachable = pathlib.Path(tempfile.mkdtemp(dir="/tmp"))  # the server is another user's
    reachable.chmod(0o755)
    try:
        path = reachable / "hook.sock"
        olly = socket_agent({"hook": {"socket_path": str(path)}})
        path.chmod(0o666)
        env = {**socket_agent.env, "OLLY_HOOK_SOCKET_PATH": str(path)}
        processes.env = env
        _, port = processes.python("--tls", *certificate)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        with postgresql_log.running() as server:
            for name in env:
                monkeypatch.delenv(name)
            for source, name in zip(certificate, ("server.crt", "server.key")):
                shutil.copy(source, server.home / "data" / name)
                shutil.chown(server.home / "data" / name, "nobody")
            (server.home / "data" / "server.key").chmod(0o600)
            server.sql("ALTER SYSTEM SET ssl = on")
            server.sql("SELECT pg_reload_conf()")
            script = (
                "import psycopg, ssl, time, urllib.request\n"
                f"t = ssl.create_default_context(cafile={certificate[0]!r})\n"
                f"url = 'https://127.0.0.1:{port}/ok/wheel-'\n"
                "for n in range(50):\n"  # until the server has read its configuration again
                "    try: c = psycopg.connect(host='127.0.0.1', dbname='shop', user='olly',\n"
                f"                             port={server.port}, sslmode='require', autocommit=True); break\n"
                "    except psycopg.OperationalError: time.sleep(0.1)\n"
                "for n in range(5):\n"
                "    assert urllib.request.urlopen(url + str(n), context=t).read()\n"
                "    assert len(c.execute('SELECT n FROM items WHERE id <= 7').fetchall()) == 7\n"
                "print(c.execute('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()').fetchone()[0])\n"
                "libraries = {l.split()[-1] for l in open('/proc/self/maps') if 'libssl' in l}\n"
                "print(len(libraries)); c.close()\n")
            ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
                                 env={**os.environ, **env}, check=False)
            assert (ran.returncode, ran.stdout) == (0, "True\n2\n"), ran
            spans = olly.wait_spans(22, lambda s: s["tls.protocol.version"] is not None)
            calls = [s for s in spans if s["db.query.text"] == "SELECT n FROM items WHERE id <= ?"]
            assert sorted(s.kind for s in calls) == 5 * ["client"] + 5 * ["server"]
            parents = {s.id for s in calls if s.kind == "client"}
            assert {s.parent for s in calls if s.kind == "server"} == parents
            assert all(s["db.response.returned_rows"] == 7 for s in calls), calls
            asked = [s for s in spans if "/ok/wheel-" in s.path]
            assert sorted(s.kind for s in asked) == 5 * ["client"] + 5 * ["server"]
            olly.assert_nothing_lost()
            olly.assert_bytes_conserved()
    finally:
        shutil.rmtree(reachable)
