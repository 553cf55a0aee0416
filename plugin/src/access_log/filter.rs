//! Which ports the access log covers.

use crate::x86::{Port, PortRange};

/// The ports to log.
#[derive(Clone, Debug, Default)]
pub struct PortFilter(Vec<PortRange>);

impl PortFilter {
    /// A filter for these ranges. Without any, the log covers all ports.
    pub fn new(ranges: Vec<PortRange>) -> PortFilter {
        PortFilter(ranges)
    }

    /// Whether accesses to a port are logged.
    pub fn covers(&self, port: Port) -> bool {
        self.0.is_empty() || self.0.iter().any(|range| range.contains(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_covers_its_ranges_and_without_ranges_all_ports() {
        let covered = |ranges: &[&str]| {
            let ranges = ranges.iter().map(|range| PortRange::parse(range, 1).unwrap()).collect();
            let filter = PortFilter::new(ranges);
            [0x5f, 0x60, 0x3f8, 0x3ff, 0x400].map(|port| filter.covers(Port(port)))
        };
        assert_eq!(covered(&[]), [true; 5]);
        assert_eq!(covered(&["0x60", "0x3f8-0x3ff"]), [false, true, true, true, false]);
    }
}
