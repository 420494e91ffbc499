#!/usr/bin/env python3
"""The sound of a stream as speech recognition wants it: 16 kHz, mono, signed 16-bit, 100 ms at a time.

    speech.py call
    speech.py --track AUDIO_FROM_CUSTOMER 'kvs://?stream-arn=…'

Each chunk comes with the name of its track and the time at which it was recorded: of an Amazon
Connect call AUDIO_FROM_CUSTOMER and AUDIO_TO_CUSTOMER, of other streams what the producer called
them. Put your own recogniser in the place of recognise().

Needs GStreamer for Python (Debian: python3-gi, gir1.2-gstreamer-1.0 and
gir1.2-gst-plugins-base-1.0), and the plugin where GStreamer finds it. Region and credentials are
found as the AWS tools find them, unless the URI says more.
"""

import argparse
import array
import datetime
import math
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import GLib, Gst, GstApp  # noqa: E402, F401

# From decoded sound to chunks.
CHUNKS = (
    "audioconvert ! audioresample"
    " ! audio/x-raw,format=S16LE,rate=16000,channels=1,layout=interleaved"
    " ! audiobuffersplit output-buffer-duration=1/10"
    " ! appsink name=chunks emit-signals=true sync=false"
)


def recognise(track, time, chunk):
    """Here a recogniser would take the chunk, 3200 bytes. This one tells how loud it is."""
    samples = array.array("h", chunk)
    power = sum(sample * sample for sample in samples) / len(samples)
    level = 10 * math.log10(power / 32768**2) if power else -math.inf
    when = time.isoformat(timespec="milliseconds")
    # In one piece: each track has a thread of its own.
    sys.stdout.write(f"{when} {track} {len(chunk)} bytes {level:.1f} dB\n")
    sys.stdout.flush()


def title(pad):
    """The name of a track, from the tags that come before its first sound."""
    index = 0
    while (event := pad.get_sticky_event(Gst.EventType.TAG, index)) is not None:
        known, name = event.parse_tag().get_string("title")
        if known:
            return name
        index += 1
    return "-"


def on_chunk(sink, track):
    sample = sink.pull_sample()
    if sample is None:
        return Gst.FlowReturn.EOS
    name = title(sink.get_static_pad("sink"))
    if track in (None, name):
        buffer = sample.get_buffer()
        # The stream time of sound is the time it was recorded at, since 1970.
        time = sample.get_segment().to_stream_time(Gst.Format.TIME, buffer.pts)
        time = datetime.datetime.fromtimestamp(time / Gst.SECOND, datetime.timezone.utc)
        recognise(name, time, buffer.extract_dup(0, buffer.get_size()))
    return Gst.FlowReturn.OK


def on_pad(_source, pad, pipeline, track):
    """Something for each track of sound; pictures are left where they are."""
    if not pad.get_name().startswith("audio"):
        return
    # One thread feeds all pads of the source: the queue lets it go on to the next.
    queue = Gst.ElementFactory.make("queue")
    decoder = Gst.ElementFactory.make("decodebin")
    chunks = Gst.parse_bin_from_description(CHUNKS, True)
    chunks.get_by_name("chunks").connect("new-sample", on_chunk, track)
    decoder.connect("pad-added", lambda _, new: new.link(chunks.get_static_pad("sink")))
    for element in (queue, decoder, chunks):
        pipeline.add(element)
    queue.link(decoder)
    for element in (queue, decoder, chunks):
        element.sync_state_with_parent()
    pad.link(queue.get_static_pad("sink"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--track", help="only the track of this name")
    parser.add_argument("stream", help="name of the stream, or a kvs:// URI")
    args = parser.parse_args()
    uri = args.stream if args.stream.startswith("kvs://") else f"kvs://{args.stream}"

    Gst.init(None)
    pipeline = Gst.Pipeline()
    try:
        source = Gst.Element.make_from_uri(Gst.URIType.SRC, uri)
        pipeline.add(source)
        source.connect("pad-added", on_pad, pipeline, args.track)
        pipeline.set_state(Gst.State.PLAYING)
        message = None
        while message is None:
            # Not for ever in one call, so that Ctrl-C is seen.
            wanted = Gst.MessageType.EOS | Gst.MessageType.ERROR
            message = pipeline.get_bus().timed_pop_filtered(200 * Gst.MSECOND, wanted)
        if message.type == Gst.MessageType.ERROR:
            details = message.parse_error_details()
            text = message.parse_error()[0].message
            raise RuntimeError(f"{text} {details.to_string() if details else ''}")
    except KeyboardInterrupt:
        pass
    except (RuntimeError, GLib.Error) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        pipeline.set_state(Gst.State.NULL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
