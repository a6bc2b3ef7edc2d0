"""Header injection, differential: programs/inject.c says what each of its calls gave, and must say the
same with headers put into its requests and without; the other end gets the same bytes but for them."""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time

import harness
import pytest
from test_calls import in_state  # noqa: F401

PROGRAMS = pathlib.Path(__file__).parent / "programs"
FLAVOURS = {"glibc": ["cc"], "musl": ["musl-gcc"]}
FIELD = re.compile(rb"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-0[01]\r\n")
# How many of a scenario's requests get a header: all that can.
SCENARIOS = {"plain": 4, "vectors": 3, "bodies": 5, "own": 1, "refused": 0, "upgrade": 1, "pointers": 2,
             "ends": 0, "tiny": 8, "interrupted": 2, "duplicates": 4, "forked": (1, 2), "threads": 100}
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WAYS = ["write", "nonblocking", "writev", "send", "sendmsg", "sendmmsg", "sendfile", "splice", "dup", "thread",
        "fork", "close"]


class Receiver:
    """Takes what comes, connection by connection, and says nothing."""

    def __init__(self, window=0):
        self.listener = socket.socket()
        if window:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.window = window
        self.got = []
        self.threads = []
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def accept(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            parts = []
            self.got.append(parts)
            thread = threading.Thread(target=self.read, args=(one, parts), daemon=True)
            thread.start()
            self.threads.append(thread)

    def read(self, one, parts):
        with one:
            try:
                while part := one.recv(self.window or 65536):
                    parts.append(part)
                    if self.window:
                        time.sleep(0.0002)
            except ConnectionError:
                pass

    def end(self):
        """What each connection brought, if anything, in the order of their beginning."""
        with socket.create_connection(("127.0.0.1", self.port)) as last:  # those before it are accepted first
            last.sendall(b"last")
        harness.wait_until(lambda: self.got and self.got[-1] == [b"last"], "the last connection was accepted")
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join(10)
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        self.listener.close()
        return [b"".join(parts) for parts in self.got[:-1] if parts]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    home = tmp_path_factory.mktemp("inject")
    for name, command in FLAVOURS.items():
        if shutil.which(command[0]):
            include = ["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"]
            subprocess.run([*command, "-w", "-g", "-O1", "-pthread", *(include if name == "musl" else []),
                            "-o", home / name, PROGRAMS / "inject.c"], check=True)
    subprocess.run(["cc", "-w", "-g", "-O1", "-shared", "-fPIC", "-o", home / "short.so", PROGRAMS / "short.c",
                    "-ldl"], check=True)
    return home


def run(program, scenario, env=None, window=0):
    """((exit status, output), what each connection brought)"""
    receiver = Receiver(window)
    ran = subprocess.run([program, scenario, str(receiver.port)], stdin=subprocess.DEVNULL, capture_output=True,
                         timeout=60, env={**os.environ, **(env or {})}, check=False)
    return (ran.returncode, ran.stdout.decode(), ran.stderr.decode()), receiver.end()


@pytest.fixture
def injecting(tmp_path, agent):
    """The environment of a program into whose requests headers are put; .olly is the agent."""
    path = tmp_path / "inject.sock"

    class Environment(dict):
        pass

    def start(*destinations, **hook):
        olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path), **hook},
                            "tracing": {"propagation": {"inject": destinations or ["127.0.0.0/8"]}}})
        env = Environment(LD_PRELOAD=harness.LIBRARY, OLLY_HOOK_SOCKET_PATH=str(path),
                          OLLY_HOOK_SOCKET_ATTACH_WAIT="5s")
        env.olly = olly
        return env

    return start


