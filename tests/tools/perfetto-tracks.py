#!/usr/bin/env python3
"""Parses a trace by Perfetto's own definitions, and prints its tracks.

For each track a line: its parent, its name, and how many instants, begins and ends it has, with tabs between them.
"""
import sys
from collections import Counter

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

trace = Trace()
with open(sys.argv[1], "rb") as file:
    trace.ParseFromString(file.read())

tracks, counts, last = {}, Counter(), {}
for packet in trace.packet:
    if packet.HasField("track_descriptor"):
        track = packet.track_descriptor
        tracks[track.uuid] = track
    elif packet.HasField("track_event"):
        event = packet.track_event
        if event.track_uuid not in tracks:
            sys.exit("an event is on a track that is not described before it")
        if not packet.trusted_packet_sequence_id or not packet.HasField("timestamp"):
            sys.exit("an event has no sequence or no time")
        counts[event.track_uuid, event.type] += 1
    else:
        sys.exit("a packet has neither a track nor an event")

for uuid, track in tracks.items():
    parent = tracks[track.parent_uuid].name if track.parent_uuid else ""
    types = TrackEvent.TYPE_INSTANT, TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END
    print(parent, track.name, *(counts[uuid, type] for type in types), sep="\t")
