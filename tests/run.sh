#!/usr/bin/env bash
# Every check of this project, with one command. Installs what is missing; see tests/setup.sh.
#
#   KVS_RECORDINGS  a folder with recordings of real responses; unset: ../shared/recordings beside
#                   the checkout. Tests that need an absent one are skipped, and say so.
#   CI=true         a tool that is missing fails the tests that need it, instead of skipping them.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/setup.sh
. tests/setup.sh

ensure_build
ensure_gstreamer
ensure_test_tools
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
mkdir -p "$target"
ensure_python "$target/venv"

export KVS_RECORDINGS=${KVS_RECORDINGS:-$PWD/../shared/recordings}
[ -d "$KVS_RECORDINGS" ] || say "No recordings of real responses in $KVS_RECORDINGS."
if [ "${CI:-}" = true ]; then
    export KVS_REQUIRE_ALL=1
fi
# Nothing of the user's own AWS settings may reach a test.
for name in $(compgen -e AWS_ || true); do
    unset "$name"
done

failed=()
step() {
    printf '\n== %s\n' "$*"
    "$@" || failed+=("$*")
}

log=$target/tests.log
tests() {
    # The output of tests that pass is shown for what they say they skip.
    cargo test --workspace --no-fail-fast -- --show-output 2>&1 | tee "$log"
}

: >"$log"
step cargo fmt --check
step cargo clippy --workspace --all-targets -- -D warnings
step tests
RUSTDOCFLAGS="-D warnings" step cargo doc --workspace --no-deps

# A test that says that it skips something counts as skipped. Ignored ones that a test runs in a
# process of its own are part of that test.
counts=$(awk '
    / \.\.\. ignored/ && !/in a process of its own/ { skipped++ }
    / stdout ----$/ { test = $2; in_output = 1 }
    /^(successes|failures):$/ { in_output = 0 }
    in_output && /^skipped: / && !(test in seen) { seen[test] = 1; skipping++ }
    /^test result:/ {
        for (i = 2; i <= NF; i++) {
            if ($i == "passed;") passed += $(i - 1)
            if ($i == "failed;") failed += $(i - 1)
        }
        in_output = 0
        delete seen
    }
    END { printf "%d %d %d", passed - skipping, failed, skipped + skipping }
' "$log")
read -r passed failures skipped <<<"$counts"

echo
grep -h '^skipped: ' "$log" | sort | uniq -c || true
for step in ${failed[@]+"${failed[@]}"}; do
    echo "FAILED: $step"
    # What fails without a test that fails still counts.
    [ "$failures" -gt 0 ] || failures=1
done
echo "$passed passed, $failures failed, $skipped skipped"
[ ${#failed[@]} -eq 0 ] && [ "$passed" -gt 0 ]
