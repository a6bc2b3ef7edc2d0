"""TLS as the kernel's probes see it, in programs that know nothing of it: the spans of a workload over
TLS are those of the same workload in the clear, but for the scheme and what is said of TLS."""
import ctypes.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import harness
import pytest
import workload
from test_preload import Client, described
from test_preload_tls import certificate, in_the_clear, start_server  # noqa: F401

SERVERS = ["python", "nginx", "nginx-proxy"]
CLIENTS = ["http.client", "urllib", "requests", "curl", "asyncio"]
CONFIG = {"hook": {"provider": "ebpf"}}


@pytest.fixture
def tls_agent(agent):
    return lambda pids, config=CONFIG: agent(pids, config)


def observed(tls_agent, processes, server, client, requests, tls):
    """Spans of one workload, whose client and server are the only programs that are observed."""
    pids, ports = start_server(processes, server, tls)
    driver = Client({"TEST_TLS_CA": tls[0]} if tls else {})
    olly = tls_agent([*pids, driver.pid])
    truth = driver.do(client, ports[0], requests)
    driver.end()
    spans = olly.wait_spans((4 if server == "nginx-proxy" else 2) * len(truth))
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
    workload.assert_same([s for s in spans if s.kind == "client" and s.pid not in pids], truth)
    assert olly.stop() == 0
    return spans, ports


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", SERVERS)
def test_same_spans_as_in_the_clear(processes, tls_agent, certificate, server, client):
    requests = workload.plan(16)
    if server == "nginx":
        requests = [("GET", f"/ok/{n}", None) for n in range(12)]
    spans, ports = observed(tls_agent, processes, server, client, requests, certificate)
    for s in spans:
        assert s["tls.protocol.name"] == "tls" and s["tls.protocol.version"] in ("1.2", "1.3"), s
        assert s["tls.cipher"].startswith("TLS_"), s
        scheme = s["url.scheme"] if s.kind == "server" else s["url.full"].partition(":")[0]
        assert scheme == "https", s
    over_tls = in_the_clear(described(spans, ports))
    plain = described(*observed(tls_agent, processes, server, client, requests, None))
    missing, extra = plain - over_tls, over_tls - plain
    assert not missing and not extra, (
        f"only in the clear ({missing.total()}): {list(missing)[:2]}\n"
        f"only over TLS ({extra.total()}): {list(extra)[:2]}")


def test_names_of_the_handshake(processes, tls_agent, certificate):
    """Version and server name, on both sides, with each version; ALPN where it is said in the clear."""
    _, port, pids = processes.nginx("location / { return 204; }", listen=(
        f"ssl http2; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {certificate[0]}; "
        f"ssl_certificate_key {certificate[1]}"))
    olly = tls_agent([*pids, os.getpid()])
    for version, protocol in (("1.2", "http/1.1"), ("1.3", "h2")):
        subprocess.run(["curl", "-sf", "--tlsv" + version, "--tls-max", version, "--cacert", certificate[0],
                        "--http1.1" if protocol == "http/1.1" else "--http2",
                        f"https://localhost:{port}/named/{version}"], check=True, timeout=20)
    spans = olly.wait_spans(4)
    for s in spans:
        version = s.path.rpartition("/")[2]
        assert s["tls.protocol.version"] == version, s
        assert s["tls.client.server_name"] == "localhost", s
        assert s["tls.next_protocol"] == ("http/1.1" if version == "1.2" else None), s
        assert s["network.protocol.version"] == ("1.1" if version == "1.2" else "2"), s
    olly.assert_bytes_conserved()


