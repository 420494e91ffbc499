#!/usr/bin/env python3
"""Records a stream to files that are cut on the hour, without decoding it.

    hourly.py cam recordings
    hourly.py --minutes 15 'kvs://cam?start-selector=earliest' recordings

A new file begins with the first keyframe at or after each full hour of the time at which the stream
was recorded, in UTC, and is named by the time of its first frame: recordings/20240501T130000Z.mkv.

Needs GStreamer for Python (Debian: python3-gi, gir1.2-gstreamer-1.0), and the plugin where
GStreamer finds it. Region and credentials are found as the AWS tools find them.
"""

import argparse
import datetime
import os
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

Gst.init(None)
UNIX = Gst.Caps.from_string("timestamp/x-unix")


def recorded_at(buffer):
    """When a frame was recorded, in nanoseconds since 1970: kvssrc writes it on every one."""
    meta = buffer.get_reference_timestamp_meta(UNIX)
    return meta.timestamp if meta else None


def file_name(_files, _number, sample, folder):
    time = (recorded_at(sample.get_buffer()) or 0) // Gst.SECOND
    utc = datetime.datetime.fromtimestamp(time, datetime.timezone.utc)
    return os.path.join(folder, f"{utc:%Y%m%dT%H%M%SZ}.mkv")


class Recorder:
    def __init__(self, uri, folder, minutes):
        self.every = minutes * 60 * Gst.SECOND
        self.hour = None
        self.pipeline = Gst.Pipeline()
        source = Gst.Element.make_from_uri(Gst.URIType.SRC, uri)
        # It writes one file after the other, and begins each with a keyframe.
        self.files = Gst.ElementFactory.make("splitmuxsink")
        self.files.set_property("muxer-factory", "matroskamux")
        self.files.set_property("send-keyframe-requests", False)
        self.files.connect("format-location-full", file_name, folder)
        self.pipeline.add(source)
        self.pipeline.add(self.files)
        source.connect("pad-added", self.record)

    def record(self, _source, pad):
        """Records what comes out of a new pad."""
        is_video = pad.get_name().startswith("video")
        to = self.files.request_pad_simple("video" if is_video else "audio_%u")
        # One thread feeds all pads of the source: the queue lets it go on to the next.
        queue = Gst.ElementFactory.make("queue")
        self.pipeline.add(queue)
        queue.sync_state_with_parent()
        queue.get_static_pad("src").link(to)
        pad.link(queue.get_static_pad("sink"))
        if is_video:
            to.add_probe(Gst.PadProbeType.BUFFER, self.cut)

    def cut(self, pad, info):
        """Asks for a new file at the first keyframe of each hour, by the time of recording."""
        buffer = info.get_buffer()
        time = recorded_at(buffer)
        if time is None or buffer.has_flags(Gst.BufferFlags.DELTA_UNIT):
            return Gst.PadProbeReturn.OK
        hour = time // self.every
        if self.hour not in (None, hour):
            segment = pad.get_sticky_event(Gst.EventType.SEGMENT, 0).parse_segment()
            at = segment.to_running_time(Gst.Format.TIME, buffer.pts)
            self.files.emit("split-at-running-time", at)
        self.hour = hour
        return Gst.PadProbeReturn.OK

    def run(self):
        """Until the stream ends, or Ctrl-C, which ends it so that the last file is complete."""
        signal.signal(signal.SIGINT, lambda *_: self.pipeline.send_event(Gst.Event.new_eos()))
        bus = self.pipeline.get_bus()
        wanted = Gst.MessageType.ELEMENT | Gst.MessageType.ERROR | Gst.MessageType.EOS
        self.pipeline.set_state(Gst.State.PLAYING)
        while True:
            # Not for ever in one call, so that Ctrl-C is seen.
            message = bus.timed_pop_filtered(200 * Gst.MSECOND, wanted)
            if message is None:
                continue
            if message.type == Gst.MessageType.EOS:
                break
            if message.type == Gst.MessageType.ERROR:
                details = message.parse_error_details()
                text = message.parse_error()[0].message
                raise RuntimeError(f"{text} {details.to_string() if details else ''}")
            structure = message.get_structure()
            if structure.get_name() == "splitmuxsink-fragment-closed":
                print(structure.get_string("location"), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=int, default=60, help="cut as often as this, not hourly")
    parser.add_argument("stream", help="name of the stream, or a kvs:// URI")
    parser.add_argument("folder", help="where the files go")
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    uri = args.stream if args.stream.startswith("kvs://") else f"kvs://{args.stream}"
    recorder = None
    try:
        recorder = Recorder(uri, args.folder, args.minutes)
        recorder.run()
    except (RuntimeError, GLib.Error) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if recorder:
            recorder.pipeline.set_state(Gst.State.NULL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
