"""`make run` (deploy/demo): linked traces, the same over TLS and without Redis; a clean end by Ctrl-C,
several at once, nothing left behind."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import harness
import pytest

DEMO = harness.ROOT / "deploy" / "demo" / "run.sh"


def demo_processes():
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(w.startswith(str(DEMO.parent).encode() + b"/") for w in words):
            found.append(entry.parent.name)
    return found


def shapes(text):
    """Its traces without times, ports and scheme, as a set."""
    text = re.sub(r"https?://127.0.0.1:\d+", "http://x", text)
    blocks = [b for b in text.split("\n\n") if b.startswith("shop SERVER")]
    return {re.sub(r" +[\d.]+ (?:us|ms|s)\b.*$", "", b, flags=re.MULTILINE).strip() for b in blocks}


def complete(text):
    """Each kind of request has been printed; the last block may still be coming."""
    return len(shapes(text[:text.rfind("\n\n") + 1])) >= 4


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: eBPF")
def test_three_demos_at_once_end_by_ctrl_c(tmp_path):
    if pathlib.Path(harness.OLLY).resolve() != (harness.ROOT / "build" / "olly").resolve():
        pytest.skip("the demo shows build/olly, and another one is tested")
    assert shutil.which("redis-server")
    bare = tmp_path / "bin"  # a host without Redis
    bare.mkdir()
    (bare / "python3").symlink_to(pathlib.Path(sys.executable).resolve())
    (bare / "dirname").symlink_to(shutil.which("dirname"))
    environments = {"plain": {}, "tls": {"DEMO_TLS": "1"}, "alone": {"PATH": str(bare)}}
    logs = {name: tmp_path / name for name in environments}
    demos = {name: subprocess.Popen([shutil.which("sh"), DEMO], stdin=subprocess.DEVNULL, stdout=open(logs[name], "w"),
                                    stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **more})
             for name, more in environments.items()}
    try:
        for log in logs.values():
            harness.wait_until(lambda log=log: complete(log.read_text()), "linked traces are shown", 60, every=0.1)
        for demo in demos.values():
            os.killpg(demo.pid, signal.SIGINT)  # what a terminal does
        for demo in demos.values():
            assert demo.wait(10) == 0
    finally:
        for demo in demos.values():
            if demo.poll() is None:
                demo.kill()
                demo.wait()
    texts = {name: log.read_text() for name, log in logs.items()}
    for name, text in texts.items():
        assert re.search(r"^shop SERVER .*\n  shop CLIENT .*\n    stock SERVER ", text, re.MULTILINE), text
        assert "Traceback" not in text and "warn" not in text, text
        assert ("CLIENT GET https://" in text) == (name == "tls"), text
        assert ("CLIENT GET http://" in text) == (name != "tls"), text
        assert ("      stock CLIENT GET  OK\n        redis SERVER GET  OK" in "\n".join(shapes(text))) == (
            name != "alone"), text
    assert shapes(texts["plain"]) == shapes(texts["tls"])
    assert "no redis-server" in texts["alone"]
    harness.wait_until(lambda: demo_processes() == [], "no process is left behind")
