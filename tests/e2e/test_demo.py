"""`make run` (deploy/demo): linked traces, a clean end by Ctrl-C, twice at once, nothing left behind."""
import os
import pathlib
import re
import signal
import subprocess

import harness
import pytest

DEMO = harness.ROOT / "deploy" / "demo" / "run.sh"
LINE = re.compile(r"^( *)(shop|stock) (SERVER|CLIENT) (\S+) ", re.MULTILINE)


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


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: eBPF")
def test_two_demos_at_once_end_by_ctrl_c(tmp_path):
    if pathlib.Path(harness.OLLY).resolve() != (harness.ROOT / "build" / "olly").resolve():
        pytest.skip("the demo shows build/olly, and another one is tested")
    logs = [tmp_path / "one", tmp_path / "two"]
    demos = [subprocess.Popen(["sh", DEMO], stdin=subprocess.DEVNULL, stdout=open(log, "w"),
                              stderr=subprocess.STDOUT, start_new_session=True) for log in logs]
    try:
        for log in logs:
            harness.wait_until(lambda log=log: len(LINE.findall(log.read_text())) >= 8,
                               "linked traces are shown", 60, every=0.1)
        for demo in demos:
            os.killpg(demo.pid, signal.SIGINT)  # what a terminal does
        for demo in demos:
            assert demo.wait(10) == 0
    finally:
        for demo in demos:
            if demo.poll() is None:
                demo.kill()
                demo.wait()
    for log in logs:
        text = log.read_text()
        assert re.search(r"^shop SERVER .*\n  shop CLIENT .*\n    stock SERVER ", text, re.MULTILINE), text
        assert "Traceback" not in text and "warn" not in text, text
    harness.wait_until(lambda: demo_processes() == [], "no process is left behind")
