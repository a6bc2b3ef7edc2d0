#!/usr/bin/env bash
# Boots a Debian 6.1 kernel under QEMU and runs the kernel tests there: the one way to try the
# syscall back end on a kernel that has no socket tracepoints. Before them, the programs as every clang
# builds them are shown to that kernel's verifier (kt_verify). Nothing is installed on this machine;
# the kernel package is only unpacked below the build folder.
#
#   scripts/test-kernel.sh [BUILD_DIR] [HARNESS_ARGUMENT...]     default: build --capture syscall
#
# Exit status: the harness's own; 77 when this machine cannot do it (the reason is printed);
# 124 when the guest did not finish in time.
#   OLLY_KERNEL_TEST_TIMEOUT   seconds for the whole guest (default 900)
#   OLLY_KERNEL_IMAGE          a bzImage to boot instead of Debian's package (6.12's, with --capture sockio, say)
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- --capture syscall
limit=${OLLY_KERNEL_TEST_TIMEOUT:-900}
work=$build/kernel
mkdir -p "$work"

skip() {
  echo "test-kernel: skipped: $*"
  exit 77
}

# --- the kernel -----------------------------------------------------------------------------------
find_kernel() {
  image=${OLLY_KERNEL_IMAGE:-}
  [ -z "$image" ] || return 0
  mkdir -p "$work/root/boot"
  image=$(find "$work/root/boot" -name 'vmlinuz-6.1.*' | sort -V | tail -1)
  [ -z "$image" ] || return 0
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    skip "no apt-get here to fetch a Debian 6.1 kernel with"
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/^ *Depends: \(linux-image-6\.1\.[^ ]*-cloud-amd64\)$/\1/p' | tail -1)
  [ -n "$package" ] ||
    skip "this distribution's archive has no 6.1 cloud kernel (linux-image-cloud-amd64 is of another series or missing; try apt-get update)"
  rm -rf "$work/download" "$work/root"
  mkdir -p "$work/download" "$work/root"
  (cd "$work/download" && apt-get download "$package" >apt.log 2>&1) ||
    skip "apt-get download $package failed: $(tail -1 "$work/download/apt.log")"
  dpkg-deb -x "$work/download/$package"_*.deb "$work/root"
  rm -rf "$work/download" "$work/root/lib/modules"
  image=$(find "$work/root/boot" -name 'vmlinuz-6.1.*' | head -1)
  [ -n "$image" ] || { echo "test-kernel: $package holds no vmlinuz" >&2; exit 1; }
}

[ "$(uname -m)" = x86_64 ] || skip "the guest kernel is x86_64, this machine is $(uname -m)"
command -v qemu-system-x86_64 >/dev/null || skip "qemu-system-x86_64 is not installed (package qemu-system-x86)"
busybox=$(command -v busybox || true)
[ -n "$busybox" ] && ! ldd "$busybox" >/dev/null 2>&1 ||
  skip "no statically linked busybox (package busybox-static)"
command -v cpio >/dev/null && cpio=cpio || cpio="$busybox cpio"
find_kernel

# --- the initramfs --------------------------------------------------------------------------------
tests=$build/tests/kernel
[ -x "$tests/olly_kernel_tests" ] ||
  { echo "test-kernel: $tests/olly_kernel_tests is not built (target olly_kernel_tests)" >&2; exit 1; }
tree=$work/initramfs
rm -rf "$tree"
mkdir -p "$tree"/{bin,proc,sys,dev,tmp,tests}
cp "$busybox" "$tree/bin/busybox"
for tool in sh mount ip ifconfig poweroff cat ls sed tee tr wc; do ln -s busybox "$tree/bin/$tool"; done
cp "$tests/olly_kernel_tests" "$tree/tests/"
mkdir -p "$tree/tests/verify"
find "$build/bpf" "$tests/verify" -name '*.o' -exec cp {} "$tree/tests/verify/" \; 2>/dev/null || true
find "$tests" -maxdepth 1 -type f -name 'kt_*' -perm -u+x -exec cp {} "$tree/tests/" \;
# what kt_tls opens by name; where it is missing, its tests say so
opened=$(ldconfig -p | sed -n 's/^\t\(libssl\|libcrypto\)\.so\.3 (libc6,x86-64.* => //p')
# shellcheck disable=SC2086
{ ldd "$tests/olly_kernel_tests"; ldd "$tests/kt_verify"; [ -z "$opened" ] || ldd $opened; echo $opened; } |
  grep -o '/[^ :]*' | sort -u | while read -r library; do
  mkdir -p "$tree$(dirname "$library")"
  cp -L "$library" "$tree$library"
done
printf '%q ' "$@" >"$tree/tests/arguments"
cat >"$tree/init" <<'INIT'
#!/bin/sh
export PATH=/bin GTEST_COLOR=no
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
echo "guest: Linux $(cat /proc/sys/kernel/osrelease)"
cd /tests
eval "set -- $(cat arguments)"
verified=0
[ ! -x kt_verify ] || ./kt_verify --limit 300000 verify/*.o 2>&1 || verified=$?
{ ./olly_kernel_tests "$@" 2>&1; echo $? >/tmp/status; } | tee /tmp/out
status=$(cat /tmp/status)
# as scripts/test.sh: the few that fail on a slow guest run once more, and are named
failed=$(sed -n 's/^\[  FAILED  \] \([^ ,]*\).* ms)$/\1/p' /tmp/out)
if [ "$status" = 1 ] && [ -n "$failed" ] && [ "$(echo "$failed" | wc -l)" -le 4 ]; then
  ./olly_kernel_tests "$@" "--gtest_filter=$(echo $failed | tr ' ' :)" 2>&1
  status=$?
  [ $status != 0 ] || echo "guest: UNSTABLE: passed when they ran again:" $failed
fi
# what the verifier refuses is a failure, also where the tests say that they cannot run
[ $verified = 0 ] || [ $verified = 77 ] || status=$verified
echo "OLLY-KERNEL-TESTS-STATUS $status"
poweroff -f
INIT
chmod +x "$tree/init"
(cd "$tree" && find . | $cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs.gz"

# --- the guest ------------------------------------------------------------------------------------
# No KVM: on nested hosts it is known to hang. panic=-1 with -no-reboot ends QEMU at once.
# no_timer_check: at boot the kernel counts timer interrupts while it spins for a fixed number of
# cycles; on a busy host the emulator delivers too few of them, and the kernel panics ("IO-APIC + timer
# doesn't work"). On real hypervisors it skips that check by itself. -cx16: QEMU 7.2 spoils the flags in a
# cmpxchg16b that is not locked, with which 6.12 dies; without it that kernel takes another way.
log=$work/console.log
start=$(date +%s)
set +e
timeout --foreground "$limit" qemu-system-x86_64 -accel tcg,thread=multi -cpu max,-cx16 -smp 2 -m 1024 \
  -kernel "$image" -initrd "$work/initramfs.gz" -nographic -no-reboot -nodefaults -serial stdio \
  -append "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off no_timer_check" </dev/null |
  tr -d '\r' | tee "$log"
status=${PIPESTATUS[0]}
set -e
echo "test-kernel: the guest ran $(($(date +%s) - start)) s ($(basename "$image"))"
[ "$status" -ne 124 ] || { echo "test-kernel: no end within $limit s" >&2; exit 124; }
result=$(sed -n 's/^OLLY-KERNEL-TESTS-STATUS \([0-9]*\)$/\1/p' "$log" | tail -1)
[ -n "$result" ] || { echo "test-kernel: the guest ended without a result (panic or crash)" >&2; exit 1; }
exit "$result"
