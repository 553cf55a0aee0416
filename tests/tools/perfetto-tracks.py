#!/usr/bin/env python3
"""Parses a trace by Perfetto's own definitions, and prints its tracks.

For each track a line: its parent, its name, and how many instants, begins and ends it has, with tabs between them. Then the
interned strings, each with the number of its uses: "= name", "= annotation" or "= text" in place of the parent.
"""
import sys
from collections import Counter

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent

trace = Trace()
with open(sys.argv[1], "rb") as file:
    trace.ParseFromString(file.read())


def unknown_fields(message):
    """Finds fields that the definitions lack, in a message or in those within it: it is larger than its known fields."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return known.ByteSize() != message.ByteSize()


if unknown_fields(trace):
    sys.exit("there are fields that Perfetto does not define")

tracks, counts, uses = {}, Counter(), Counter()
strings = None


def text(kind, number):
    if strings is None or number not in strings[kind]:
        sys.exit(f"an event names a string that is not interned before it: {kind} {number}")
    return strings[kind][number]


for packet in trace.packet:
    if packet.sequence_flags & TracePacket.SEQ_INCREMENTAL_STATE_CLEARED:
        strings = {"category": {}, "name": {}, "annotation": {}, "text": {}}
    data = packet.interned_data
    for kind, rows in (
        ("category", ((row.iid, row.name) for row in data.event_categories)),
        ("name", ((row.iid, row.name) for row in data.event_names)),
        ("annotation", ((row.iid, row.name) for row in data.debug_annotation_names)),
        ("text", ((row.iid, row.str.decode()) for row in data.debug_annotation_string_values)),
    ):
        for number, string in rows:
            if not number or number in strings[kind]:
                sys.exit("a string is interned twice")
            strings[kind][number] = string
    if packet.HasField("track_descriptor"):
        track = packet.track_descriptor
        tracks[track.uuid] = track
    elif packet.HasField("track_event"):
        event = packet.track_event
        if event.track_uuid not in tracks:
            sys.exit("an event is on a track that is not described before it")
        if not packet.trusted_packet_sequence_id or not packet.HasField("timestamp"):
            sys.exit("an event has no sequence or no time")
        if not packet.sequence_flags & TracePacket.SEQ_NEEDS_INCREMENTAL_STATE:
            sys.exit("an event uses interned strings, but does not say so")
        if event.categories or event.name or [text("category", iid) for iid in event.category_iids] != ["pvio"]:
            sys.exit("an event has no interned category, or a name that is not interned")
        counts[event.track_uuid, event.type] += 1
        if event.name_iid:
            uses["name", text("name", event.name_iid)] += 1
        elif event.type != TrackEvent.TYPE_SLICE_END:
            sys.exit("an event has no name")
        for annotation in event.debug_annotations:
            uses["annotation", text("annotation", annotation.name_iid)] += 1
            if annotation.string_value_iid:
                uses["text", text("text", annotation.string_value_iid)] += 1
    else:
        sys.exit("a packet has neither a track nor an event")

for uuid, track in tracks.items():
    parent = tracks[track.parent_uuid].name if track.parent_uuid else ""
    types = TrackEvent.TYPE_INSTANT, TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END
    print(parent, track.name, *(counts[uuid, type] for type in types), sep="\t")
for (kind, string), count in uses.items():
    print(f"= {kind}", string, count, sep="\t")
