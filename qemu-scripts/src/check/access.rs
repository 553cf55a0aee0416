//! One kind of access: the accesses of one site or call site to one port, in one direction, at one size.

use std::borrow::Cow;
use std::collections::HashMap;

use pvio_x86::{AccessSize, Direction, Mode, Port};

use super::Phase;
use crate::stats::{AccessCounts, CallSiteRow, Privilege, SiteRow, Tables};

/// The code that makes accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code<'a> {
    /// A port instruction.
    Site(&'a SiteRow),
    /// The code that makes a hypercall.
    CallSite(&'a CallSiteRow),
}

/// One kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedAccess<'a> {
    /// The port at which the access begins.
    pub port: Port,
    /// The name of the port.
    pub name: Option<&'a str>,
    /// The direction, as the processor sees it.
    pub dir: Direction,
    /// Bytes in one access.
    pub size: AccessSize,
    /// The code.
    pub code: Code<'a>,
    /// The phase of the code.
    pub phase: Phase,
    /// The number of accesses.
    pub counts: AccessCounts,
}

/// Lists the kinds of access in a dump or window, those by instruction first.
pub fn accesses(tables: &Tables) -> Vec<CheckedAccess<'_>> {
    let names = tables.ports.iter().map(|row| ((row.port, row.dir), row.name.as_deref()));
    let names: HashMap<_, _> = names.collect();
    let name = |port, dir| names.get(&(port, dir)).copied().flatten();
    let by_instruction = tables.accesses.iter().filter_map(|row| {
        let site = tables.site_of(row)?;
        Some(CheckedAccess {
            port: row.port,
            name: name(row.port, row.dir),
            dir: row.dir,
            size: row.size,
            code: Code::Site(site),
            phase: Phase::of_site(site),
            counts: row.counts,
        })
    });
    let by_hypercall = tables.call_accesses.iter().filter_map(|row| {
        let site = tables.call_site_of(row)?;
        Some(CheckedAccess {
            port: row.port,
            name: name(row.port, row.dir),
            dir: row.dir,
            size: row.size,
            code: Code::CallSite(site),
            phase: Phase::of_call_site(site),
            counts: AccessCounts { accesses: row.accesses, unverified: 0 },
        })
    });
    by_instruction.chain(by_hypercall).collect()
}

impl CheckedAccess<'_> {
    /// Returns true if the access brings the guest a value that the host chooses.
    pub fn is_input(&self) -> bool {
        self.dir == Direction::In
    }

    /// All accesses, also those that may have faulted.
    pub fn all(&self) -> u64 {
        self.counts.accesses.saturating_add(self.counts.unverified)
    }
}

impl<'a> Code<'a> {
    /// `instruction` or `hypercall`.
    pub fn by(self) -> &'static str {
        match self {
            Code::Site(_) => "instruction",
            Code::CallSite(_) => "hypercall",
        }
    }

    /// The linear address, as the dump has it.
    pub fn pc(self) -> &'a str {
        match self {
            Code::Site(site) => &site.pc,
            Code::CallSite(site) => &site.pc,
        }
    }

    /// The mode of the code, if it is known.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Code::Site(site) => site.mode,
            Code::CallSite(site) => site.mode,
        }
    }

    /// The privilege of the code, if it is known.
    pub fn privilege(self) -> Option<Privilege> {
        match self {
            Code::Site(site) => site.privilege,
            Code::CallSite(_) => None,
        }
    }

    /// The symbol and the offset from it.
    pub fn symbol(self) -> Option<&'a str> {
        match self {
            Code::Site(site) => site.symbol.as_deref(),
            Code::CallSite(site) => site.symbol.as_deref(),
        }
    }

    /// The file and the line of the source.
    pub fn source(self) -> Option<&'a str> {
        match self {
            Code::Site(site) => site.source.as_deref(),
            Code::CallSite(site) => site.source.as_deref(),
        }
    }

    /// The symbol, or else the place in a file of the guest.
    pub fn label(self) -> Option<Cow<'a, str>> {
        match self {
            Code::Site(site) => site.label(),
            Code::CallSite(site) => site.symbol.as_deref().map(Cow::Borrowed),
        }
    }

    /// The label with the source line; `-` if there is no label.
    pub fn shown(self) -> Cow<'a, str> {
        let label = match self {
            Code::Site(site) => site.label_with_source(),
            Code::CallSite(site) => site.label_with_source(),
        };
        label.unwrap_or(Cow::Borrowed("-"))
    }

    /// The function or the program, without the offset in it; the address if neither is known.
    pub fn function(self) -> Cow<'a, str> {
        let Some(label) = self.label() else { return Cow::Borrowed(self.pc()) };
        match label.rsplit_once("+0x") {
            Some((function, _)) => Cow::Owned(function.to_owned()),
            None => label,
        }
    }

    /// The form of the instruction, or the name of the call.
    pub fn form(self) -> &'static str {
        match self {
            Code::Site(site) => site.form.name(),
            Code::CallSite(site) => site.call.name(),
        }
    }

    /// Returns true if it moves strings between ports and memory.
    pub fn is_string(self) -> bool {
        match self {
            Code::Site(site) => site.form.is_string(),
            Code::CallSite(site) => {
                let name = site.call.name();
                name.starts_with("ins") || name.starts_with("outs")
            }
        }
    }

    /// The instruction in Intel syntax, or the name of the call.
    pub fn insn(self) -> &'a str {
        match self {
            Code::Site(site) => &site.insn,
            Code::CallSite(site) => site.call.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::test_accesses::linux;

    #[test]
    fn accesses_have_code_port_and_phase() {
        let dump = linux();
        let all = accesses(&dump);
        let first = all[0];
        assert_eq!((first.port, first.name), (Port(0x40), Some("PIT")));
        assert_eq!((first.phase, first.is_input(), first.all()), (Phase::Kernel, true, 2400));
        assert_eq!((first.code.by(), first.code.form()), ("instruction", "in al,dx"));
        assert_eq!(&*first.code.function(), "pit_read");
        let last = all.last().unwrap();
        assert_eq!((last.code.by(), last.code.form()), ("hypercall", "outsb"));
        assert!(last.code.is_string() && !first.code.is_string());
        assert_eq!(last.phase, Phase::Kernel);
    }

    #[test]
    fn code_without_a_name_has_its_file_or_address() {
        let dump = linux();
        let user = accesses(&dump).into_iter().find(|access| access.phase == Phase::User).unwrap();
        assert_eq!(&*user.code.function(), "/bin/dongle");
        assert_eq!(&*user.code.shown(), "/bin/dongle+0x1139");
        let unknown = accesses(&dump).into_iter().find(|a| a.phase == Phase::Unknown).unwrap();
        assert_eq!((&*unknown.code.function(), &*unknown.code.shown()), ("0x7e100010", "-"));
    }
}
