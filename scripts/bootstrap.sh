#!/bin/sh
# Installs what a make target needs, from the distribution's own archive as it stands: no package
# source is added or enabled, no package is removed, no service is left running or enabled.
#
#   scripts/bootstrap.sh GROUP...      groups: build run test lint bench fuzz coverage kernel
#   scripts/bootstrap.sh --list GROUP...   only says what is missing (exit 1 when something is)
#
# Debian 12, Debian 13 and Ubuntu 24.04. Takes a few hundredths of a second when nothing is missing.
# A user who is not root is told what to install (exit 1). OLLY_SKIP_BOOTSTRAP=1 trusts you.
set -eu

# One requirement a line:   commands | packages
#   commands  any of these on the PATH satisfies it ("-": only the package counts)
#   packages  any of these installed satisfies it; else the first one that the archive knows is
#             installed; a "?" in front: where the archive has none of them, go on without
requirements() {
  case $1 in
  build) cat <<'LIST'
g++ c++ | g++
cmake | cmake
ninja | ninja-build
pkg-config pkgconf | pkgconf pkg-config
ccache | ccache
clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14 | clang
llvm-strip llvm-strip-19 llvm-strip-18 llvm-strip-17 llvm-strip-16 llvm-strip-15 llvm-strip-14 | llvm
- | libbpf-dev
- | libelf-dev
- | zlib1g-dev
- | libnghttp2-dev
- | libssl-dev
- | libyaml-cpp-dev
- | libfmt-dev
- | libzstd-dev
- | libzydis-dev
- | libdeflate-dev
- | libprotozero-dev
- | rapidjson-dev
- | libcli11-dev
- | libgtest-dev
- | libboost1.88-dev libboost1.83-dev libboost1.81-dev
LIST
  ;;
  run) cat <<'LIST'
python3 | python3
openssl | openssl
redis-server | ?redis-server
LIST
  ;;
  test) cat <<'LIST'
python3 | python3
- | python3-venv
curl | curl
nginx | nginx
node nodejs | nodejs
npm | npm
redis-server | redis-server
redis-benchmark | redis-tools
go | golang-go
- | postgresql
psql | postgresql-client
javac | default-jdk-headless
mvn | maven
ip | iproute2
iptables | iptables
mariadbd | mariadb-server
mariadb | mariadb-client
musl-gcc | musl-tools
setpriv | util-linux
openssl | openssl
- | libgrpc++-dev
- | libprotobuf-dev
protoc | protobuf-compiler
grpc_cpp_plugin | protobuf-compiler-grpc
- | libgnutls28-dev
- | libcurl3-gnutls libcurl3t64-gnutls
LIST
  ;;
  lint) cat <<'LIST'
clang-format-14 | ?clang-format-14
clang-tidy-19 | ?clang-tidy-19
shellcheck | ?shellcheck
LIST
  ;;
  bench) cat <<'LIST'
python3 | python3
nginx | nginx
wrk | wrk
redis-server | redis-server
redis-benchmark | redis-tools
- | postgresql
pgbench | postgresql-client-common
h2load | nghttp2-client
setpriv | util-linux
curl | curl
openssl | openssl
taskset | util-linux
LIST
  ;;
  fuzz) cat <<'LIST'
clang++-19 | ?clang-19
- | ?libclang-rt-19-dev
LIST
  ;;
  coverage) cat <<'LIST'
gcovr | gcovr
LIST
  ;;
  kernel) cat <<'LIST'
qemu-system-x86_64 | ?qemu-system-x86
busybox | busybox-static
cpio | cpio
xz | xz-utils
LIST
  ;;
  *) echo "bootstrap: unknown group '$1' (build run test lint bench fuzz coverage kernel)" >&2
     exit 2 ;;
  esac
}

list_only=0
if [ "${1:-}" = --list ]; then
  list_only=1
  shift
fi
[ $# -gt 0 ] || { sed -n '2,9p' "$0"; exit 2; }
[ "${OLLY_SKIP_BOOTSTRAP:-0}" != 1 ] || exit 0

wanted=$(for group in "$@"; do requirements "$group"; done)

if ! command -v dpkg-query >/dev/null 2>&1; then
  echo "bootstrap: this is no Debian or Ubuntu. Olly builds elsewhere too, with what these Debian" >&2
  echo "packages hold; install it and set OLLY_SKIP_BOOTSTRAP=1:" >&2
  printf '%s\n' "$wanted" | sed 's/.*| */  /; s/?//g' | sort -u >&2
  exit 1
fi

# Every package name in one question to dpkg.
names=$(printf '%s\n' "$wanted" | sed 's/.*|//; s/?//g' | tr -s ' ' '\n' | sort -u | grep .)
# shellcheck disable=SC2086
installed=" $(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' $names 2>/dev/null |
  sed -n 's/^[ih]i *//p' | tr '\n' ' ') "

# Prints the package alternatives of each requirement that is not met, one requirement a line.
missing() {
  printf '%s\n' "$wanted" | while IFS='|' read -r commands packages; do
    met=0
    for c in $commands; do
      if [ "$c" != - ] && command -v "$c" >/dev/null 2>&1; then met=1 && break; fi
    done
    for p in $packages; do
      case $installed in *" ${p#\?} "*) met=1 && break ;; esac
    done
    [ $met = 1 ] || echo "$packages"
  done | sort -u
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0

if [ $list_only = 1 ]; then
  printf '%s\n' "$lacking"
  exit 1
fi

if [ "$(id -u)" != 0 ]; then
  echo "bootstrap: these packages are missing; install them as root (of several names in a line, one):" >&2
  printf '%s\n' "$lacking" | sed 's/?//g; s/^ */  /' >&2
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "bootstrap: apt-get update had errors; trying with the lists there are" >&2

chosen=$(printf '%s\n' "$lacking" | while read -r packages; do
  found='' optional=0
  for p in $packages; do
    case $p in \?*) optional=1 ;; esac
    if apt-cache policy "${p#\?}" 2>/dev/null | grep -q 'Candidate: [^(]'; then
      found=${p#\?} && break
    fi
  done
  if [ -n "$found" ]; then
    echo "$found"
  elif [ $optional = 1 ]; then
    echo "bootstrap: the archive has no $packages: what needs it will be skipped" >&2
  else
    echo "bootstrap: the archive has none of: $packages" >&2
    echo "?"
  fi
done)
case $chosen in *\?*) exit 1 ;; esac
[ -n "$chosen" ] || exit 0

# A server package starts its service and enables it for the next boot; we want only the program.
policy=/usr/sbin/policy-rc.d
made_policy=0
log=$(mktemp)
cleanup() {
  rm -f "$log"
  if [ $made_policy = 1 ]; then rm -f $policy; fi
}
trap cleanup EXIT
trap 'exit 1' INT TERM
if [ ! -e $policy ]; then
  printf '#!/bin/sh\n# put here by scripts/bootstrap.sh of olly while it installs\nexit 101\n' >$policy
  chmod 755 $policy
  made_policy=1
fi

echo "bootstrap: installing" $chosen
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends --no-remove $chosen >"$log" 2>&1 || {
  cat "$log" >&2
  echo "bootstrap: apt-get could not install: $chosen" >&2
  echo "bootstrap: (packages that are on this machine are never removed to make room)" >&2
  exit 1
}
for service in nginx redis-server postgresql mariadb; do
  case " $(echo $chosen) " in
  *" $service "* | *" $service-server "*)
    if [ -d /run/systemd/system ]; then systemctl -q disable $service || true; fi
    ;;
  esac
done
