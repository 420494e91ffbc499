#!/usr/bin/env bash
# Runs the tests of the elements on the newest GStreamer: the one of Debian sid, in a root of its own.
#
#   tests/newest.sh [TEST…]     default: element pipeline seek kvssrc live states flush
#
# Needs root (for chroot) and debootstrap. The root stays in target/newest (about 1.3 GB) for the
# next time; KVS_NEWEST_ROOT names another.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/setup.sh

tests=("${@:-}")
[ -n "${tests[0]}" ] || tests=(element pipeline seek kvssrc live states flush)
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
root=${KVS_NEWEST_ROOT:-$target/newest}

if ! chroot "$root" gst-inspect-1.0 --version >/dev/null 2>&1; then
    command -v debootstrap >/dev/null || { echo "Please install debootstrap, then try again." >&2; exit 1; }
    debootstrap --variant=minbase \
        --include=gstreamer1.0-tools,gstreamer1.0-plugins-base,gstreamer1.0-plugins-good,gstreamer1.0-plugins-bad,gstreamer1.0-libav,ca-certificates \
        sid "$root" "$(debian_mirror)" || chroot "$root" gst-inspect-1.0 --exists matroskademux
fi
chroot "$root" gst-inspect-1.0 --version | sed -n 1p

arguments=()
for test in "${tests[@]}"; do
    arguments+=(--test "$test")
done
mapfile -t binaries < <(cargo test "${arguments[@]}" --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
[ ${#binaries[@]} -eq ${#tests[@]} ] || { echo "The tests do not build." >&2; exit 1; }

inside=$root/kvsgetmedia
mkdir -p "$inside"
mount --bind /proc "$root/proc"
trap 'umount "$root/proc"; rm -rf "$inside"' EXIT
recordings=${KVS_RECORDINGS:-$PWD/../shared/recordings}
[ -d "$recordings" ] && cp -r "$recordings" "$inside/recordings"
failed=0
for binary in "${binaries[@]}"; do
    cp "$binary" "$inside/test"
    KVS_RECORDINGS=/kvsgetmedia/recordings chroot "$root" /kvsgetmedia/test || failed=1
done
exit $failed
