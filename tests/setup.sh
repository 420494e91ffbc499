# shellcheck shell=bash
# Sourced by tests/run.sh and examples/demo.sh: installs what is missing, by apt on Debian and
# Ubuntu and by dnf on Fedora; elsewhere says what to install. Silent when nothing is missing.
#
# Each ensure_* function makes sure of one thing, and fails with a message if it cannot.

RUST_NEEDED=1.94.1

# Packages to install, a list for each packager; filled by want, emptied by install_missing.
missing_apt=()
missing_dnf=()
# What is still to be checked once they are installed.
wanted=()

say() { printf '%s\n' "$*" >&2; }

has_command() { command -v "$1" >/dev/null 2>&1; }

# A C library with its headers, as pkg-config knows it.
has_library() { pkg-config --exists "$1" 2>/dev/null; }

# One of these GStreamer elements.
has_element() {
    local element
    for element in "$@"; do
        gst-inspect-1.0 --exists "$element" >/dev/null 2>&1 && return 0
    done
    return 1
}

has_fonts() { [ -n "$(fc-list 2>/dev/null)" ]; }

has_certificates() {
    local file
    for file in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt \
        /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
        [ -s "$file" ] && return 0
    done
    return 1
}

# Where this system's own packages come from. Not every one has both kinds of files.
debian_mirror() {
    cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
        sed -n 's/^URIs: *//p; s/^deb  *\(http[^ ]*\).*/\1/p' | sed -n 1p || true
}

# want "APT PACKAGES" "DNF PACKAGES" CHECK...: notes the packages unless the check passes.
want() {
    local apt=$1 dnf=$2
    shift 2
    "$@" && return
    # Several packages may stand in one argument.
    # shellcheck disable=SC2206
    missing_apt+=($apt) missing_dnf+=($dnf)
    wanted+=("$*")
}