def test_many_connections_at_once(processes, tls_agent, certificate):
    """1,000 requests on 20 connections at once: a span for each on each side, linked."""
    server, port = processes.python("--tls", *certificate)
    olly = tls_agent([server.pid, os.getpid()])
    script = (f"import sys; sys.path.insert(0, {str(harness.PROGRAMS.parent)!r}); import workload\n"
              f"n = workload.in_flight({port}, workload.plan(1000), 20)\n"
              "assert all(e.status in (200, 404, 500) for e in n)\n")
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120,
                   env={**os.environ, "TEST_TLS_CA": certificate[0]})
    spans = olly.wait_spans(2000)
    clients = {s.path: s for s in spans if s.kind == "client"}
    servers = {s.path: s for s in spans if s.kind == "server"}
    assert len(clients) == len(servers) == 1000
    assert all(servers[path].parent == s.id for path, s in clients.items())
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


def test_agent_later_than_the_connection(processes, tls_agent, certificate):
    """A connection that was there before the agent: the next message is seen, and no message twice. The
    server has waited for its first one in a call that began before the probes were there: where the
    library has sites that stand alone (as Debian 12's has), that is no matter."""
    server, port = processes.python("--tls", *certificate)
    script = (f"import http.client, ssl, sys\n"
              f"t = ssl.create_default_context(cafile={certificate[0]!r})\n"
              f"c = http.client.HTTPSConnection('127.0.0.1', {port}, context=t)\n"
              "for line in sys.stdin:\n"
              "    c.request('GET', line.strip()); print(c.getresponse().read(), flush=True)\n")
    driver = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True,
                              stdout=subprocess.PIPE)

    def ask(path):
        driver.stdin.write(path + "\n")
        driver.stdin.flush()
        return driver.stdout.readline()

    assert "ok" in ask("/ok/before")
    olly = tls_agent([server.pid, driver.pid])
    asked = [f"/ok/now-{n}" for n in range(20)]
    for path in asked:
        ask(path)
    spans = olly.wait_spans(40)
    assert sorted(s.path for s in spans if s.kind == "server") == sorted(asked)
    assert sorted(s.path for s in spans if s.kind == "client") == sorted(asked)
    ids = {s.id: s for s in spans}
    for s in spans:
        assert s["tls.protocol.name"] == "tls", s
        assert s.kind == "client" or s.parent not in ids or ids[s.parent].path == s.path
    driver.stdin.close()
    assert driver.wait(20) == 0
    olly.assert_bytes_conserved()


SIZES = """
import json, random, socket, ssl, sys, threading
cert, key, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = random.Random(seed)
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain(cert, key)
client = ssl.create_default_context(cafile=cert)
listener = socket.create_server(("127.0.0.1", 0))


def read_all(s, n):
    out = b""
    while len(out) < n:
        part = s.recv(rng.randint(1, 40000))
        assert part
        out += part
    return out


def serve():
    for _ in range(CONNECTIONS):
        s = server.wrap_socket(listener.accept()[0], server_side=True)
        while True:
            head = b""
            while not head.endswith(b"\\r\\n\\r\\n"):
                part = s.recv(1)
                if not part:
                    break
                head += part
            if not head:
                break
            size = int(head.partition(b"Content-Length: ")[2].split(b"\\r")[0])
            body = read_all(s, size) if size else b""
            answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % size + body
            while answer:
                n = rng.randint(1, 50000)
                s.sendall(answer[:n]); answer = answer[n:]
        s.close()


CONNECTIONS = 2
threading.Thread(target=serve, daemon=True).start()
for c in range(CONNECTIONS):
    with client.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="127.0.0.1") as s:
        for n in range(25):
            size = rng.choice([0, 1, rng.randint(0, 300), rng.randint(0, 70000)])
            path = f"/size/{c}-{n}-{size}"
            whole = (f"POST {path} HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: {size}\\r\\n\\r\\n").encode() + b"x" * size
            while whole:
                part = rng.randint(1, 50000)
                s.sendall(whole[:part]); whole = whole[part:]
            head = b""
            while not head.endswith(b"\\r\\n\\r\\n"):
                head += s.recv(1)
            assert len(read_all(s, size)) == size if size else True
            print(path)
"""


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """programs/tls_variants.c: every function that reads or writes, and SSL_peek."""
    program = tmp_path_factory.mktemp("variants") / "tls_variants"
    subprocess.run(["cc", "-O1", "-pthread", "-o", program, harness.PROGRAMS / "tls_variants.c", "-lssl",
                    "-lcrypto"], check=True)
    return [program]


