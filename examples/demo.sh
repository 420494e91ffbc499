#!/usr/bin/env bash
# The main thing, on this machine and without an AWS account: starts a Kinesis Video Streams service
# of its own (tests/kvs-local) with a live test pattern, plays it by kvsgetmediasrc for some seconds,
# shows each fragment as it comes, and leaves the recording and a picture of it.
#
#   examples/demo.sh [FOLDER]     the files go to FOLDER, examples/out if none is given
#
# Installs what is missing and builds what is not built; see tests/setup.sh.
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/.."
# shellcheck source=tests/setup.sh
. tests/setup.sh

SECONDS_TO_PLAY=12

out=${1:-examples/out}
case ${1:-} in
-*)
    sed -n '2,9s/^# \{0,1\}//p' examples/demo.sh
    exit 0
    ;;
'' | /*) ;;
*) out=$start/$out ;;
esac

ensure_build
ensure_gstreamer

echo "Building the plugin and the local service"
cargo build --workspace
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
export GST_PLUGIN_PATH=$target/debug

mkdir -p "$out"
recording=$out/demo.mkv picture=$out/demo.png
rm -f "$recording" "$picture"

scratch=$(mktemp -d)
service=
cleanup() {
    trap - EXIT
    if [ -n "$service" ]; then
        kill "$service" 2>/dev/null || true
        wait "$service" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    printf 'demo: %s\n' "$1" >&2
    [ ! -s "$scratch/$2" ] || tail -n 20 "$scratch/$2" >&2
    exit 1
}

# Waits up to 30 s for a command to succeed, as long as the service runs.
await() {
    local tries=300
    until "$@" 2>/dev/null; do
        kill -0 "$service" 2>/dev/null || fail "the local service has ended" service.log
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "waited 30 s for: $*" service.log
        sleep 0.1
    done
}

"$target/debug/kvs-local" --stream demo=pattern --endpoint-file "$scratch/endpoint" \
    >"$scratch/service.log" 2>&1 &
service=$!
await [ -s "$scratch/endpoint" ]
await grep -q '^endpoint=' "$scratch/service.log"

# What the AWS SDK finds by itself, as it would find the user's own. Nothing of those is used here.
for name in $(compgen -e AWS_ || true); do
    unset "$name"
done
printed() { sed -n "s/^endpoint=.* $1=\([^ ]*\).*/\1/p" "$scratch/service.log"; }
AWS_ENDPOINT_URL_KINESIS_VIDEO=$(cat "$scratch/endpoint")
AWS_REGION=$(printed region)
AWS_ACCESS_KEY_ID=$(printed access-key)
AWS_SECRET_ACCESS_KEY=$(printed secret-key)
export AWS_ENDPOINT_URL_KINESIS_VIDEO AWS_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
echo "A local Kinesis Video Streams at $AWS_ENDPOINT_URL_KINESIS_VIDEO, with the stream demo"

if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] && has_element autovideosink; then
    sink=(autovideosink)
else
    echo "There is no display here: the picture is decoded, but not shown"
    sink=(fakesink sync=true)
fi

# Fields of a kvs-fragment message as gst-launch-1.0 prints it.
field() {
    [[ $1 =~ [\ ,]$2=\([a-z0-9]+\)([^,\;]*) ]] && printf '%s' "${BASH_REMATCH[1]}"
}

# Makes messages readable; what is no message is kept for the case that something fails.
show() {
    local line recorded number
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$scratch/launch.log"
        case $line in
        *'(element): kvs-fragment, '*)
            recorded=$(field "$line" producer-timestamp)
            number=$(field "$line" fragment-number)
            printf '  fragment …%s  recorded %(%T)T.%s  %4d ms behind now  %3d frames  %6d bytes\n' \
                "${number: -12}" "${recorded::-9}" "${recorded: -9:3}" \
                "$(field "$line" millis-behind-now)" "$(field "$line" frames)" \
                "$(field "$line" bytes)"
            ;;
        *'(element): kvs-'*) printf '  %s\n' "${line#*(element): }" ;;
        Progress:*) printf '  %s\n' "${line#Progress: }" ;;
        ERROR:*) printf '  %s\n' "$line" ;;
        esac
    done
}

# One connection, used twice: frames go to the file as they are, and decoded to the display.
end=$(date -u -d "+$SECONDS_TO_PLAY seconds" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null ||
    date -u -v "+${SECONDS_TO_PLAY}S" +%Y-%m-%dT%H:%M:%SZ)
launch=(gst-launch-1.0 -m -e
    kvsgetmediasrc stream-name=demo "end-timestamp=$end" ! matroskademux name=demux
    demux.video_0 ! queue ! h264parse ! tee name=video
    video. ! queue ! mux.video_0
    video. ! queue ! decodebin ! videoconvert ! "${sink[@]}"
    demux.audio_0 ! queue ! mux.audio_0
    matroskamux name=mux offset-to-zero=true ! filesink "location=$recording")
printf 'Playing until %s:\n  %s\n' "$end" "${launch[*]}"
timeout --foreground --signal=INT --kill-after=10 $((SECONDS_TO_PLAY + 30)) \
    "${launch[@]}" 2>&1 | show || fail "playing failed" launch.log
grep -q '(element): kvs-fragment, ' "$scratch/launch.log" || fail "no fragment came" launch.log

gst-launch-1.0 filesrc "location=$recording" ! matroskademux ! h264parse ! decodebin \
    ! videoconvert ! pngenc snapshot=true ! filesink "location=$picture" \
    >"$scratch/picture.log" 2>&1 || fail "no picture could be taken" picture.log

echo "The recording: $recording"
echo "A picture:     $picture"