# Installs what want noted, and checks that it is there then.
install_missing() {
    [ ${#wanted[@]} -gt 0 ] || return 0
    local packager packages run=() log
    if has_command apt-get; then
        packager=apt-get packages="${missing_apt[*]}"
    elif has_command dnf; then
        packager=dnf packages="${missing_dnf[*]}"
    else
        say "Missing: $(join_lines "${wanted[@]}")."
        say "Please install these, by their names in Debian, and try again: ${missing_apt[*]}"
        return 1
    fi
    packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')
    local by_hand="$packager install $packages"
    if [ "$(id -u)" != 0 ]; then
        if ! has_command sudo; then
            say "Please run this as root, and try again: $by_hand"
            return 1
        fi
        run=(sudo)
        by_hand="sudo $by_hand"
    fi
    run+=(env DEBIAN_FRONTEND=noninteractive)

    say "Installing: $packages"
    log=$(mktemp)
    if ! run_packager >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        say "The packages could not be installed; is there a network?"
        say "To install them by hand: $by_hand"
        return 1
    fi
    rm -f "$log"

    local check still=()
    for check in "${wanted[@]}"; do
        # shellcheck disable=SC2086
        $check || still+=("$check")
    done
    missing_apt=() missing_dnf=() wanted=()
    if [ ${#still[@]} -gt 0 ]; then
        say "Installed, but still missing: $(join_lines "${still[@]}")."
        return 1
    fi
}

# Installs $packages by $packager.
run_packager() {
    # shellcheck disable=SC2086
    case $packager in
    apt-get)
        # Lists may be absent, or old; an update that fails need not matter.
        "${run[@]}" apt-get update -qq || true
        "${run[@]}" apt-get install -y -qq --no-install-recommends $packages
        ;;
    dnf) "${run[@]}" dnf install -y -q $packages ;;
    esac
}

# The checks that failed, for a reader: "has_element x264enc" is "element x264enc".
join_lines() {
    local text
    text=$(printf '%s, ' "$@" | sed 's/has_//g')
    printf '%s' "${text%, }"
}

# Rust, a C compiler and GStreamer's headers.
ensure_build() {
    want "gcc libc6-dev" "gcc" has_command cc
    want "pkg-config" "pkgconf-pkg-config" has_command pkg-config
    want "libgstreamer1.0-dev" "gstreamer1-devel" has_library gstreamer-1.0
    want "libgstreamer-plugins-base1.0-dev" "gstreamer1-plugins-base-devel" \
        has_library gstreamer-app-1.0
    want "ca-certificates" "ca-certificates" has_certificates
    install_missing
    ensure_rust
}

ensure_rust() {
    if ! has_command cargo && [ -r "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
        # shellcheck disable=SC1091
        . "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    if ! has_command cargo; then
        say "Please install Rust $RUST_NEEDED or later (https://rustup.rs), and try again."
        return 1
    fi
    local version
    version=$(cargo --version | cut -d ' ' -f 2)
    if [ "$(printf '%s\n' "$RUST_NEEDED" "${version%%-*}" | sort -V | head -n 1)" != "$RUST_NEEDED" ]
    then
        say "Rust is $version here; please install $RUST_NEEDED or later (rustup update), and try again."
        return 1
    fi
}

# GStreamer's tools, and the elements that make a test pattern and play it.
ensure_gstreamer() {
    want "gstreamer1.0-tools" "gstreamer1" has_command gst-launch-1.0
    want "gstreamer1.0-tools" "gstreamer1" has_command gst-inspect-1.0
    want "gstreamer1.0-plugins-base" "gstreamer1-plugins-base" has_element videotestsrc
    want "gstreamer1.0-x" "gstreamer1-plugins-base" has_element clockoverlay
    want "gstreamer1.0-plugins-good" "gstreamer1-plugins-good" has_element matroskademux
    want "gstreamer1.0-plugins-good" "gstreamer1-plugins-good" has_element pngenc
    want "gstreamer1.0-plugins-bad" "gstreamer1-plugins-bad-free" has_element h264parse
    want "gstreamer1.0-plugins-ugly" "gstreamer1-plugin-openh264" \
        has_element x264enc openh264enc vah264enc nvh264enc
    want "gstreamer1.0-libav" "gstreamer1-plugin-libav" has_element avdec_h264 openh264dec
    want "gstreamer1.0-libav" "gstreamer1-plugin-libav" \
        has_element avenc_aac fdkaacenc voaacenc opusenc
    want "fontconfig fonts-dejavu-core" "fontconfig dejavu-sans-fonts" has_fonts
    install_missing
}

# What some tests use besides: Amazon's Python library is not among Debian's packages in a recent
# version, so it comes by pip; ensure_python FOLDER makes a virtual environment with it, and with
# GStreamer for Python, and sets KVS_PYTHON.
ensure_python() {
    local folder=$1 python=/usr/bin/python3
    want "python3 python3-venv" "python3" has_venv
    want "python3-gi gir1.2-gstreamer-1.0" "python3-gobject gstreamer1" has_typelib Gst
    want "gir1.2-gst-plugins-base-1.0" "gstreamer1-plugins-base" has_typelib GstApp
    want "python3-numpy" "python3-numpy" has_numpy
    install_missing
    if ! "$folder/bin/python" -c 'import boto3, gi' >/dev/null 2>&1; then
        say "Installing: boto3, into $folder"
        rm -rf "$folder"
        "$python" -m venv --system-site-packages "$folder"
        if ! "$folder/bin/pip" install --quiet --disable-pip-version-check boto3; then
            say "boto3 could not be installed; is there a network?"
            return 1
        fi
    fi
    export KVS_PYTHON="$folder/bin/python"
}

has_venv() { /usr/bin/python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }

has_typelib() {
    /usr/bin/python3 -c "import gi; gi.require_version('$1', '1.0')" >/dev/null 2>&1
}

has_numpy() { /usr/bin/python3 -c 'import numpy' >/dev/null 2>&1; }

# The tools that some tests compare with.
ensure_test_tools() {
    want "curl" "curl" has_command curl
    want "ffmpeg" "ffmpeg-free" has_command ffprobe
    want "mkvtoolnix" "mkvtoolnix" has_command mkvinfo
    want "bsdutils" "util-linux-script" has_command script
    want "groff-base" "groff-base" has_command groff
    install_missing
}