@pytest.mark.parametrize("kind", ["python", "variants"])
def test_random_sizes(tls_agent, certificate, variants, kind):
    """Reads of one byte, writes of several records, both ends in one process: never a wrong byte."""
    olly = tls_agent([os.getpid()])
    program = [sys.executable, "-c", SIZES] if kind == "python" else variants
    ran = subprocess.run([*program, *certificate, "7"], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    asked = ran.stdout.split()
    assert len(asked) == 50
    spans = olly.wait_spans(100)
    workload.assert_sizes(spans, asked)
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()


@pytest.mark.parametrize("server", ["python", "nginx"])
def test_gnutls_by_expensive_probes(processes, tls_agent, certificate, server):
    """GnuTLS 3.7 has no cheap sites: it is read only where that is asked for, and then said."""
    if not ctypes.util.find_library("curl-gnutls"):
        pytest.skip("libcurl-gnutls is not installed")
    requests = workload.plan(16) if server == "python" else [("GET", f"/ok/{n}", None) for n in range(12)]
    pids, ports = start_server(processes, server, certificate)
    driver = Client({"TEST_TLS_CA": certificate[0]})
    driver.do("curl-gnutls", ports[0], [("GET", "/ok/loads-the-library", None)])

    def of_gnutls(**more):
        ran = subprocess.run([harness.OLLY, "check", "--json"], capture_output=True, text=True, check=False,
                             env={**os.environ, **more})
        return next(library for library in json.loads(ran.stdout)["tls"] if library["library"] == "GnuTLS")

    without, expensive = of_gnutls(), of_gnutls(OLLY_HOOK_EBPF_TLS_EXPENSIVE_PROBES="true")
    if not without["why_not"]:
        pytest.skip(f"{without['path']} has cheap sites")
    assert not without["sites"] and any(site["expensive"] for site in expensive["sites"]), expensive
    olly = tls_agent([*pids, driver.pid], {"hook": {"provider": "ebpf", "ebpf": {"tls": {"expensive_probes": True}}}})
    truth = driver.do("curl-gnutls", ports[0], requests)
    driver.end()
    spans = olly.wait_spans(2 * len(truth))
    workload.assert_same([s for s in spans if s.kind == "client"], truth)
    clients = {s.path: s for s in spans if s.kind == "client"}
    for s in spans:
        assert s["tls.protocol.name"] == "tls", s
        assert s.kind == "client" or s.parent == clients[s.path].id, s
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
    assert "expensive" in olly.log.read_text()


def libraries():
    """Debian's libssl and libcrypto, as the loader finds them."""
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    return [next(line.split()[-1] for line in listed.splitlines() if f"{name}.so.3 " in line and "x86-64" in line)
            for name in ("libssl", "libcrypto")]


def test_library_of_another_mount_namespace(tls_agent, certificate, variants):
    """A container's library: a file that only the program's own mount namespace has."""
    olly = tls_agent([os.getpid()])
    script = (f"mount -t tmpfs none /mnt && cp {' '.join(libraries())} /mnt && "
              f"LD_LIBRARY_PATH=/mnt exec {variants[0]} {' '.join(certificate)} 5")
    ran = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=60,
                         check=False)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.split()) == 50
    spans = olly.wait_spans(100)
    assert sorted(s.path for s in spans if s.kind == "server") == sorted(ran.stdout.split())
    olly.assert_nothing_lost()


def traps(pid, path, sites):
    """At how many of the sites the process's own memory holds a breakpoint."""
    bases = [(int(low, 16), int(high, 16), int(offset, 16))
             for low, high, _, offset, name in re.findall(r"^(\w+)-(\w+) (\S+x\S+) (\w+) \S+ \d+ +(.*)$",
                                                          pathlib.Path(f"/proc/{pid}/maps").read_text(), re.M)
             if name == str(path)]
    found = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for site in sites:
            for low, high, offset in bases:
                if offset <= site < offset + high - low:
                    memory.seek(low + site - offset)
                    found += memory.read(1) == b"\xcc"
    return found


