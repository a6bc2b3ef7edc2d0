"""The library for macOS, built here and looked at: it links, and its table says what dyld is to replace.
That it runs is not tried: there is no macOS here."""
import re
import subprocess

import harness
import pytest

PRELOAD = harness.ROOT / "preload"
# Functions of a TLS library, which a program need not have.
OPTIONAL = re.compile(r"(SSL|gnutls)_|os_sync_wake_by_address_all$")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    out = tmp_path_factory.mktemp("macos")
    ran = subprocess.run([harness.ROOT / "scripts/macos-library.sh", out], capture_output=True, text=True,
                         timeout=300, check=False)
    if ran.returncode == 77:
        pytest.skip(ran.stderr.strip().splitlines()[-1])
    assert ran.returncode == 0, ran.stderr
    return out


def hooks():
    """What the sources say is hooked on macOS."""
    names = []
    for source in (*PRELOAD.glob("*.c"), PRELOAD / "darwin/hooks.c"):
        # HOOK(type, name, ...) and the macros of hooks_tls.c that are made of it, with a type or without
        names += re.findall(r"^[A-Z_]+\((?:(?:int|void|ssize_t)(?: \*)?, *)?(\w+)[,)]", source.read_text(), re.M)
    return sorted(name for name in names if not name.isupper())


def objdump(library, *what):
    tool = harness.need("llvm-objdump", *(f"llvm-objdump-{n}" for n in range(19, 13, -1)))
    return subprocess.run([tool, "--macho", *what, library], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("arch, name", [("arm64", "ARM64"), ("x86_64", "X86_64")])
def test_library_for_macos(libraries, arch, name):
    library = libraries / arch / "libolly.dylib"
    header = objdump(library, "--private-header")
    assert re.search(rf"\b{name}\b.*\bDYLIB\b", header), header

    sections = {m[1]: (int(m[2], 16), int(m[3], 16)) for m in re.finditer(
        r"^ *\d+ (\w+) +([0-9a-f]+) ([0-9a-f]+)", objdump(library, "--section-headers"), re.M)}
    size, table = sections["__interpose"]
    bound = {}  # address in the table: the function that is replaced
    for m in re.finditer(r"^__DATA +__interpose +0x([0-9A-F]+) pointer +0 (\S+) +_(\S+)( \(weak_import\))?$",
                         objdump(library, "--bind"), re.M):
        bound[int(m[1], 16)] = m[3]
        ours = bool(OPTIONAL.match(m[3]))
        assert (m[2], bool(m[4])) == (("flat-namespace", True) if ours else ("libSystem", False)), m[0]
    expected = hooks()
    assert len(expected) > 40 and {"read", "connectx", "SSL_read", "gnutls_bye"} <= set(expected)
    assert sorted(bound.values()) == expected
    # pairs: our function, which the loader moves with the library, then the real one, which it looks up
    assert sorted(bound) == [table + 8 + 16 * n for n in range(len(expected))] and size == 16 * len(expected)
    moved = {int(m, 16) for m in re.findall(r"^__DATA +__interpose +0x([0-9A-F]+)", objdump(library, "--rebase"), re.M)}
    assert moved == {address - 8 for address in bound}

    needed = objdump(library, "--dylibs-used")
    assert re.findall(r"^\t(\S+) \(compat", needed, re.M)[-1:] == ["/usr/lib/libSystem.B.dylib"], needed
    exported = objdump(library, "--exports-trie")
    assert not re.search(r"_(read|write|SSL_read|olly_\w+)$", exported, re.M), exported
