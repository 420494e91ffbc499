#!/usr/bin/env python3
"""Saves a picture when something moves, named by the time at which it was recorded.

    motion.py cam pictures
    motion.py --area 0.05 'kvs://cam?start-selector=earliest&end-at-live=true' pictures

A picture is compared with the one before it, both small, grey and so without most of their noise:
where enough has changed, something moves. While it goes on, there is a picture every --pause
seconds of the stream's own time. The files are named like pictures/20240501T120004.250Z.png.

Needs what numpy_frames.py needs.
"""

import argparse
import os
import sys

import gi
from numpy_frames import frames

gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo  # noqa: E402

# So many steps of brightness, of 255, are a change.
STEP = 20
# Small pictures have about so many rows.
ROWS = 90


def small(picture):
    """The picture in grey, each of its points the mean of a square of the original's."""
    side = max(1, picture.shape[0] // ROWS)
    rows, columns = picture.shape[0] // side, picture.shape[1] // side
    cut = picture[: rows * side, : columns * side]
    return cut.reshape(rows, side, columns, side, 3).mean(axis=(1, 3, 4))


def moved(before, after):
    """The share of the picture that has changed; all of it if the pictures differ in size."""
    if before.shape != after.shape:
        return 1.0
    return (abs(after - before) > STEP).mean()


def save(sample, path):
    """GStreamer encodes what it has decoded."""
    png = GstVideo.video_convert_sample(sample, Gst.Caps.from_string("image/png"), 10 * Gst.SECOND)
    buffer = png.get_buffer()
    with open(path, "wb") as file:
        file.write(buffer.extract_dup(0, buffer.get_size()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--area", type=float, default=0.02, help="share of the picture, from 0 to 1")
    parser.add_argument("--pause", type=float, default=1, help="seconds from a picture to the next")
    parser.add_argument("stream", help="name of the stream, or a kvs:// URI")
    parser.add_argument("folder", help="where the pictures go")
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    before = saved = None
    try:
        for time, picture, sample in frames(args.stream):
            after = small(picture)
            share = 0 if before is None else moved(before, after)
            before = after
            if share < args.area:
                continue
            # Time may go back, where the producer's clock does.
            if saved is not None and 0 <= (time - saved).total_seconds() < args.pause:
                continue
            saved = time
            name = f"{time:%Y%m%dT%H%M%S}.{time.microsecond // 1000:03}Z.png"
            save(sample, os.path.join(args.folder, name))
            print(f"{name} {share:.0%} of the picture", flush=True)
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