def tls_files(olly):
    return sum(olly.metrics()["olly_tls_files"].values())


def test_probes_go_with_the_last_user_and_with_the_agent(tls_agent, tmp_path):
    """A file of its own: probed while somebody maps it, whoever that is, and not a byte of it is left."""
    for path in libraries():
        shutil.copy(path, tmp_path)
    path = tmp_path / pathlib.Path(libraries()[0]).name
    load = [sys.executable, "-c", f"import ctypes, sys; ctypes.CDLL({str(path)!r}); sys.stdin.read()"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    users = [subprocess.Popen(load, stdin=subprocess.PIPE, env=environment) for _ in range(2)]
    harness.wait_until(lambda: all(str(path) in pathlib.Path(f"/proc/{u.pid}/maps").read_text() for u in users),
                       "the library is loaded")
    checked = json.loads(subprocess.run([harness.OLLY, "check", "--json"], capture_output=True, check=False).stdout)
    sites = [s["offset"] for library in checked["tls"] if library["path"] == str(path) for s in library["sites"]]
    olly = tls_agent(None, {"log_level": "debug", "hook": {"provider": "ebpf", "include": [
        {"exe": os.path.realpath(sys.executable)}]}})
    harness.wait_until(lambda: all(traps(u.pid, path, sites) == len(sites) for u in users), "both are probed")
    users[0].communicate()
    time.sleep(6)  # users are looked for each five seconds
    unused = f"{path} has no users any more"
    assert traps(users[1].pid, path, sites) == len(sites) and unused not in olly.log.read_text()
    users[1].communicate()
    harness.wait_until(lambda: unused in olly.log.read_text(), "its last user is missed")
    last = subprocess.Popen(load, stdin=subprocess.PIPE, env=environment)
    harness.wait_until(lambda: str(path) in pathlib.Path(f"/proc/{last.pid}/maps").read_text() and
                       traps(last.pid, path, sites) == len(sites), "it is probed again")
    assert olly.stop() == 0
    assert traps(last.pid, path, sites) == 0
    last.communicate()


def test_no_more_files_than_allowed(tls_agent, tmp_path):
    """`hook.ebpf.tls.max_files`: what is beyond it is said once, and left alone."""
    users = []
    for n in range(2):
        home = tmp_path / str(n)
        home.mkdir()
        for path in libraries():
            shutil.copy(path, home)
        load = f"import ctypes, sys; ctypes.CDLL({str(home / pathlib.Path(libraries()[0]).name)!r}); sys.stdin.read()"
        users.append(subprocess.Popen([sys.executable, "-c", load], stdin=subprocess.PIPE,
                                      env={**os.environ, "LD_LIBRARY_PATH": str(home)}))
    harness.wait_until(lambda: all(str(tmp_path) in pathlib.Path(f"/proc/{u.pid}/maps").read_text() for u in users),
                       "the libraries are loaded")
    olly = tls_agent([u.pid for u in users], {"hook": {"provider": "ebpf", "ebpf": {"tls": {"max_files": 1}}}})
    harness.wait_until(lambda: "hook.ebpf.tls.max_files (1)" in olly.log.read_text(), "it is said")
    harness.wait_until(lambda: tls_files(olly) == 1, "the other is probed")
    for user in users:
        user.communicate()


def test_check_names_the_sites():
    """`olly check` says where a library is probed, by build id, and why another is not."""
    ran = subprocess.run([harness.OLLY, "check", "--json"], capture_output=True, text=True, check=False)
    tls = json.loads(ran.stdout)["tls"]
    assert tls, ran.stdout
    for library in tls:
        assert library["build_id"] and library["path"], library
        assert bool(library["sites"]) != bool(library["why_not"]), library
