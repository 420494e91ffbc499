#!/usr/bin/env python3
"""Decoded pictures of a stream as bytes, each with the time at which it was recorded.

    frames.py cam
    frames.py --count 100 'kvs://cam?aws-region=eu-west-1&start-selector=earliest'

Needs GStreamer for Python (Debian: python3-gi, gir1.2-gstreamer-1.0 and
gir1.2-gst-plugins-base-1.0), and the plugin where GStreamer finds it. Region and credentials are
found as the AWS tools find them, unless the URI says more.
"""

import argparse
import datetime
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp  # noqa: E402, F401  (GstApp gives appsink its methods)

PIPELINE = (
    "kvsgetmediasrc name=source ! decodebin ! videoconvert ! video/x-raw,format=RGB"
    # With max-buffers, the program's own pace is the stream's: nothing piles up, nothing is lost.
    " ! appsink name=frames sync=false max-buffers=4"
)


def frames(pipeline):
    """Yields (time recorded, width, height, bytes in RGB) until the stream ends."""
    sink = pipeline.get_by_name("frames")
    bus = pipeline.get_bus()
    while True:
        # Not for ever in one call, so that errors and Ctrl-C are seen.
        sample = sink.try_pull_sample(200 * Gst.MSECOND)
        if sample is None:
            message = bus.pop_filtered(Gst.MessageType.ERROR)
            if message is not None:
                error, _ = message.parse_error()
                details = message.parse_error_details()
                raise RuntimeError(f"{error.message} {details.to_string() if details else ''}")
            if sink.is_eos():
                return
            continue
        buffer = sample.get_buffer()
        size = sample.get_caps().get_structure(0)
        # The stream time of a frame is the time it was recorded at, since the Unix epoch.
        recorded = sample.get_segment().to_stream_time(Gst.Format.TIME, buffer.pts)
        yield (
            datetime.datetime.fromtimestamp(recorded / Gst.SECOND, datetime.timezone.utc),
            size.get_int("width")[1],
            size.get_int("height")[1],
            buffer.extract_dup(0, buffer.get_size()),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, help="stop after so many pictures")
    parser.add_argument("stream", help="name of the stream, or a kvs:// URI")
    args = parser.parse_args()

    Gst.init(None)
    pipeline = Gst.parse_launch(PIPELINE)
    source = pipeline.get_by_name("source")
    source.set_property("uri" if args.stream.startswith("kvs://") else "stream-name", args.stream)
    pipeline.set_state(Gst.State.PLAYING)
    try:
        for number, (recorded, width, height, pixels) in enumerate(frames(pipeline), 1):
            # In OpenCV: numpy.frombuffer(pixels, numpy.uint8).reshape(height, -1)[:, : 3 * width]
            brightness = sum(pixels[::97]) // len(pixels[::97])
            when = recorded.isoformat(timespec="milliseconds")
            print(f"{when} {width}x{height} {len(pixels)} bytes, brightness {brightness}", flush=True)
            if number == args.count:
                break
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        pipeline.set_state(Gst.State.NULL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
