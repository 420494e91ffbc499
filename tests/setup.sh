# Sourced by tests/run.sh and examples/demo.sh: installs what is missing, or says what to install.
#
#   need COMMAND-OR-FILE PACKAGE…   for each system: see below

# Prints what is missing of the given "check|apt package|dnf package" lines and installs it.
ensure() {
    local apt=() dnf=() check a d
    while IFS='|' read -r check a d; do
        [ -n "$check" ] || continue
        if ! eval "$check" >/dev/null 2>&1; then
            apt+=("$a")
            dnf+=("$d")
        fi
    done
    [ ${#apt[@]} -gt 0 ] || return 0

    local sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    if command -v apt-get >/dev/null; then
        echo "Installing: ${apt[*]}"
        $sudo apt-get update -qq
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends ${apt[*]} >/dev/null
    elif command -v dnf >/dev/null; then
        echo "Installing: ${dnf[*]}"
        $sudo dnf install -y -q ${dnf[*]}
    else
        echo "Please install what provides these, then try again:" >&2
        printf '  %s\n' "${dnf[@]}" >&2
        return 1
    fi
}

ensure_build() {
    ensure <<'EOF'
cc --version|gcc|gcc
pkg-config --version|pkg-config|pkgconf-pkg-config
pkg-config --exists gstreamer-1.0|libgstreamer1.0-dev|gstreamer1-devel
pkg-config --exists gstreamer-app-1.0|libgstreamer-plugins-base1.0-dev|gstreamer1-plugins-base-devel
EOF
    if ! command -v cargo >/dev/null && [ -r "$HOME/.cargo/env" ]; then
        . "$HOME/.cargo/env"
    fi
    if ! command -v cargo >/dev/null; then
        echo "Please install Rust 1.94.1 or later (https://rustup.rs), then try again." >&2
        return 1
    fi
}

ensure_gstreamer() {
    ensure <<'EOF'
gst-launch-1.0 --version|gstreamer1.0-tools|gstreamer1
gst-inspect-1.0 --exists videotestsrc|gstreamer1.0-plugins-base|gstreamer1-plugins-base
gst-inspect-1.0 --exists matroskademux|gstreamer1.0-plugins-good|gstreamer1-plugins-good
gst-inspect-1.0 --exists h264parse|gstreamer1.0-plugins-bad|gstreamer1-plugins-bad-free
gst-inspect-1.0 --exists clockoverlay && fc-list \| grep -q .|gstreamer1.0-plugins-base fonts-dejavu-core fontconfig|gstreamer1-plugins-base dejavu-sans-fonts fontconfig
gst-inspect-1.0 --exists x264enc \|\| gst-inspect-1.0 --exists openh264enc|gstreamer1.0-plugins-ugly|gstreamer1-plugin-openh264
gst-inspect-1.0 --exists avdec_h264 \|\| gst-inspect-1.0 --exists openh264dec|gstreamer1.0-libav|gstreamer1-plugin-openh264
EOF
}
