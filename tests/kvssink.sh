#!/usr/bin/env bash
# Uploads by kvssink, Amazon's own GStreamer sink, to kvs-local, and plays that by kvsgetmediasrc:
# tests/conformance/kvssink.py says what must come through.
#
#   tests/kvssink.sh
#
#   KVSSINK   the folder of a libgstkvssink.so that is built already. Unset: it is built in
#             target/kvssink, from Amazon's repositories on GitHub; that takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/setup.sh
. tests/setup.sh

VERSION=v3.6.0
SOURCE=https://github.com/awslabs/amazon-kinesis-video-streams-producer-sdk-cpp

ensure_build
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
ensure_gstreamer
want "python3-gi gir1.2-gstreamer-1.0" "python3-gobject gstreamer1" has_typelib Gst
want "gstreamer1.0-plugins-ugly" "gstreamer1-plugins-ugly" has_element x264enc
install_missing

built=${KVSSINK:-$target/kvssink/build}
if [ ! -e "$built/libgstkvssink.so" ]; then
    want "cmake" "cmake" has_command cmake
    want "make g++" "make gcc-c++" has_command make g++
    want "liblog4cplus-dev" "log4cplus-devel" has_library log4cplus
    want "libcurl4-openssl-dev" "libcurl-devel" has_library libcurl
    want "libssl-dev" "openssl-devel" has_library openssl
    install_missing
    source=$target/kvssink/$VERSION
    [ -d "$source" ] || git clone --depth 1 --branch "$VERSION" "$SOURCE" "$source"
    cmake -S "$source" -B "$built" -DBUILD_GSTREAMER_PLUGIN=ON -DBUILD_DEPENDENCIES=OFF \
        -DCMAKE_BUILD_TYPE=Release
    cmake --build "$built" --target gstkvssink --parallel
fi
cargo build --workspace

scratch=$(mktemp -d)
service=
trap '[ -z "$service" ] || kill "$service"; rm -rf "$scratch"' EXIT
# A folder of their own: GStreamer loads all that it finds.
ln -s "$(realpath "$built")/libgstkvssink.so" "$target/debug/libgstkvsgetmedia.so" "$scratch"
export GST_PLUGIN_PATH=$scratch GST_REGISTRY=$scratch/registry.bin
# Not --exists, which asks for GStreamer's own version.
gst-inspect-1.0 kvssink >/dev/null || { say "GStreamer cannot load $built/libgstkvssink.so."; exit 1; }

"$target/debug/kvs-local" --endpoint-file "$scratch/endpoint" >"$scratch/service" &
service=$!
until [ -s "$scratch/endpoint" ] && [ -s "$scratch/service" ]; do
    kill -0 "$service"
    sleep 0.1
done
for name in $(compgen -e AWS_ || true); do
    unset "$name"
done
setting() { sed -n "s/.*$1=\([^ ]*\).*/\1/p" "$scratch/service"; }
AWS_DEFAULT_REGION=$(setting region)
AWS_ACCESS_KEY_ID=$(setting access-key)
AWS_SECRET_ACCESS_KEY=$(setting secret-key)
CONTROL_PLANE_URI=$(cat "$scratch/endpoint")
export AWS_DEFAULT_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY CONTROL_PLANE_URI
status=0
# kvssink writes a folder log where it runs.
script=$PWD/tests/conformance/kvssink.py
(cd "$scratch" && /usr/bin/python3 -W ignore "$script") >"$scratch/log" 2>&1 || status=$?
if [ "$status" = 0 ]; then
    tail -n 1 "$scratch/log"
else
    tail -n 100 "$scratch/log"
fi
exit "$status"
