//! Interned strings: each is in the file once, and has a number that later events name.

use std::collections::HashMap;

use super::messages::{Interned, InternedData};

/// Maximum number of strings. Then all are forgotten, so that memory stays bounded.
const MAX_STRINGS: usize = 1 << 16;

/// The use of a string. Each use has its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    Category,
    EventName,
    AnnotationName,
    AnnotationValue,
}

/// The strings that were written, and those that the next packet must define.
#[derive(Default)]
pub struct Strings {
    numbers: HashMap<Use, HashMap<String, u64>>,
    count: usize,
    fresh: InternedData,
    /// True once a packet has cleared the reader's strings.
    has_cleared: bool,
}

impl Strings {
    /// Makes room for the strings of one packet. Call it before the first [`Strings::number`] of each packet.
    pub fn begin_packet(&mut self) {
        if self.count >= MAX_STRINGS {
            *self = Strings::default();
        }
    }

    /// Returns the number of a string, from 1.
    pub fn number(&mut self, usage: Use, text: &str) -> u64 {
        let numbers = self.numbers.entry(usage).or_default();
        if let Some(&number) = numbers.get(text) {
            return number;
        }
        let iid = numbers.len() as u64 + 1;
        numbers.insert(text.to_owned(), iid);
        self.count += 1;
        let fresh = match usage {
            Use::Category => &mut self.fresh.event_categories,
            Use::EventName => &mut self.fresh.event_names,
            Use::AnnotationName => &mut self.fresh.debug_annotation_names,
            Use::AnnotationValue => &mut self.fresh.debug_annotation_string_values,
        };
        fresh.push(Interned { iid, text: text.to_owned() });
        iid
    }

    /// Returns the definitions and the flags of the packet that uses the numbers.
    pub fn end_packet(&mut self) -> (Option<InternedData>, u32) {
        const CLEARED: u32 = 1;
        const NEEDED: u32 = 2;
        let flags = if self.has_cleared { NEEDED } else { CLEARED | NEEDED };
        self.has_cleared = true;
        let fresh = std::mem::take(&mut self.fresh);
        (Some(fresh).filter(|fresh| *fresh != InternedData::default()), flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_defined_once_until_all_are_forgotten() {
        let mut strings = Strings::default();
        let mut put = |text: &str| {
            strings.begin_packet();
            let number = strings.number(Use::EventName, text);
            let (fresh, flags) = strings.end_packet();
            (number, fresh.map_or(0, |fresh| fresh.event_names.len()), flags)
        };
        assert_eq!(put("a"), (1, 1, 3));
        assert_eq!(put("b"), (2, 1, 2));
        assert_eq!(put("a"), (1, 0, 2));
        for index in 2..MAX_STRINGS {
            put(&index.to_string());
        }
        assert_eq!(put("b"), (1, 1, 3));
    }
}
