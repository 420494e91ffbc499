#!/bin/sh
# Prints which of the streams on standard input, a line each, are this machine's.
#
#   shard.sh INDEX COUNT < streams.txt      INDEX from 0 to COUNT - 1
#
# A stream's name alone decides, so every machine finds out for itself, and a list that grows moves
# none. Another COUNT moves nearly all: keep their places where each machine finds them.
set -eu
if [ $# -ne 2 ] || ! [ "$1" -ge 0 ] || ! [ "$1" -lt "$2" ]; then
    echo "usage: ${0##*/} INDEX COUNT < streams.txt" >&2
    exit 2
fi
LC_ALL=C exec awk -v index_="$1" -v count="$2" '
    BEGIN { for (byte = 1; byte < 256; byte++) value[sprintf("%c", byte)] = byte }
    NF {
        hash = 0
        # Exact in the floating point that awk has: no product is beyond 2^53.
        for (at = 1; at <= length($0); at++)
            hash = (hash * 65599 + value[substr($0, at, 1)]) % 4294967291
        if (hash % count == index_) print
    }'
