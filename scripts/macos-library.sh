#!/usr/bin/env bash
# Builds libolly.dylib, the library of preload/ for macOS, for both architectures:
#   scripts/macos-library.sh [DIR]      DIR/arm64/libolly.dylib, DIR/x86_64/libolly.dylib (build/macos)
# On macOS with Apple's compiler. Elsewhere with zig's, from PyPI, which brings macOS' headers and the
# names of libSystem: it links, it does not run. Exits 77 where zig cannot be had.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/build/macos}
zig_version=0.17.1
flags=(-std=gnu11 -O2 -fno-sanitize=all -fno-builtin -fvisibility=hidden -Wall -Wextra -Werror
  "-I$root/src" "-I$root/preload"
  # TLS libraries are whoever's has them, or nobody's.
  "-Wl,-undefined,dynamic_lookup" "-Wl,-install_name,@rpath/libolly.dylib")
if [ "$(uname)" = Darwin ]; then
  compile() { cc -arch "$1" -mmacosx-version-min=11.0 -dynamiclib "${@:2}"; }
else
  venv=${XDG_CACHE_HOME:-$HOME/.cache}/olly/zig # not in build/: it is large, and seldom another one
  mkdir -p "$(dirname "$venv")"
  exec 9>"$venv.lock"
  flock 9
  if ! "$venv/bin/python" -m ziglang version 2>/dev/null | grep -qx "$zig_version"; then
    rm -rf "$venv"
    python3 -m venv "$venv" >&2 &&
      "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "ziglang==$zig_version" >&2 || {
      echo "macos-library: ziglang $zig_version cannot be had here (PyPI not reachable?)" >&2
      exit 77
    }
  fi
  export ZIG_GLOBAL_CACHE_DIR=$venv/cache ZIG_LOCAL_CACHE_DIR=$venv/cache
  compile() { "$venv/bin/python" -m ziglang cc -target "${1/arm64/aarch64}-macos.11.0" -shared -nostdlib -lSystem "${@:2}"; }
fi
for arch in arm64 x86_64; do
  mkdir -p "$out/$arch"
  compile $arch "${flags[@]}" -o "$out/$arch/libolly.dylib" "$root"/preload/*.c "$root"/preload/darwin/*.c
  echo "$out/$arch/libolly.dylib"
done
