#!/usr/bin/env python3
"""Notes every frame of a stream in a database exactly once, however often it is started and killed.

    once.py --database cam.db cam
    once.py --database cam.db 'kvs://cam?aws-region=eu-west-1&start-selector=earliest'

The frames of a fragment and the token to go on after it go into SQLite in one transaction: it has both
or neither. Where the place to go on from need not be in the same transaction as the work, the
element's own checkpoint-location does the same without a line of code, and repeats a fragment or some
after a crash.

Needs GStreamer for Python (Debian: python3-gi, gir1.2-gstreamer-1.0), and the plugin where GStreamer
finds it. Region and credentials are found as the AWS tools find them, unless the URI says more.
"""

import argparse
import sqlite3
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

UNIX = "timestamp/x-unix"
TABLES = """
CREATE TABLE IF NOT EXISTS frames (fragment TEXT, track TEXT, recorded INTEGER, bytes INTEGER);
CREATE TABLE IF NOT EXISTS places (stream TEXT PRIMARY KEY, token TEXT);
"""


class Notes:
    """The frames of the fragment under way, and a database with those of all before it.

    All of it runs in the source's streaming thread, one call at a time: there is no queue between."""

    def __init__(self, path, stream):
        self.database = sqlite3.connect(path, check_same_thread=False)
        self.database.executescript(TABLES)
        self.stream = stream
        self.frames = []

    def token(self):
        """Where to go on, or None the first time."""
        query = "SELECT token FROM places WHERE stream = ?"
        row = self.database.execute(query, (self.stream,)).fetchone()
        return row and row[0]

    def add_pad(self, source, pad):
        sink = Gst.ElementFactory.make("fakesink")
        # Of several tracks one may have nothing for long: none waits for the others to begin.
        sink.set_property("async", False)
        source.get_parent().add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))
        pad.add_probe(Gst.PadProbeType.BUFFER, self.add_frame)

    def add_frame(self, pad, info):
        buffer = info.get_buffer()
        fragment = buffer.get_custom_meta("KvsFragmentMeta").get_structure()
        recorded = buffer.get_reference_timestamp_meta(Gst.Caps.from_string(UNIX)).timestamp
        number = fragment.get_string("fragment-number")
        self.frames.append((number, pad.get_name(), recorded, buffer.get_size()))
        return Gst.PadProbeReturn.OK

    def complete(self, _bus, message):
        """A kvs-fragment comes when every frame of the fragment has been through add_frame."""
        fragment = message.get_structure()
        if fragment.get_name() != "kvs-fragment":
            return
        token = fragment.get_string("continuation-token")
        if token is None:
            # Nowhere to go on from: these frames wait for the next fragment that has one.
            return
        with self.database:
            self.database.executemany("INSERT INTO frames VALUES (?, ?, ?, ?)", self.frames)
            self.database.execute(
                "INSERT OR REPLACE INTO places VALUES (?, ?)", (self.stream, token)
            )
        print(f"{fragment.get_string('fragment-number')} {len(self.frames)} frames", flush=True)
        self.frames = []


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--database", default="frames.db", help="an SQLite file")
    parser.add_argument("stream", help="name of the stream, or a kvs:// URI")
    args = parser.parse_args()

    Gst.init(None)
    pipeline = Gst.Pipeline()
    source = Gst.ElementFactory.make("kvssrc")
    if source is None:
        sys.exit("There is no kvssrc; is GST_PLUGIN_PATH set?")
    pipeline.add(source)
    source.set_property("uri" if args.stream.startswith("kvs://") else "stream-name", args.stream)
    notes = Notes(args.database, source.get_property("stream-name"))
    token = notes.token()
    if token:
        source.set_property("start-selector", "continuation-token")
        source.set_property("continuation-token", token)
        source.set_property("start-timestamp", None)
        source.set_property("after-fragment-number", None)
    source.connect("pad-added", notes.add_pad)

    bus = pipeline.get_bus()
    # At once, in the thread that posts it; the same message comes to the loop below later.
    bus.enable_sync_message_emission()
    bus.connect("sync-message::element", notes.complete)
    pipeline.set_state(Gst.State.PLAYING)
    try:
        while True:
            # Not for ever in one call, so that Ctrl-C is seen.
            message = bus.timed_pop(200 * Gst.MSECOND)
            if message is None:
                continue
            if message.type == Gst.MessageType.EOS:
                return 0
            if message.type == Gst.MessageType.ERROR:
                error, _ = message.parse_error()
                details = message.parse_error_details()
                print(error.message, details.to_string() if details else "", file=sys.stderr)
                return 1
    except KeyboardInterrupt:
        return 0
    finally:
        pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    sys.exit(main())
