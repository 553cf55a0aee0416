//! `post`: a POST card. It keeps the codes that firmware writes to a port, with their times.
//!
//! `device=post@0x80` watches port 0x80, and leaves all accesses to QEMU's device. The codes are in the
//! dump's table `post`, and in the summary.

use pvio_stats::PostRow;

use super::{DeviceError, ObservedAccess, Observer, ObserverKind, PostCodes};
use crate::x86::Direction;

/// The kind `post`.
pub const POST: ObserverKind = ObserverKind {
    name: "post",
    ports: 1,
    build: |settings| match settings.range.len() {
        1 => Ok(Box::new(Post::default())),
        _ => Err(DeviceError::other("this kind has one port; name only the first")),
    },
};

/// Maximum number of codes that are kept: 4,096. The last one replaces the one before it if there are more.
const MAX_CODES: usize = 4096;

#[derive(Default)]
struct Post {
    codes: PostCodes,
}

impl Observer for Post {
    fn access(&mut self, access: &ObservedAccess) {
        if access.direction == Direction::In {
            return;
        }
        let PostCodes { rows, dropped } = &mut self.codes;
        let unverified = u64::from(access.may_have_faulted);
        if let Some(last) = rows.last_mut()
            && (last.size, last.value, last.vcpu) == (access.size, access.value, access.vcpu)
        {
            last.count += 1;
            last.unverified += unverified;
            last.last_ns = access.time_ns;
            return;
        }
        if rows.len() == MAX_CODES {
            rows.pop();
            *dropped += 1;
        }
        rows.push(PostRow {
            port: access.port,
            size: access.size,
            value: access.value,
            vcpu: access.vcpu,
            count: 1,
            unverified,
            first_ns: access.time_ns,
            last_ns: access.time_ns,
        });
    }

    fn post_codes(&self) -> Option<PostCodes> {
        Some(self.codes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::{Port, Width};

    fn write(value: u32, time_ns: u64) -> ObservedAccess {
        ObservedAccess {
            port: Port(0x80),
            offset: 0,
            direction: Direction::Out,
            size: Width::Byte.into(),
            value: Some(value),
            may_have_faulted: false,
            by_hypercall: false,
            vcpu: Some(0),
            pc: 0xffff0,
            time_ns,
        }
    }

    #[test]
    fn repeated_codes_share_a_row_and_reads_are_no_codes() {
        let mut post = Post::default();
        post.access(&write(1, 10));
        post.access(&write(1, 20));
        post.access(&ObservedAccess { direction: Direction::In, ..write(9, 25) });
        post.access(&write(2, 30));
        post.access(&ObservedAccess { may_have_faulted: true, ..write(1, 40) });
        let rows = post.codes.rows.iter();
        let rows: Vec<_> = rows
            .map(|row| (row.value.unwrap(), row.count, row.unverified, row.first_ns, row.last_ns))
            .collect();
        assert_eq!(rows, [(1, 2, 0, 10, 20), (2, 1, 0, 30, 30), (1, 1, 1, 40, 40)]);
    }

    #[test]
    fn last_code_is_kept_when_the_table_is_full() {
        let mut post = Post::default();
        for time in 0..=MAX_CODES as u64 {
            post.access(&write(time as u32 % 2, time));
        }
        let PostCodes { rows, dropped } = post.post_codes().unwrap();
        assert_eq!((rows.len(), dropped), (MAX_CODES, 1));
        assert_eq!(rows[MAX_CODES - 1].first_ns, MAX_CODES as u64);
        assert_eq!(rows[MAX_CODES - 2].first_ns, MAX_CODES as u64 - 2);
    }
}
