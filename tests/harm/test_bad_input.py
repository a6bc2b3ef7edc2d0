"""What may be wrong with the machine, the agent's socket or the other side: the program and the agent
are unharmed, and a message says what it is. What is wrong with a region: src/hook/socket/*_test.cpp
and the fuzz target `region`; strangers at the agent's socket: test_calls.py."""
import fcntl
import json
import os
import pathlib
import socket
import struct
import subprocess
import tempfile
import time

import harness
import pytest

EXCHANGE = (
    "import socket\n"
    "l = socket.create_server(('127.0.0.1', 0))\n"
    "a = socket.create_connection(l.getsockname()); b, _ = l.accept()\n"
    "a.sendall(b'x' * 1000); got = 0\n"
    "while got < 1000: got += len(b.recv(1000))\n"
    "a.close(); print(got, b.recv(1))\n")


def run(path, prefix=(), program=EXCHANGE):
    ran = subprocess.run([*prefix, "/usr/bin/python3", "-c", program], capture_output=True, text=True,
                         timeout=40, env={**os.environ, "LD_PRELOAD": harness.LIBRARY,
                                          "OLLY_HOOK_SOCKET_PATH": str(path)}, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "1000 b''\n", ""), ran


@pytest.fixture
def olly(tmp_path, agent):
    one = agent(None, {"hook": {"provider": "socket", "socket_path": str(tmp_path / "hook.sock")}})
    one.path = tmp_path / "hook.sock"
    return one


def own_mounts(setup):
    """A prefix that runs a program in a mount namespace of its own, prepared like this."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a mount namespace")
    return [harness.need("unshare"), "-m", "sh", "-ec", f"{setup}\nexec \"$@\"", "sh"]


@pytest.mark.parametrize("setup", [
    # No file system has room for anything.
    "mount -t tmpfs -o size=16k none /dev/shm; dd if=/dev/zero of=/dev/shm/full 2>/dev/null || true",
    "mount -t tmpfs -o size=16k,nr_inodes=3 none /dev/shm; touch /dev/shm/a /dev/shm/b || true",
    "mount -t tmpfs -o ro none /dev/shm; mount -t tmpfs -o ro none /run",
    "mount --bind / /mnt; mount -o remount,bind,ro /",
    "umount -l /dev/shm || true",
], ids=["full", "no_inodes", "read_only_shm", "read_only_root", "no_shm"])
def test_file_systems_do_not_matter(olly, setup):
    """The region is no file: a program attaches, and behaves, wherever nothing can be written."""
    run(olly.path, own_mounts(setup))
    harness.wait_until(lambda: olly.total("olly_bytes_total", fate="seen") == 2000, "it was seen")
    olly.assert_bytes_conserved()


def test_no_memory_for_a_region(olly):
    """Nothing to make a region of: the program goes on without."""
    run(olly.path, [harness.need("prlimit"), "--fsize=100000", "--"])
    run(olly.path, [harness.need("prlimit"), "--as=2000000000", "--"])
    time.sleep(0.3)
    assert olly.total("olly_preloaded_programs") == 0


def test_another_version(olly):
    """A library of another version: refused, counted, and said why; nothing comes back to it."""
    region = os.memfd_create("olly", os.MFD_ALLOW_SEALING)
    os.ftruncate(region, 1 << 20)
    fcntl.fcntl(region, 1033, 0x0002 | 0x0004)  # F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW
    os.pwrite(region, struct.pack("5I", 0x594C4C4F, 99, 4, 32768, 16), 0)
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(str(olly.path))
    hello = struct.pack("4I16s128s", 0x594C4C4F, 99, 0, 0, b"newer", b"/usr/bin/newer")
    s.sendmsg([hello], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", region))])
    harness.wait_until(lambda: olly.total("olly_preloaded_refused_total") == 1, "it was refused")
    text = olly.log.read_text()
    assert "newer" in text and "another version: 99" in text, text
    run(olly.path)
    harness.wait_until(lambda: olly.total("olly_bytes_total", fate="seen") == 2000, "others are seen")


def test_a_socket_that_is_not_ours():
    """Another user's agent is not told anything: nothing is sent to it, not even a descriptor."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it up")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are of their user alone
        os.chmod(folder, 0o777)
        others_socket(pathlib.Path(folder) / "hook.sock")


def others_socket(path):
    nobody = [harness.need("setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    listener = subprocess.Popen(
        [*nobody, "/usr/bin/python3", "-c",
         "import socket, sys, os\n"
         "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
         f"s.bind({str(path)!r}); os.chmod({str(path)!r}, 0o777); s.listen(8)\n"
         "print('listens', flush=True)\n"
         "while True:\n"
         "    c, _ = s.accept(); print(len(c.recv(1000)), flush=True)\n"],
        stdout=subprocess.PIPE, text=True, cwd="/")
    try:
        assert listener.stdout.readline() == "listens\n"
        other = [w.replace("65534", "65533") for w in nobody]
        probe = subprocess.run([*other, "test", "-r", harness.LIBRARY], check=False)
        if probe.returncode != 0:
            pytest.skip("the build folder is not readable for an unprivileged user")
        run(path, other)
        assert listener.stdout.readline() == "0\n", "whoever connected said nothing"
        # The same user's is told.
        run(path, nobody)
        assert listener.stdout.readline() == "160\n"
    finally:
        listener.kill()
        listener.wait()


@pytest.mark.parametrize("path", ["", "/", "relative.sock", "/nowhere/at/all.sock", "/" + "x" * 200, "/dev/null"])
def test_paths_that_lead_nowhere(path):
    run(path)


def test_an_agent_that_cannot_listen(tmp_path):
    """On a read-only file system, and in a folder that is not there: said, with what to do."""
    prefix = own_mounts(f"mount -t tmpfs -o ro none {tmp_path / 'read-only'}")
    (tmp_path / "read-only").mkdir()
    config = tmp_path / "olly.yaml"
    for where, words in ((tmp_path / "read-only" / "hook.sock", "Read-only file system"),
                         (tmp_path / "no" / "such" / "hook.sock", "No such file")):
        config.write_text(json.dumps({"hook": {"provider": "socket", "socket_path": str(where)},
                                      "health": {"enabled": False}}))
        ran = subprocess.run([*prefix, harness.OLLY, "--config", str(config)], capture_output=True,
                             text=True, timeout=20, check=False)
        assert ran.returncode == 1 and "hook.socket_path" in ran.stderr and words in ran.stderr, ran
