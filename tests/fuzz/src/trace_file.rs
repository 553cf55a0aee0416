//! Traces whose chunks have right checksums, so that arbitrary events get as far as the decoder.

use pvio_stats::trace::{ChunkHeader, ChunkKind, REQUESTS, chunk};

const HEAD: &[u8] =
    br#"{"pvio":"0.1.0","qemu":{"version":"11.1.3","plugin_api":7,"target":"x86_64"},"began":1,
    "reports_exceptions":true,"reads_memory":true,"callers":true,"processes":true,"irqs":true,
    "devices":[{"kind":"latch","first":16,"last":19}]}"#;

/// Makes a trace of arbitrary bytes.
///
/// If the first byte is 0, the others are the file. Otherwise they are chunks after a head: a byte for the kind and the vCPU,
/// two for the length, and the contents.
pub fn trace_file(data: &[u8]) -> Vec<u8> {
    let Some((&first, mut rest)) = data.split_first() else { return Vec::new() };
    if first == 0 {
        return rest.to_vec();
    }
    let header = |kind, stream, sequence| {
        let vcpu = if stream == REQUESTS { 0 } else { stream };
        ChunkHeader { kind, stream, vcpu, sequence, events: 1, start: 1000 }
    };
    let mut file = chunk(&header(ChunkKind::Head, 0, 0), HEAD);
    let mut sequences = [0; 4];
    while let Some((&[kind, low, high], after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([low, high])).min(after.len());
        let (contents, after) = after.split_at(len);
        let index = usize::from(kind & 3);
        let header = match kind >> 7 {
            0 => {
                let stream = [0, 1, 2, REQUESTS][index];
                sequences[index] += 1;
                header(ChunkKind::Events, stream, sequences[index] - 1)
            }
            _ => header(ChunkKind::End, 0, 0),
        };
        file.extend(chunk(&header, contents));
        rest = after;
    }
    file
}
