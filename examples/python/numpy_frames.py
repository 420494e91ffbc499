#!/usr/bin/env python3
"""Pictures of a stream as NumPy arrays, as OpenCV wants them, each with the time of its recording.

    numpy_frames.py cam
    numpy_frames.py --count 100 'kvs://cam?aws-region=eu-west-1&start-selector=earliest'

In a program of your own:

    from numpy_frames import frames
    for time, picture, _sample in frames("cam"):
        cv2.imshow("cam", picture)

Needs NumPy and GStreamer for Python (Debian: python3-numpy, python3-gi, gir1.2-gstreamer-1.0 and
gir1.2-gst-plugins-base-1.0), and the plugin where GStreamer finds it. Region and credentials are
found as the AWS tools find them, unless the URI says more.
"""

import argparse
import datetime
import itertools
import sys

import gi
import numpy

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp  # noqa: E402, F401  (GstApp gives appsink its methods)

PIPELINE = (
    "kvsgetmediasrc name=source ! decodebin ! videoconvert ! video/x-raw,format=BGR"
    # With max-buffers, the program's own pace is the stream's: nothing piles up, nothing is lost.
    # To skip pictures instead where the program is slower than a live stream, add drop=true.
    " ! appsink name=frames sync=false max-buffers=4"
)


def picture(sample):
    """The picture of a sample: rows, columns, and blue, green and red in bytes."""
    caps = sample.get_caps().get_structure(0)
    width, height = caps.get_int("width")[1], caps.get_int("height")[1]
    buffer = sample.get_buffer()
    rows = numpy.frombuffer(buffer.extract_dup(0, buffer.get_size()), numpy.uint8)
    # Each row is filled up to a multiple of 4 bytes.
    return rows.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def recorded_at(sample):
    """The stream time of a frame is the time it was recorded at, since 1970."""
    time = sample.get_segment().to_stream_time(Gst.Format.TIME, sample.get_buffer().pts)
    return datetime.datetime.fromtimestamp(time / Gst.SECOND, datetime.timezone.utc)


def frames(stream):
    """Yields (time recorded, picture, Gst.Sample) until the stream ends."""
    Gst.init(None)
    pipeline = Gst.parse_launch(PIPELINE)
    source = pipeline.get_by_name("source")
    source.set_property("uri" if stream.startswith("kvs://") else "stream-name", stream)
    sink = pipeline.get_by_name("frames")
    bus = pipeline.get_bus()
    # What goes wrong here comes as a message.
    pipeline.set_state(Gst.State.PLAYING)
    try:
        while True:
            # Not for ever in one call, so that errors and Ctrl-C are seen.
            sample = sink.try_pull_sample(200 * Gst.MSECOND)
            if sample is not None:
                yield recorded_at(sample), picture(sample), sample
                continue
            message = bus.pop_filtered(Gst.MessageType.ERROR)
            if message is not None:
                error, _ = message.parse_error()
                details = message.parse_error_details()
                raise RuntimeError(f"{error.message} {details.to_string() if details else ''}")
            if sink.is_eos():
                return
    finally:
        pipeline.set_state(Gst.State.NULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, help="stop after so many pictures")
    parser.add_argument("stream", help="name of the stream, or a kvs:// URI")
    args = parser.parse_args()
    try:
        for time, image, _ in itertools.islice(frames(args.stream), args.count):
            blue, green, red = image.mean(axis=(0, 1)).round(1)
            when = time.isoformat(timespec="milliseconds")
            print(f"{when} {image.shape} red={red} green={green} blue={blue}", flush=True)
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