def compare(plain, injected, want):
    """The same but for the headers: never two in a request, none but where one fits."""
    assert plain[0] == injected[0], [
        (a, b) for a, b in zip(plain[0][1].splitlines(), injected[0][1].splitlines()) if a != b][:5] or injected[0]
    least, most = want if isinstance(want, tuple) else (want, want)
    spans = []
    stripped = []
    for data in injected[1]:
        found = list(FIELD.finditer(data))
        spans += [m[2] for m in found]
        for a, b in zip(found, found[1:]):
            assert b"HTTP/1." in data[a.end():b.start()], "two in one request"
        stripped.append(FIELD.sub(b"", data))
    before = [FIELD.sub(b"", data) for data in plain[1]]
    assert len(before) == len(stripped)
    for a, b in zip(before, stripped):
        assert a == b, (len(a), len(b), a[:300], b[:300])
    assert least <= len(spans) <= most, (len(spans), want)
    assert len(set(spans)) == len(spans), "ids are drawn for each request"
    return len(spans)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("window", [0, 4096], ids=["", "small_window"])
def test_calls_give_the_same(built, injecting, flavour, window):
    program = built / flavour
    if not program.exists():
        pytest.skip(f"{FLAVOURS[flavour][0]} is not installed")
    env = injecting()
    bad = []
    for scenario, want in SCENARIOS.items():
        if window and scenario not in ("tiny", "interrupted", "bodies"):
            continue
        plain = run(program, scenario, window=window)
        assert plain[0][0] == 0, plain[0]
        try:
            compare(plain, run(program, scenario, env, window), want)
        except AssertionError as error:
            bad.append(f"{scenario}: {error}")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("state", ["absent", "present", "stopped", "killed", "dormant"])
def test_nothing_without_an_agent_that_says_so(built, in_state, state):
    """`present`: it is not configured. `stopped` and `killed` before the program begins."""
    env = in_state(state)
    for scenario in ("plain", "bodies"):
        assert compare(run(built / "glibc", scenario), run(built / "glibc", scenario, env), 0) == 0


