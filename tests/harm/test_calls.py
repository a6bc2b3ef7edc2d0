"""Every hooked call, differential: tests/harm/programs/calls*.c say what each call gave, and must say
the same without libolly.so and with it, in whatever state the agent is."""
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import time

import harness
import pytest

PROGRAMS = pathlib.Path(__file__).parent / "programs"
SOURCES = sorted(map(str, PROGRAMS.glob("calls*.c")))
BUILD = harness.ROOT / "build" / "harm"
FLAVOURS = {
    "glibc": ["cc", "-O1"],
    # read and recv become __read_chk and __recv_chk.
    "fortified": ["cc", "-O2", "-D_FORTIFY_SOURCE=2"],
    "musl": ["musl-gcc", "-O1"],
}
STATES = ["absent", "present", "dormant", "stopped", "killed", "full", "stranger", "hangs_up", "file"]


def scenarios():
    found = re.findall(r"\bX\((\w+)\)[ \\\n]", (PROGRAMS / "calls.h").read_text().partition("SCENARIOS(X)")[2].partition("\n\n")[0] + "\n")
    assert len(found) > 20, found
    return found


@pytest.fixture(scope="session")
def program(request, tmp_path_factory):
    """program(flavour): built once."""
    done = {}

    def build(flavour):
        if flavour not in done:
            command = FLAVOURS[flavour]
            if not shutil.which(command[0]):
                pytest.skip(f"{command[0]} is not installed")
            out = tmp_path_factory.mktemp("calls") / flavour
            subprocess.run([*command, "-w", "-g", "-pthread", "-idirafter", "/usr/include",
                            "-idirafter", "/usr/include/x86_64-linux-gnu", "-o", str(out), *SOURCES]
                           if flavour == "musl" else
                           [*command, "-w", "-g", "-pthread", "-o", str(out), *SOURCES], check=True)
            done[flavour] = out
        return done[flavour]

    return build


def run(program, scenario, env=None):
    """(exit status, output)"""
    ran = subprocess.run([program, scenario], stdin=subprocess.DEVNULL, capture_output=True, timeout=100,
                         env={**os.environ, **(env or {})}, check=False)
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


@pytest.fixture
def in_state(tmp_path, agent):
    """in_state(name): the environment of a program whose agent is in that state."""
    if not os.path.exists(harness.LIBRARY):
        pytest.fail(f"{harness.LIBRARY} is not built")
    path = tmp_path / "hook.sock"
    held = []
    stopped = []

    def start(state):
        if state in ("present", "dormant", "stopped", "killed"):
            olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path),
                                         "on_demand": state == "dormant"}})
            if state == "stopped":
                olly.process.send_signal(signal.SIGSTOP)
                stopped.append(olly)
            if state == "killed":
                olly.process.kill()
                olly.process.wait()
        elif state == "full":  # somebody listens, accepts nobody, and has no room any more
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listening.bind(str(path))
            listening.listen(0)
            held.append(listening)
            for _ in range(8):
                one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                one.setblocking(False)
                held.append(one)
                try:
                    one.connect(str(path))
                except BlockingIOError:
                    break
            else:
                raise AssertionError("the queue is not full")
        elif state == "stranger":  # another kind of socket
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(str(path))
            listening.listen(8)
            held.append(listening)
        elif state == "hangs_up":
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listening.bind(str(path))
            listening.listen(64)
            listening.shutdown(socket.SHUT_RDWR)
            held.append(listening)
        elif state == "file":
            path.write_text("no socket")
        return {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}

    yield start
    for olly in stopped:
        olly.process.send_signal(signal.SIGCONT)
    for one in held:
        one.close()


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("state", STATES)
def test_every_call_gives_the_same(program, in_state, state, flavour):
    calls = program(flavour)
    env = in_state(state)
    differences = []
    for scenario in scenarios():
        plain = run(calls, scenario)
        assert plain[0] == 0, f"{scenario} alone: {plain}"
        with_library = run(calls, scenario, env)
        if plain == with_library:
            continue
        lines = [f"{a!r} became {b!r}" for a, b in
                 zip(plain[1].splitlines(), with_library[1].splitlines()) if a != b]
        differences.append((scenario, with_library[0], lines[:3], with_library[2][-300:]))
    assert not differences, differences


