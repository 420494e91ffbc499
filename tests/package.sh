#!/usr/bin/env bash
# Builds the Debian package, and installs it in a bare Debian, where gst-inspect-1.0 must find the
# elements and man their pages. Builds the crate from its own package, too.
#
#   tests/package.sh [--no-build] [SUITE]     default: bookworm
#
# --no-build takes the release library as it is. Needs cargo-deb (cargo install cargo-deb), and
# root (for chroot) and debootstrap. With cargo-c (cargo install cargo-c) it tries `cargo cinstall`,
# too. The package is left in target/debian; its Maintainer is $DEBFULLNAME <$DEBEMAIL>, where they
# are set. The bare root is made anew each time from what debootstrap leaves in
# target/package/SUITE.tar (about 160 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/setup.sh

build=yes
if [ "${1:-}" = --no-build ]; then
    build=
    shift
fi
suite=${1:-bookworm}
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
for tool in cargo-deb debootstrap chroot; do
    has_command "$tool" || { say "Please install $tool, then try again."; exit 1; }
done

if [ "$build" ]; then
    cargo build --release --lib
    # Verified: the package is unpacked and built by itself.
    cargo package -p gst-plugin-kvsgetmedia --allow-dirty
fi
cargo build --example manpage
mkdir -p "$target/release/man"
for element in kvsgetmediasrc kvssrc; do
    "$target/debug/examples/manpage" "$element" | gzip -9n >"$target/release/man/$element.7.gz"
done
maintainer=()
[ -z "${DEBEMAIL:-}" ] || maintainer=(--maintainer "${DEBFULLNAME:-$DEBEMAIL} <$DEBEMAIL>")
package=$(cargo deb --no-build --strip --multiarch=same "${maintainer[@]}" | tail -n 1)
dpkg-deb --info "$package"
dpkg-deb --contents "$package"
grep -q libgstreamer1.0-0 <<<"$(dpkg-deb --field "$package" Depends)"

base=$target/package/$suite.tar
mkdir -p "$target/package"
root=$(mktemp -d "$target/package/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
if [ ! -e "$base" ]; then
    debootstrap --variant=minbase "$suite" "$root" "$(debian_mirror)"
    tar --create --file "$base.new" --directory "$root" .
    mv "$base.new" "$base"
else
    tar --extract --file "$base" --directory "$root"
fi

inside() {
    chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive "$@"
}
get() { inside apt-get -qq -o Dpkg::Use-Pty=0 "$@" >/dev/null; }

cp /etc/resolv.conf "$root/etc/resolv.conf"
cp "$package" "$root/tmp/package.deb"
get update
# What it recommends is left out: it has to do without.
get install -y --no-install-recommends /tmp/package.deb
get install -y --no-install-recommends gstreamer1.0-tools man-db

for element in kvsgetmediasrc kvssrc; do
    inside gst-inspect-1.0 "$element" >"$root/tmp/$element"
    grep -q 'stream-name' "$root/tmp/$element"
    grep -q 'stream-name' <<<"$(inside man "$element")"
done
sed -n '1,/^GObject/p' "$root/tmp/kvsgetmediasrc"
# Nothing but the system's own folders was looked into, and it asks for its settings.
inside gst-inspect-1.0 kvsgetmediasrc | grep 'Filename  *\(/usr\)\?/lib/.*/gstreamer-1.0/libgstkvsgetmedia.so'
said=$(inside gst-launch-1.0 kvsgetmediasrc ! fakesink 2>&1 || true)
grep 'stream-name' <<<"$said"
get remove -y gstreamer1.0-kvsgetmedia
if inside gst-inspect-1.0 kvsgetmediasrc >/dev/null 2>&1; then
    say "The plugin is still there without its package."
    exit 1
fi
echo "$package installs, works and goes on $suite"

if ! has_command cargo-cinstall; then
    echo "skipped: cargo cinstall: there is no cargo-c"
    exit
fi
libdir=$(pkg-config --variable=libdir gstreamer-1.0)
installed=$root/cinstall
cargo cinstall --release --prefix=/usr --libdir="$libdir" --destdir="$installed"
(cd "$installed" && find . -type f) | sort
# A plugin and nothing to link with: no header, no version in its name.
plugins=$installed$libdir/gstreamer-1.0
[ "$(cd "$plugins" && echo *)" = "libgstkvsgetmedia.a libgstkvsgetmedia.so" ]
grep -q '^Requires.private:.*gstreamer-1.0' "$installed$libdir/pkgconfig/gstkvsgetmedia.pc"
for element in kvsgetmediasrc kvssrc; do
    GST_PLUGIN_PATH=$plugins GST_REGISTRY=$installed/registry.bin gst-inspect-1.0 "$element" |
        grep "Filename  *$plugins/libgstkvsgetmedia.so"
done
echo "cargo cinstall puts it in $libdir/gstreamer-1.0"