def test_dormant_and_stopped_while_it_runs(built, injecting):
    """Capture off; or the agent stopped: a second later nothing is put in any more."""
    env = injecting(on_demand=True)
    assert compare(run(built / "glibc", "plain"), run(built / "glibc", "plain", env), 0) == 0
    source = (
        "import socket, sys, time\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "for line in sys.stdin:\n"
        "    s.sendall(b'GET /%s HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' % line.strip().encode())\n"
        "    time.sleep(0.05); print(flush=True)\n")
    env.olly.stop()
    env = injecting()
    receiver = Receiver()
    program = subprocess.Popen(["/usr/bin/python3", "-c", source, str(receiver.port)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, env={**os.environ, **env})

    def say(word):
        program.stdin.write(word + "\n")
        program.stdin.flush()
        assert program.stdout.readline() == "\n"

    say("1")
    env.olly.process.send_signal(19)  # SIGSTOP
    time.sleep(1.3)
    say("2")
    env.olly.process.send_signal(18)
    time.sleep(0.3)
    say("3")
    env.olly.process.kill()
    env.olly.process.wait()
    time.sleep(1.3)
    say("4")
    program.stdin.close()
    program.wait()
    data, = receiver.end()
    requests = re.findall(rb"GET /(\d) HTTP/1.1\r\nHost: a\r\n(traceparent: [^\r]*\r\n)?\r\n", data)
    assert [(n, bool(field)) for n, field in requests] == [(b"1", True), (b"2", False), (b"3", True), (b"4", False)]
    # It was killed: nothing to check at its end.
    env.olly.get = lambda path: (0, "")
    env.olly.stop = lambda seconds=5: 0


@pytest.mark.parametrize("way", WAYS)
def test_a_header_that_went_out_in_part(built, injecting, way):
    """Behind a kernel that takes as little as it likes: the rest of the header comes before any other
    byte, from whichever call, thread, descriptor or process that is."""
    env = injecting()
    env["LD_PRELOAD"] += f":{built / 'short.so'}"
    text = (b"POST /b HTTP/1.1\r\nHost: harm.test\r\nContent-Length: 30\r\n\r\n"
            b"0123456789abcdefghijABCDEFGHIJ")
    fits = text.index(b"Content-Length")
    follows = b"GET /a HTTP/1.1\r\nHost: harm.test\r\nAccept: */*\r\n\r\n"
    cuts = [1, fits, fits + 1, fits + 35, fits + 69, fits + 70, fits + 71, len(text) + 69]
    if way == "write":
        cuts = range(1, len(text) + 70)
    for cut in cuts:
        (status, _, error), data = run(built / "glibc", f"rest-{way}", {**env, "SHORT_FIRST": str(cut)})
        assert status == 0, (cut, status, error)
        found = FIELD.findall(data[0])
        if way == "close":
            assert text.startswith(FIELD.sub(b"", data[0])[:fits]), (cut, data)
            continue
        whole = text if way == "fork" else text + follows
        assert FIELD.sub(b"", data[0]) == whole, (cut, data[0])
        assert data[0].count(b"traceparent") == len(found)
        assert (cut > fits) == (FIELD.search(data[0][:fits + 70]) is not None), (cut, data[0])
    env.olly.assert_bytes_conserved()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    home = tmp_path_factory.mktemp("certificate")
    cert, key = home / "cert.pem", home / "key.pem"
    subprocess.run([harness.need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", "10",
                    "-subj", "/CN=harm.test"], check=True, capture_output=True)
    return cert, key


def assert_tls_gives_the_same(program, certificate, env, headers):
    def said(environment):
        ran = subprocess.run([program, *certificate], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                             env={**os.environ, **environment}, check=False)
        assert ran.returncode == 0, ran
        # A program that tries something else is refused; on which ground, BAD_LENGTH or BAD_WRITE_RETRY, is
        # a question of lengths.
        return re.sub(rb"reason (127|271)", b"reason bad", ran.stdout)

    plain, injected = said({}), said(env)
    own = plain.count(b"traceparent")
    assert injected.count(PARENT) == own
    kept = injected.replace(PARENT, b"OWN")
    found = [m[2] for m in FIELD.finditer(kept)]
    assert kept.count(b"traceparent") == len(found) + own, "a header is whole"
    assert FIELD.sub(b"", kept) == plain.replace(PARENT, b"OWN")
    assert len(set(found)) == len(found) == headers
    env.olly.assert_bytes_conserved()


def test_openssl_gives_the_same(injecting, certificate, tmp_path):
    """Writes that are refused and tried again, in all modes: as without headers, and headers there are."""
    program = tmp_path / "tls_inject"
    subprocess.run(["cc", "-w", "-g", "-O1", "-o", program, PROGRAMS / "tls_inject.c", "-lssl", "-lcrypto"],
                   check=True)
    assert_tls_gives_the_same(program, certificate, injecting("harm.test", "a"), 188)


def test_gnutls_gives_the_same(injecting, certificate, tmp_path):
    if not os.path.exists("/usr/include/gnutls/gnutls.h"):
        pytest.skip("libgnutls28-dev is not installed")
    program = tmp_path / "gnutls_inject"
    subprocess.run(["cc", "-w", "-g", "-O1", "-pthread", "-o", program, PROGRAMS / "gnutls_inject.c", "-lgnutls"],
                   check=True)
    # Before they are corked, four of the first connection; three of the second, where what was more than a
    # record goes on with calls that do not show it. Two of each of the seven others.
    assert_tls_gives_the_same(program, certificate, injecting("harm.test", "a"), 4 + 3 + 7 * 2)


def test_ids_are_those_of_the_spans(built, injecting):
    env = injecting()
    _, got = run(built / "glibc", "threads", env)
    ids = {(m[1].decode(), m[2].decode()) for data in got for m in FIELD.finditer(data)}
    spans = env.olly.wait_spans(100)
    assert {(s.trace, s.id) for s in spans} == ids
    assert all(not s.parent for s in spans)
    assert env.olly.total("olly_injected_total") == 100
    env.olly.assert_nothing_lost()
    env.olly.assert_bytes_conserved()
