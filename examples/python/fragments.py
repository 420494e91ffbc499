#!/usr/bin/env python3
"""Prints a line for each fragment of a stream, and the token to go on from.

    fragments.py cam
    fragments.py --after TOKEN cam
    fragments.py 'kvs://cam?aws-region=eu-west-1&start-selector=earliest'

Needs GStreamer for Python (Debian: python3-gi, gir1.2-gstreamer-1.0), and the plugin where
GStreamer finds it. Region and credentials are found as the AWS tools find them, unless the URI says
more.
"""

import argparse
import datetime
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402


def time(structure, field):
    """A field of nanoseconds since the Unix epoch, as a reader wants it."""
    known, nanoseconds = structure.get_uint64(field)
    if not known:
        return "-"
    utc = datetime.datetime.fromtimestamp(nanoseconds / 1e9, datetime.timezone.utc)
    return utc.isoformat(timespec="milliseconds")


def line(structure):
    """One message as a line, or None if it is not one of the source's."""
    name = structure.get_name()
    if name == "kvs-fragment":
        return (
            f"fragment {structure.get_string('fragment-number')}"
            f" produced={time(structure, 'producer-timestamp')}"
            f" received={time(structure, 'server-timestamp')}"
            f" behind={structure.get_uint64('millis-behind-now')[1]}ms"
            f" frames={structure.get_uint('frames')[1]}"
            f" bytes={structure.get_uint64('bytes')[1]}"
            f" token={structure.get_string('continuation-token')}"
        )
    if name == "kvs-gap":
        return (
            f"gap kind={structure.get_string('kind')}"
            f" from={time(structure, 'from-timestamp')} to={time(structure, 'to-timestamp')}"
        )
    if name == "kvs-reconnect":
        return (
            f"reconnect reason={structure.get_string('reason')}"
            f" after={structure.get_string('resume-after')}"
        )
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--after", metavar="TOKEN", help="go on after this continuation token")
    parser.add_argument("stream", help="name of the stream, or a kvs:// URI")
    args = parser.parse_args()

    Gst.init(None)
    pipeline = Gst.parse_launch("kvsgetmediasrc name=source ! fakesink")
    source = pipeline.get_by_name("source")
    source.set_property("uri" if args.stream.startswith("kvs://") else "stream-name", args.stream)
    if args.after:
        source.set_property("start-selector", "continuation-token")
        source.set_property("continuation-token", args.after)

    bus = pipeline.get_bus()
    # What goes wrong here comes as a message.
    pipeline.set_state(Gst.State.PLAYING)
    wanted = Gst.MessageType.ELEMENT | Gst.MessageType.ERROR | Gst.MessageType.EOS
    try:
        while True:
            # Not for ever in one call, so that Ctrl-C is seen.
            message = bus.timed_pop_filtered(200 * Gst.MSECOND, wanted)
            if message is None:
                continue
            if message.type == Gst.MessageType.EOS:
                return 0
            if message.type == Gst.MessageType.ERROR:
                error, _ = message.parse_error()
                details = message.parse_error_details()
                print(error.message, details.to_string() if details else "", file=sys.stderr)
                return 1
            text = line(message.get_structure())
            if text:
                print(text, flush=True)
    except KeyboardInterrupt:
        return 0
    finally:
        pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    sys.exit(main())
