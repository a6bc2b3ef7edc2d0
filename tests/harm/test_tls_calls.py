"""Every hooked call of a TLS library, differential: programs/tls_calls.c and gnutls_calls.c say what
each call gave, and must say the same without libolly.so and with it, in whatever state the agent is."""
import os
import pathlib
import shutil
import subprocess

import harness
import pytest
from test_calls import STATES, in_state  # noqa: F401

PROGRAMS = pathlib.Path(__file__).parent / "programs"
SCENARIOS = ["tls13", "tls12", "retries", "memory", "errors", "through_bio", "threads", "forked",
             "interrupted", "early"]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A folder with the programs, a certificate and plugins."""
    home = tmp_path_factory.mktemp("tls")
    subprocess.run([harness.need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", home / "key.pem", "-out",
                    home / "cert.pem", "-days", "10", "-subj", "/CN=harm.test"], check=True,
                   capture_output=True)

    def compile_(*arguments, compiler="cc"):
        subprocess.run([compiler, "-w", "-g", "-O1", "-pthread", *arguments], check=True, cwd=home)

    compile_("-o", "tls_calls", PROGRAMS / "tls_calls.c", "-lssl", "-lcrypto")
    # Each plugin has a library of its own, as wheels do; the program has none for everybody.
    for compiler in filter(shutil.which, ("cc", "musl-gcc")):
        compile_("-o", f"{compiler}-loader", PROGRAMS / "tls_loader.c", compiler=compiler)
        for n in (1, 2):
            library = f"libssl-{compiler}{n}.so"
            compile_("-shared", "-fPIC", f"-DNUMBER={n}", f"-Wl,-soname,{library}", "-o", library,
                     PROGRAMS / "tls_stand_in.c", compiler=compiler)
            compile_("-shared", "-fPIC", "-o", f"{compiler}-plugin{n}.so", PROGRAMS / "tls_plugin.c", "-L.",
                     f"-l:{library}", "-Wl,-rpath,$ORIGIN", compiler=compiler)
    if os.path.exists("/usr/include/gnutls/gnutls.h"):
        compile_("-o", "gnutls_calls", PROGRAMS / "gnutls_calls.c", "-lgnutls")
    return home


def run(command, env=None):
    """(exit status, output)"""
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                         env={**os.environ, **(env or {})}, check=False)
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


ALONE = {}  # what each program says without the library: the same in every state of the agent


def assert_same(command, env):
    words = tuple(map(str, command))
    if words not in ALONE:
        ALONE[words] = run(command)
    plain = ALONE[words]
    assert plain[0] == 0, plain
    with_library = run(command, env)
    lines = [f"{a!r} became {b!r}" for a, b in
             zip(plain[1].splitlines(), with_library[1].splitlines()) if a != b]
    assert plain == with_library, (with_library[0], lines[:5], with_library[2][-300:])
    return plain[1]


@pytest.mark.parametrize("state", STATES)
def test_openssl_gives_the_same(built, in_state, state):
    env = in_state(state)
    for scenario in SCENARIOS:
        assert_same([built / "tls_calls", scenario, built / "cert.pem", built / "key.pem"], env)


@pytest.mark.parametrize("state", STATES)
def test_gnutls_gives_the_same(built, in_state, state):
    if not (built / "gnutls_calls").exists():
        pytest.skip("libgnutls28-dev is not installed")
    said = assert_same([built / "gnutls_calls", built / "cert.pem", built / "key.pem"], in_state(state))
    assert "handshake 0 0" in said and "got 200000" in said, said


@pytest.mark.parametrize("compiler", ["cc", "musl-gcc"])
@pytest.mark.parametrize("state", ["absent", "present"])
def test_each_plugin_reaches_its_own_library(built, in_state, state, compiler):
    """Loaded with RTLD_LOCAL, unloaded and loaded again, one, the other, and both at once."""
    loader = built / f"{compiler}-loader"
    if not loader.exists():
        pytest.skip(f"{compiler} is not installed")
    env = in_state(state)
    one, other = (built / f"{compiler}-plugin{n}.so" for n in (1, 2))
    for plugins, want in (((one,), "111 "), ((one, other), "111 222 "), ((other, one), "222 111 ")):
        said = assert_same([loader, *plugins], env)
        assert said == want * 3 + "both " + want + "dlerror none\n", said


def test_every_layer_is_seen(built, agent, tmp_path):
    """What is compared above is not a library that sleeps: the same calls do make events."""
    path = tmp_path / "hook.sock"
    olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path)}})
    env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}
    programs = [[built / "tls_calls", scenario] for scenario in SCENARIOS if scenario != "interrupted"]
    if (built / "gnutls_calls").exists():
        programs.append([built / "gnutls_calls"])
    for program in programs:
        before = [olly.total("olly_tls_bytes_total", layer=n) for n in ("plaintext", "ciphertext")]
        assert run([*program, built / "cert.pem", built / "key.pem"], env)[0] == 0
        for n, layer in enumerate(("plaintext", "ciphertext")):
            harness.wait_until(lambda: olly.total("olly_tls_bytes_total", layer=layer) > before[n],
                               f"{layer} of {program}")
    olly.assert_bytes_conserved()


def test_bytes_of_a_large_body_are_all_seen(built, agent, tmp_path):
    """3,000,000 bytes in partial writes and retries (WANT_WRITE): the span has the body's size, on
    both sides, and nothing of the plaintext is a gap."""
    path = tmp_path / "hook.sock"
    olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path)}})
    env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}
    source = tmp_path / "move.py"
    source.write_text(
        "import select, socket, ssl, sys, threading\n"
        "s = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); s.load_cert_chain(*sys.argv[1:3])\n"
        "c = ssl._create_unverified_context()\n"
        "l = socket.create_server(('127.0.0.1', 0))\n"
        "def serve():\n"
        "    b = s.wrap_socket(l.accept()[0], server_side=True); got = b''\n"
        "    while b'\\r\\n\\r\\n' not in got: got += b.recv(5000)\n"
        "    left = 3000000 - len(got.split(b'\\r\\n\\r\\n', 1)[1])\n"
        "    while left: left -= len(b.recv(70000))\n"
        "    b.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok'); b.recv(1); b.close()\n"
        "t = threading.Thread(target=serve); t.start()\n"
        "a = c.wrap_socket(socket.create_connection(l.getsockname()))\n"
        "a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096); a.setblocking(False); waits = 0\n"
        "data = b'POST /large HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 3000000\\r\\n\\r\\n'\n"
        "data += b'x' * 3000000; at = 0\n"
        "while at < len(data):\n"
        "    try: at += a.send(data[at:at + 100000])\n"
        "    except ssl.SSLWantWriteError: waits += 1; select.select([], [a], [])\n"
        "a.setblocking(True); print(a.recv(100)[-2:], waits > 0); a.close(); t.join()\n")
    said = run(["python3", source, built / "cert.pem", built / "key.pem"], env)
    assert said[:2] == (0, "b'ok' True\n"), said
    spans = olly.wait_spans(2)
    assert {s.kind for s in spans} == {"client", "server"}
    assert all(s["http.request.body.size"] == 3000000 for s in spans), spans
    assert olly.total("olly_bytes_total", fate="gap") == 0
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
