"""BoringSSL as a shared library, as the kernel's probes see it: Debian has one (Android's), which is taken out of its
package. Programs that have BoringSSL within them and export nothing are in test_tls_libraries.py."""
import json
import os
import subprocess
import sys

import harness
import pytest
from test_preload_tls import certificate  # noqa: F401
from test_tls_ebpf import tls_agent  # noqa: F401

PACKAGE = "android-libboringssl"
PROGRAM = harness.ROOT / "tests" / "harm" / "programs" / "tls_any.c"
# Has the library before the agent looks, and then starts a program with it.
DRIVER = """
import ctypes, subprocess, sys
libraries = [ctypes.CDLL(path, ctypes.RTLD_GLOBAL) for path in sys.argv[1:3]]
print('ready', flush=True)
for line in sys.stdin:
    subprocess.run(sys.argv[3:], check=True, stdout=subprocess.DEVNULL, timeout=60)
    print('done', flush=True)
"""


@pytest.fixture(scope="module")
def boringssl(tmp_path_factory):
    """(libcrypto, libssl)"""
    kept = harness.ROOT / "build" / "wheels"
    kept.mkdir(parents=True, exist_ok=True)
    with harness.locked(kept / "lock"):
        if not list(kept.glob(PACKAGE + "_*.deb")):
            ran = subprocess.run([harness.need("apt-get"), "download", "-q", PACKAGE], cwd=kept, capture_output=True,
                                 text=True, timeout=120, check=False)
            if ran.returncode != 0:
                pytest.skip(f"{PACKAGE} cannot be had: {ran.stderr.strip()[-200:]}")
        package, = kept.glob(PACKAGE + "_*.deb")
    home = tmp_path_factory.mktemp("boringssl")
    subprocess.run([harness.need("dpkg-deb"), "-x", package, home], check=True)
    return tuple(next(home.rglob(name)) for name in ("libcrypto.so.*", "libssl.so.*"))


def test_shared_boringssl(processes, tls_agent, certificate, boringssl, tmp_path):  # noqa: F811
    """Both ends' reads and writes, in parts, of which the first leaves some in the library."""
    binary, folder = tmp_path / "tls_any", boringssl[0].parent
    subprocess.run([harness.need("cc", "gcc"), "-w", "-O1", "-o", binary, PROGRAM, *boringssl,
                    "-Wl,--allow-shlib-undefined"], check=True)
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *boringssl, binary, *certificate], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env={**os.environ, "LD_LIBRARY_PATH": str(folder)})
    processes.running.append(driver)
    assert driver.stdout.readline() == "ready\n"
    olly = tls_agent([driver.pid])
    ran = subprocess.run([harness.OLLY, "check", "--json"], capture_output=True, text=True, check=False)
    found, = [f for f in json.loads(ran.stdout)["tls"] if f["path"] == str(boringssl[1])]
    assert found["library"] == "BoringSSL" and not any(s["expensive"] for s in found["sites"]), found
    for _ in range(3):
        driver.stdin.write("go\n")
        driver.stdin.flush()
        assert driver.stdout.readline() == "done\n"
    spans = olly.wait_spans(12)
    for kind in ("client", "server"):
        mine = [s for s in spans if s.kind == kind]
        assert sorted(s["http.request.body.size"] or 0 for s in mine) == [0, 0, 0, 55555, 55555, 55555], mine
        assert all(s.path == "/any" and s["http.response.status_code"] == 204 for s in mine)
        assert all(s["tls.protocol.version"] == "1.3" and s["olly.incomplete"] is None for s in mine)
    clients = {s.id: s for s in spans if s.kind == "client"}
    assert all(s.parent in clients for s in spans if s.kind == "server")
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
