"""Other libraries with OpenSSL's names than the one that is installed: OpenSSL 1.1 and BoringSSL, out of wheels that
bring them as shared objects. programs/tls_any.c behaves the same with libolly.so, and what it moves is read."""
import pathlib
import struct
import subprocess
import sys
import zipfile

import harness
import pytest
from test_calls import in_state  # noqa: F401
from test_tls_calls import assert_same, built  # noqa: F401

PROGRAM = pathlib.Path(__file__).parent / "programs" / "tls_any.c"
WHEELS = harness.ROOT / "build" / "wheels"
# The wheel as pip asks for it, and where its two libraries are.
LIBRARIES = {
    "openssl-1.1": (["psycopg2-binary==2.8.6", "--python-version=3.8", "--platform=manylinux1_x86_64"],
                    "psycopg2_binary.libs/libssl-*.so.1.1.1g", "psycopg2_binary.libs/libcrypto-*.so.1.1.1g"),
    "boringssl": (["bssl-build==0.0.1"], "bssl_build/libssl.so", "bssl_build/libcrypto.so"),
}
# What a newer libc than this one's has, and BoringSSL's builder had.
NEWER_LIBC = """
#include <stdarg.h>
#include <stdio.h>
int __isoc23_sscanf(const char *text, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	int n = vsscanf(text, format, list);
	va_end(list);
	return n;
}
"""


def without_libc_2_38(library):
    """Its need of that version becomes a wish, as the linker's VER_FLG_WEAK says it."""
    name = 0
    for c in b"GLIBC_2.38":
        name = (name << 4) + c
        name = (name ^ (name & 0xF0000000) >> 24) & 0x0FFFFFFF
    library.write_bytes(library.read_bytes().replace(struct.pack("<IH", name, 0), struct.pack("<IH", name, 2)))


@pytest.fixture(scope="module", params=LIBRARIES)
def program(request, tmp_path_factory):
    """(program, the folder of its libraries)"""
    words, *patterns = LIBRARIES[request.param]
    WHEELS.mkdir(parents=True, exist_ok=True)
    with harness.locked(WHEELS / "lock"):
        stem = words[0].partition("==")[0].replace("-", "_")
        if not list(WHEELS.glob(f"{stem}-*.whl")):
            ran = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                                  "--no-deps", "--only-binary=:all:", "--dest", WHEELS, *words],
                                 capture_output=True, text=True, timeout=120, check=False)
            if ran.returncode != 0:
                pytest.skip(f"{words[0]} cannot be had (PyPI not reachable?)")
        wheel, = WHEELS.glob(f"{stem}-*.whl")
    home = tmp_path_factory.mktemp(request.param)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    libraries = [next(home.glob(pattern)) for pattern in patterns]
    for library in libraries:
        without_libc_2_38(library)
    (home / "newer.c").write_text(NEWER_LIBC)
    folder = libraries[0].parent
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libnewer.so", home / "newer.c"], check=True)
    out = home / "tls_any"
    subprocess.run(["cc", "-w", "-g", "-O1", "-o", out, PROGRAM, *libraries, folder / "libnewer.so",
                    "-Wl,--allow-shlib-undefined"], check=True)
    return out, folder


@pytest.mark.parametrize("state", ["absent", "present", "dormant"])
def test_other_libraries(program, built, in_state, state):  # noqa: F811
    binary, folder = program
    command = ["env", f"LD_LIBRARY_PATH={folder}", binary, built / "cert.pem", built / "key.pem"]
    assert_same(command, in_state(state))


def test_other_libraries_are_read(program, built, agent, tmp_path):  # noqa: F811
    binary, folder = program
    path = tmp_path / "hook.sock"
    olly = agent(None, {"hook": {"provider": "socket", "socket_path": str(path)}})
    subprocess.run(["env", f"LD_LIBRARY_PATH={folder}", f"LD_PRELOAD={harness.LIBRARY}",
                    f"OLLY_HOOK_SOCKET_PATH={path}", binary, built / "cert.pem", built / "key.pem"],
                   check=True, stdout=subprocess.DEVNULL, timeout=60)
    spans = olly.wait_spans(4)
    assert {(s.kind, s.path, s["http.response.status_code"], s["tls.protocol.version"]) for s in spans} == {
        (kind, "/any", 204, "1.3") for kind in ("client", "server")}
    olly.assert_nothing_lost()
    olly.assert_bytes_conserved()