def test_every_call_is_seen(program, agent, tmp_path):
    """The same scenarios do make events: what is compared above is not a library that sleeps."""
    path = tmp_path / "hook.sock"
    olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path)}})
    env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}
    calls = program("glibc")
    for scenario in ("tcp", "unix", "sendfile", "threads", "fork", "vfork_and_spawn", "close_all"):
        before = olly.total("olly_bytes_total", fate="seen")
        assert run(calls, scenario, env)[0] == 0
        harness.wait_until(lambda: olly.total("olly_bytes_total", fate="seen") > before,
                           f"bytes of {scenario}")
    olly.assert_bytes_conserved()


def test_bytes_are_counted_exactly(program, agent, tmp_path):
    """3,000,000 bytes and a few more through one connection, in partial writes: all are seen, twice."""
    path = tmp_path / "hook.sock"
    olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path)}})
    env = {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)}
    source = tmp_path / "move.py"
    source.write_text(
        "import socket\n"
        "l = socket.create_server(('127.0.0.1', 0))\n"
        "a = socket.create_connection(l.getsockname()); b, _ = l.accept()\n"
        "a.setblocking(False); left = 3000000; got = 0\n"
        "while got < 3000000:\n"
        "    try: left -= a.send(b'x' * min(left, 100000)) if left else 0\n"
        "    except BlockingIOError: pass\n"
        "    got += len(b.recv(70000))\n"
        "a.close(); b.recv(1); b.close()\n")
    subprocess.run(["python3", source], env={**os.environ, **env}, check=True, timeout=60)
    harness.wait_until(lambda: olly.total("olly_bytes_total", fate="seen") >= 6000000, "all bytes")
    assert olly.total("olly_bytes_total", fate="seen") == 6000000
    olly.assert_bytes_conserved()


def test_strangers_at_the_agents_socket(agent, tmp_path):
    """Whoever says nothing, or nonsense, or sends what is no sealed memory, is refused and counted."""
    path = tmp_path / "hook.sock"
    olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path)}})

    def say(message, descriptors=(), wait=True):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(str(path))
        if message is not None:
            rights = struct.pack(f"{len(descriptors)}i", *descriptors)
            s.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else [])
        return s

    hello = struct.pack("4I16s128s", 0x594C4C4F, 1, 0, 0, b"x" * 16, b"y" * 128)
    unsealed = os.memfd_create("olly", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 1 << 20)
    empty = os.memfd_create("olly", os.MFD_ALLOW_SEALING)
    import fcntl
    fcntl.fcntl(empty, 1033, 0x0002)  # F_ADD_SEALS, F_SEAL_SHRINK
    sealed = os.memfd_create("olly", os.MFD_ALLOW_SEALING)
    os.ftruncate(sealed, 1 << 20)
    fcntl.fcntl(sealed, 1033, 0x0002)
    with open(tmp_path / "plain", "wb+") as plain:
        plain.truncate(1 << 20)
        open_ones = [say(b"nonsense"), say(hello), say(hello, [unsealed]), say(hello, [empty]),
                     say(hello, [sealed]), say(hello, [plain.fileno()]), say(hello, [sealed, sealed]),
                     say(hello[:50], [sealed])]
        silent = [say(None) for _ in range(100)]
        harness.wait_until(lambda: olly.total("olly_preloaded_refused_total") >= 8 + 36,
                           "all are refused")
    assert olly.total("olly_preloaded_programs") == 0
    for s in [*open_ones, *silent]:
        s.close()
    time.sleep(0.3)
    assert olly.get("/health")[0] == 200


def test_no_descriptor_is_left_in_the_program(agent, tmp_path):
    """Attached, a program has the descriptors that it would have without the library."""
    path = tmp_path / "hook.sock"
    olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path)}})
    script = ("import os, socket\n"
              "l = socket.create_server(('127.0.0.1', 0)); a = socket.create_connection(l.getsockname())\n"
              "a.send(b'x'); print(sorted(os.listdir('/proc/self/fd')))\n")
    outputs = [subprocess.run(["python3", "-c", script], env={**os.environ, **env}, check=True,
                              capture_output=True, timeout=30).stdout
               for env in ({}, {"LD_PRELOAD": harness.LIBRARY, "OLLY_HOOK_SOCKET_PATH": str(path)})]
    assert outputs[0] == outputs[1]
    harness.wait_until(lambda: olly.total("olly_bytes_total", fate="seen") == 1, "it was attached")
