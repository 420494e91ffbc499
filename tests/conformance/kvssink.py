#!/usr/bin/env python3
"""Uploads a stream by kvssink, Amazon's own sink, and plays it by kvsgetmediasrc.

The service is that of CONTROL_PLANE_URI, and AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY are for both. GStreamer must find both elements. Frames and fragment metadata
must come out as they went in.
"""

import os
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

STREAM = "kvssink"
FRAMES = 200
GOP = 50
PATIENCE = 60 * Gst.SECOND

# What is attached before which frame: name, value, whether it stays. It belongs to the next fragment.
METADATA = {
    0: ("camera", "front", True),
    60: ("motion", "yes", False),
    120: ("camera", "", True),
}
EXPECTED = [
    [("camera", "front")],
    [("camera", "front")],
    [("camera", "front"), ("motion", "yes")],
    [],
]


def fail(why):
    print(why)
    sys.stdout.flush()
    os._exit(1)


def wait(pipeline, kinds):
    """The next message of these kinds. An error ends everything."""
    message = pipeline.get_bus().timed_pop_filtered(PATIENCE, kinds | Gst.MessageType.ERROR)
    if message is None:
        fail(f"{pipeline.get_name()}: nothing happens")
    if message.type == Gst.MessageType.ERROR:
        error, debug = message.parse_error()
        fail(f"{pipeline.get_name()}: {error.message} ({debug})")
    return message


def payload(buffer):
    return buffer.extract_dup(0, buffer.get_size())


def upload():
    """Plays a test pattern into kvssink; returns the frames that went in."""
    pipeline = Gst.parse_launch(
        f"videotestsrc is-live=true num-buffers={FRAMES} pattern=ball "
        "! video/x-raw,width=320,height=180,framerate=25/1 "
        f"! x264enc key-int-max={GOP} bframes=0 tune=zerolatency option-string=scenecut=0 "
        "! h264parse ! video/x-h264,stream-format=avc,alignment=au "
        f"! kvssink name=sink stream-name={STREAM}"
    )
    frames = []

    def on_frame(pad, info):
        item = METADATA.get(len(frames))
        frames.append(payload(info.get_buffer()))
        if item is not None:
            structure = Gst.Structure.new_empty("kvs-add-metadata")
            for field, value in zip(("name", "value", "persist"), item):
                structure.set_value(field, value)
            kind = Gst.EventType.CUSTOM_DOWNSTREAM
            pad.get_peer().push_event(Gst.Event.new_custom(kind, structure))
        return Gst.PadProbeReturn.OK

    pad = pipeline.get_by_name("sink").sinkpads[0]
    pad.add_probe(Gst.PadProbeType.BUFFER, on_frame)
    pipeline.set_state(Gst.State.PLAYING)
    wait(pipeline, Gst.MessageType.EOS)
    # Waits until all has been acknowledged.
    pipeline.set_state(Gst.State.NULL)
    return pipeline, frames


def play():
    """Plays it back; returns the frames, and what was attached to each fragment."""
    pipeline = Gst.parse_launch(
        "kvsgetmediasrc name=src start-selector=earliest ! matroskademux "
        "! appsink name=sink sync=false"
    )
    source = pipeline.get_by_name("src")
    for name, value in [
        ("stream-name", STREAM),
        ("endpoint-url", os.environ["CONTROL_PLANE_URI"]),
        ("aws-region", os.environ["AWS_DEFAULT_REGION"]),
    ]:
        source.set_property(name, value)
    sink = pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    fragments = []
    while len(fragments) < len(EXPECTED):
        structure = wait(pipeline, Gst.MessageType.ELEMENT).get_structure()
        if structure.get_name() == "kvs-fragment":
            fragments.append(tags(structure))
    frames = []
    while True:
        sample = sink.emit("try-pull-sample", Gst.SECOND)
        if sample is None:
            break
        frames.append(payload(sample.get_buffer()))
    pipeline.set_state(Gst.State.NULL)
    return frames, fragments


def tags(structure):
    """The tags of a fragment that are not the service's own."""
    _, array = structure.get_array("tags")
    found = []
    for index in range(array.n_values):
        tag = array.get_nth(index)
        name, value = tag.get_string("name"), tag.get_string("value")
        if not name.startswith("AWS_"):
            found.append((name, value))
    return found


def main():
    Gst.init(None)
    _keep, sent = upload()
    if len(sent) != FRAMES:
        fail(f"{len(sent)} frames were sent, not {FRAMES}")
    received, fragments = play()
    if received != sent:
        same = sum(a == b for a, b in zip(sent, received))
        fail(f"{same} frames are the same, of {len(sent)} sent and {len(received)} received")
    if fragments != EXPECTED:
        fail(f"attached was {fragments}, not {EXPECTED}")
    print(f"{len(received)} frames in {len(fragments)} fragments, and their metadata, came through")
    sys.stdout.flush()
    # kvssink was seen to crash when it is freed.
    os._exit(0)


main()
