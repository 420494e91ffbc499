#!/usr/bin/env python3
"""Prints when each decoded frame was recorded, and the fragment it came in.

    GST_PLUGIN_PATH=target/release ./examples/python/wallclock.py \\
        'kvs://my-stream?aws-region=eu-west-1&start-selector=earliest'

Credentials come from the environment, as the AWS SDKs find them. Needs PyGObject and GStreamer's
introspection data (Debian: python3-gi gir1.2-gstreamer-1.0).
"""

import sys
from datetime import datetime, timezone

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import GLib, Gst, GstApp  # noqa: E402,F401

Gst.init(None)
UNIX = Gst.Caps.from_string("timestamp/x-unix")


def recorded_at(buffer):
    """The wall-clock time of a frame, or None."""
    meta = buffer.get_reference_timestamp_meta(UNIX)
    if meta is None:
        return None
    return datetime.fromtimestamp(meta.timestamp // 1000 / 1e6, timezone.utc)


def fragment(buffer):
    """The number of the fragment it came in, or None."""
    meta = buffer.get_custom_meta("KvsFragmentMeta")
    return meta and meta.get_structure().get_string("fragment-number")


def print_frame(sink, name):
    sample = sink.emit("pull-sample")
    if sample is None:
        return Gst.FlowReturn.EOS
    buffer = sample.get_buffer()
    time = recorded_at(buffer)
    text = time.isoformat(timespec="microseconds") if time else "-"
    # In one piece: several threads print.
    sys.stdout.write(f"{name:10} {text:32} {fragment(buffer) or '-'}\n")
    return Gst.FlowReturn.OK


def add_branch(_source, pad, pipeline):
    """Decodes what comes out of a new pad, and prints it."""
    # One thread feeds all pads of the source: the queue lets it go on to the next.
    queue = Gst.ElementFactory.make("queue")
    decoder = Gst.ElementFactory.make("decodebin")
    sink = Gst.ElementFactory.make("appsink")
    sink.set_property("sync", False)
    sink.set_property("emit-signals", True)
    sink.connect("new-sample", print_frame, pad.get_name())
    decoder.connect("pad-added", lambda _, new: new.link(sink.get_static_pad("sink")))
    for element in (queue, decoder, sink):
        pipeline.add(element)
    queue.link(decoder)
    for element in (queue, decoder, sink):
        element.sync_state_with_parent()
    pad.link(queue.get_static_pad("sink"))


def main():
    if len(sys.argv) != 2:
        sys.exit(f"Usage: {sys.argv[0]} kvs://STREAM-NAME[?PROPERTY=VALUE&...]")
    pipeline = Gst.Pipeline()
    try:
        source = Gst.Element.make_from_uri(Gst.URIType.SRC, sys.argv[1])
    except GLib.Error as error:
        sys.exit(error.message)
    pipeline.add(source)
    source.connect("pad-added", add_branch, pipeline)
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(
        Gst.CLOCK_TIME_NONE, Gst.MessageType.EOS | Gst.MessageType.ERROR
    )
    pipeline.set_state(Gst.State.NULL)
    if message.type == Gst.MessageType.ERROR:
        sys.exit(message.parse_error()[0].message)


if __name__ == "__main__":
    main()
