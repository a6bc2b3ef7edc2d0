"""Real programs under libolly.so."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from xml.etree import ElementTree

import harness
import postgresql_log
import pytest
from test_preload_tls import certificate  # noqa: F401


@pytest.fixture
def preload(tmp_path, agent):
    path = tmp_path / "hook.sock"
    olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path)}})
    olly.env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}
    return olly


def test_redis(preload, processes):
    server = harness.need("redis-server")
    client = harness.need("redis-benchmark")
    processes.env = preload.env
    port = harness.free_port()
    processes.start([server, "--port", port, "--save", "", "--appendonly", "no"], port)
    for pipeline in ("1", "16"):
        ran = subprocess.run([client, "-p", str(port), "-n", "20000", "-c", "20", "-P", pipeline, "-t",
                              "set,get", "-q", "-e"], capture_output=True, text=True, timeout=60,
                             env={**os.environ, **preload.env}, check=False)
        assert ran.returncode == 0 and "GET:" in ran.stdout and "rror" not in ran.stdout, ran
    answer = subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True, text=True,
                            timeout=20, check=False).stdout
    assert answer.strip() == "PONG"


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_nginx_and_curl(preload, processes, size):
    processes.env = preload.env
    master, port, _ = processes.nginx("", workers=2)
    body = os.urandom(size)
    (master.html / "file").write_bytes(body)
    for _ in range(3):
        ran = subprocess.run(["curl", "-sf", f"http://127.0.0.1:{port}/file"], capture_output=True,
                             env={**os.environ, **preload.env}, timeout=30, check=True)
        assert ran.stdout == body


def same(command, preload, **more):
    """The same exit status and output without the library and with it; the output."""
    env = more.pop("env", {})
    runs = []
    for library in ({}, preload.env):
        ran = subprocess.run(command, capture_output=True, timeout=120, check=False,
                             env={**os.environ, **env, **library}, **more)
        runs.append((ran.returncode, ran.stdout, ran.stderr))
    assert runs[0] == runs[1], (command, runs)
    assert runs[0][0] == 0, (command, runs[0])
    return runs[0][1]


def seen(olly):
    return olly.total("olly_bytes_total", fate="seen")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_git(preload, processes, certificate, tmp_path, scheme):  # noqa: F811
    """A repository served as files, cloned with and without the library: the same objects."""
    git = harness.need("git")
    work, bare = tmp_path / "work", tmp_path / "served" / "repo.git"
    quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
    do = lambda *words: subprocess.run([git, *map(str, words)], check=True, capture_output=True,
                                       env={**os.environ, **quiet}, timeout=60)
    do("init", "-q", "-b", "main", work)
    for n in range(30):
        (work / f"file{n}").write_bytes(os.urandom(20_000))
        do("-C", work, "add", ".")
        do("-C", work, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", f"commit {n}")
    do("clone", "-q", "--bare", work, bare)
    do("-C", bare, "update-server-info")
    processes.env = preload.env
    if scheme == "http":
        port = harness.free_port()
        processes.start(["/usr/bin/python3", "-m", "http.server", port, "--bind", "127.0.0.1",
                         "--directory", bare.parent], port)
    else:
        _, port, _ = processes.nginx(f"location / {{ root {bare.parent}; }}", listen=(
            f"ssl; ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]}"))
        quiet["GIT_SSL_CAINFO"] = certificate[0]
    for n, library in enumerate(({}, preload.env)):
        before = seen(preload)
        ran = subprocess.run([git, "clone", "-q", f"{scheme}://127.0.0.1:{port}/repo.git", tmp_path / f"c{n}"],
                             capture_output=True, text=True, timeout=60, check=False,
                             env={**os.environ, **quiet, **library})
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), ran
        do("-C", tmp_path / f"c{n}", "fsck", "--strict")
        harness.wait_until(lambda: seen(preload) > before, "it was seen")
    heads = [do("-C", folder, "rev-parse", "HEAD").stdout for folder in (work, tmp_path / "c0", tmp_path / "c1")]
    assert heads[0] == heads[1] == heads[2]
    if scheme == "https":
        assert preload.total("olly_tls_bytes_total", layer="plaintext") > 600_000
    preload.assert_bytes_conserved()


NODE = """
const http = require('http'), crypto = require('crypto'), { execFileSync } = require('child_process');
const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
const server = http.createServer((q, s) => q.pipe(s)).listen(0, '127.0.0.1', async () => {
  const ask = (n) => new Promise((ok, no) => {
    const body = Buffer.alloc(1 + n * 997, n);
    const r = http.request({ port: server.address().port, method: 'POST', agent }, (a) => {
      const h = crypto.createHash('sha1');
      a.on('data', (d) => h.update(d)).on('end', () => ok(h.digest('hex')));
    }).on('error', no);
    r.end(body);
  });
  const all = await Promise.all([...Array(200).keys()].map(ask));
  console.log(crypto.createHash('sha1').update(all.join()).digest('hex'));
  console.log(execFileSync('echo', ['a child']).toString());
  agent.destroy(); server.close();
});
"""


def test_node(preload):
    before = seen(preload)
    same([harness.need("node"), "-e", NODE], preload)
    harness.wait_until(lambda: seen(preload) - before > 4 * 200 * 99 * 997, "both ends of both ways")
    preload.assert_bytes_conserved()


PYTHON_TESTS = {  # module: the classes of the short run
    "test_socket": ["BasicTCPTest", "BasicSocketPairTest", "NonBlockingTCPTests", "SendmsgTCPTest",
                    "InheritanceTest", "CreateServerTest"],
    "test_select": [], "test_httpservers": [],
}


def python_with_tests(module):
    """An interpreter whose standard library came with these tests (Debian: libpython3-testsuite)."""
    for python in ("/usr/bin/python3", sys.executable):
        probe = subprocess.run([python, "-c", f"import test.{module}"], capture_output=True, check=False)
        if probe.returncode == 0:
            return python
    pytest.skip(f"no Python here has {module} (libpython3-testsuite)")


def python_results(python, module, classes, env, folder):
    """{test: what became of it}, and the end of what was said"""
    select = [word for name in classes for word in ("-m", f"*{name}*")]
    # Not from what it prints: threads' words come in between.
    xml = pathlib.Path(folder) / "results.xml"
    xml.unlink(missing_ok=True)
    ran = subprocess.run([python, "-m", "test", "-v", "--junit-xml", xml, *select, module], capture_output=True,
                         text=True, timeout=900, env={**os.environ, **env}, cwd=folder, check=False)
    assert xml.exists(), ran
    found = {case.get("name"): " ".join(child.tag for child in case if child.tag in ("failure", "error", "skipped")) or "ok"
             for case in ElementTree.parse(xml).iter("testcase")}
    assert found, ran
    return found, ran.stdout[-2000:]


# Not OLLY_HARM_LONG: the harness takes the agent's variables out of the environment.
LONG = os.environ.get("HARM_LONG") == "1"


def assert_python_passes_as_without(preload, folder, module, classes):
    python = python_with_tests(module)
    plain, _ = python_results(python, module, classes, {}, folder)
    assert "ok" in plain.values()
    for _ in range(3):  # some of them depend on time
        library, tail = python_results(python, module, classes, preload.env, folder)
        different = {t: (plain.get(t), library.get(t)) for t in plain.keys() | library.keys()
                     if plain.get(t) != library.get(t)}
        if not different:
            return
    assert not different, (different, tail)


@pytest.mark.parametrize("module", PYTHON_TESTS)
def test_pythons_own_tests(preload, tmp_path, module):
    """Python's own tests of its sockets: each one ends as it does without the library. The short run
    takes the classes about streams; HARM_LONG=1 takes every test, and those of TLS."""
    assert_python_passes_as_without(preload, tmp_path, module, [] if LONG else PYTHON_TESTS[module])


@pytest.mark.skipif(not LONG, reason="long: HARM_LONG=1 (make test-harm-long)")
@pytest.mark.parametrize("module", ["test_ssl", "test_httplib", "test_asyncio", "test_multiprocessing_fork",
                                    "test_subprocess"])
def test_pythons_own_tests_long(preload, tmp_path, module):
    assert_python_passes_as_without(preload, tmp_path, module, [])


@pytest.mark.parametrize("protocol", ["simple", "prepared"])
def test_postgresql_and_pgbench(agent, monkeypatch, protocol):
    """Server and clients of another user under the library: every transaction done, the books balance."""
    pgbench = postgresql_log.program("pgbench")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = pathlib.Path(folder) / "hook.sock"
        olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path)}})
        path.chmod(0o666)
        monkeypatch.setenv("LD_PRELOAD", harness.LIBRARY)
        monkeypatch.setenv("OLLY_HOOK_SOCKET_PATH", str(path))
        with postgresql_log.running() as server:
            words = [pgbench, "-h", "127.0.0.1", "-p", str(server.port), "-U", "olly"]
            do = lambda *more: subprocess.run([*words, *more, "shop"], capture_output=True, text=True,
                                              timeout=100, check=False)
            made = do("-i", "-q", "-s", "1")
            assert made.returncode == 0, made
            ran = do("-n", "-c", "4", "-j", "2", "-t", "200", "-M", protocol)
            assert ran.returncode == 0 and "800/800" in ran.stdout and "ERROR" not in ran.stderr, ran
            server.sql("DO $$ BEGIN IF (SELECT count(*) FROM pgbench_history) <> 800 OR "
                       "(SELECT sum(abalance) FROM pgbench_accounts) <> (SELECT sum(delta) FROM pgbench_history) "
                       "THEN RAISE 'the books do not balance'; END IF; END $$")
            harness.wait_until(lambda: seen(olly) > 500_000, "server and clients were seen")
        olly.assert_bytes_conserved()
