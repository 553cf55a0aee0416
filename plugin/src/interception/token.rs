//! The layout of each kind of token.
//!
//! A token is the 64 bits that QEMU carries from the translation of an instruction to each callback for it. It holds all
//! that pvio knows from the translation, so that a translation allocates nothing and frees nothing.
//!
//! | kind | bits 0-15 | bits 16-31 | bits 32-63 |
//! | --- | --- | --- | --- |
//! | [`PortIoToken`] | form, privilege, port or address size | row of the site, or offset in the page | base of the code segment |
//! | [`CallToken`] | mode, privilege, instruction | offset in the page | base |
//! | [`VmrunToken`] | VMRUN's address size and length | offset in the page | base |
//! | [`CountToken`] | low 48 bits of the address at translation | | and, from bit 48 on: whether there is a base, what follows, section, whether its distance is known; 5 bits are the scoreboard's |

use bitfield_struct::bitfield;

use super::address::CodeAddress;
use crate::hypercalls::Magic;
use crate::qemu::Token;
use crate::sections::MAX_SECTIONS;
use crate::stats::{MAX_SITES, SiteId};
use crate::x86::{AddressSize, Decoded, Flow, InsnForm, Mode, Port, PortForm, Supervisor};

/// A port I/O instruction.
#[bitfield(u64, new = false, default = false)]
#[derive(PartialEq, Eq)]
pub(super) struct PortIoToken {
    /// [`InsnForm::index`].
    #[bits(6)]
    form_index: usize,
    /// True if the code is known to have port I/O permission without the TSS.
    pub is_privileged: bool,
    /// True if the site at the address of the translation has a row.
    has_row: bool,
    /// The immediate port of a scalar; the address size of a string instruction.
    pub immediate_or_size: u8,
    /// The site's row if it has one; otherwise the offset in the page.
    row_or_offset: u16,
    /// The base of the code segment.
    pub base: u32,
}

impl PortIoToken {
    /// `form` is that of `decoded`, or undecided. `site` is the one at the address of the translation; `is_privileged`
    /// says that no permission bitmap applies.
    pub fn new(
        decoded: Decoded,
        form: InsnForm,
        site: Option<SiteId>,
        address: CodeAddress,
        is_privileged: bool,
    ) -> PortIoToken {
        const { assert!(MAX_SITES <= 1 << 16) };
        let immediate_or_size = match decoded.form.is_string() {
            true => decoded.address_size as u8,
            false => decoded.immediate.map_or(0, |port| port.0 as u8),
        };
        PortIoToken(0)
            .with_form_index(form.index())
            .with_is_privileged(is_privileged)
            .with_has_row(site.is_some())
            .with_immediate_or_size(immediate_or_size)
            .with_row_or_offset(site.map_or(address.offset, |SiteId(row)| row as u16))
            .with_base(address.base)
    }

    pub fn form(self) -> InsnForm {
        InsnForm::from_index(self.form_index())
    }

    /// Returns the form of a scalar that has a [`PortIoToken::plain_site`].
    #[inline]
    pub fn plain_form(self) -> PortForm {
        PortForm::ALL[self.form_index()]
    }

    /// Returns the immediate port of a scalar. Without meaning for other forms.
    pub fn immediate(self) -> Port {
        Port(self.immediate_or_size().into())
    }

    /// Returns the site at the address of the translation, if it has a row.
    pub fn site(self) -> Option<SiteId> {
        self.has_row().then_some(SiteId(self.row_or_offset().into()))
    }

    /// Returns the same for a scalar that cannot fault.
    #[inline]
    pub fn plain_site(self) -> Option<SiteId> {
        const { assert!(PortForm::OutDxEax.index() == 11 && PortForm::Insb.index() == 12) };
        let is_scalar = self.form_index() <= PortForm::OutDxEax.index();
        let is_plain = is_scalar && self.has_row() && self.is_privileged();
        is_plain.then_some(SiteId(self.row_or_offset().into()))
    }

    /// Returns the address of a site that has no row, given RIP.
    pub fn address_without_row(self, rip: u64) -> u64 {
        CodeAddress { base: self.base(), offset: self.row_or_offset() }.at(rip)
    }
}

/// A magic instruction.
#[bitfield(u64, new = false, default = false)]
#[derive(PartialEq, Eq)]
pub(super) struct CallToken {
    #[bits(2, from = mode_from_bits, into = mode_to_bits)]
    pub mode: Mode,
    /// True if it is supervisor code; `None` if that is not known.
    #[bits(2, from = supervisor_from_bits, into = supervisor_to_bits)]
    pub supervisor: Option<Supervisor>,
    #[bits(2, from = magic_from_bits, into = magic_to_bits)]
    pub magic: Magic,
    #[bits(10)]
    __: u16,
    #[bits(12)]
    offset: u16,
    #[bits(4)]
    __: u8,
    base: u32,
}

impl CallToken {
    pub fn new(
        magic: Magic,
        mode: Mode,
        supervisor: Option<Supervisor>,
        address: CodeAddress,
    ) -> CallToken {
        CallToken(0)
            .with_magic(magic)
            .with_mode(mode)
            .with_supervisor(supervisor)
            .with_offset(address.offset)
            .with_base(address.base)
    }

    #[inline]
    pub fn address(self) -> CodeAddress {
        CodeAddress { base: self.base(), offset: self.offset() }
    }
}

const fn mode_from_bits(bits: u8) -> Mode {
    Mode::ALL[bits as usize]
}

const fn mode_to_bits(mode: Mode) -> u8 {
    mode as u8
}

const fn magic_from_bits(bits: u8) -> Magic {
    match bits {
        0 => Magic::Call,
        1 => Magic::Doorbell,
        _ => Magic::RegisterMailbox,
    }
}

const fn magic_to_bits(magic: Magic) -> u8 {
    magic as u8
}

const fn supervisor_from_bits(bits: u8) -> Option<Supervisor> {
    match bits {
        1 => Some(Supervisor::Yes),
        2 => Some(Supervisor::No),
        _ => None,
    }
}

const fn supervisor_to_bits(supervisor: Option<Supervisor>) -> u8 {
    match supervisor {
        None => 0,
        Some(Supervisor::Yes) => 1,
        Some(Supervisor::No) => 2,
    }
}

/// VMRUN, or an instruction that a #VMEXIT may lead to.
#[bitfield(u64, new = false, default = false)]
#[derive(PartialEq, Eq)]
pub(super) struct VmrunToken {
    /// The length of a VMRUN in bytes; 0 for an exit.
    #[bits(4)]
    len: u8,
    #[bits(2, from = address_size_from_bits, into = address_size_to_bits)]
    address_size: AddressSize,
    #[bits(10)]
    __: u16,
    #[bits(12)]
    offset: u16,
    #[bits(4)]
    __: u8,
    base: u32,
}

/// The instruction that a [`VmrunToken`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VmrunSite {
    /// VMRUN: how much of RAX it takes, and its length in bytes.
    Entry(AddressSize, u8),
    /// An instruction that a #VMEXIT may lead to.
    Exit,
}

impl VmrunToken {
    pub fn new(site: VmrunSite, address: CodeAddress) -> VmrunToken {
        let (size, len) = match site {
            VmrunSite::Entry(size, len) => (size, len),
            VmrunSite::Exit => (AddressSize::Bits16, 0),
        };
        VmrunToken(0)
            .with_len(len)
            .with_address_size(size)
            .with_offset(address.offset)
            .with_base(address.base)
    }

    pub fn site(self) -> VmrunSite {
        match self.len() {
            0 => VmrunSite::Exit,
            len => VmrunSite::Entry(self.address_size(), len),
        }
    }

    pub fn address(self) -> CodeAddress {
        CodeAddress { base: self.base(), offset: self.offset() }
    }
}

const fn address_size_from_bits(bits: u8) -> AddressSize {
    AddressSize::ALL[bits as usize]
}

const fn address_size_to_bits(size: AddressSize) -> u8 {
    size as u8
}

/// An instruction of any kind that is counted. All bits are 0 before a vCPU's first instruction.
#[bitfield(u64, new = false, default = false)]
#[derive(PartialEq, Eq)]
pub(super) struct CountToken {
    #[bits(48)]
    low_pc: u64,
    /// True if the code segment has a base.
    pub has_base: bool,
    /// The way that the instruction continues; `None` before the first instruction.
    #[bits(2, from = flow_from_bits, into = flow_to_bits)]
    pub flow: Option<Flow>,
    /// The place of the section at the address of the translation.
    #[bits(7)]
    pub place: u8,
    /// True if the address at which the instruction's block runs is reported when the block begins.
    pub has_distance: bool,
    /// [`Scoreboard::MAX_TOKEN`](crate::qemu::Scoreboard::MAX_TOKEN).
    #[bits(5)]
    __: u8,
}

impl CountToken {
    pub fn new(pc: u64, has_base: bool, flow: Flow, place: u8) -> CountToken {
        const { assert!(MAX_SECTIONS < 1 << 7) };
        CountToken(0)
            .with_place(place)
            .with_flow(Some(flow))
            .with_has_base(has_base)
            .with_low_pc(pc & ((1 << 48) - 1))
    }

    /// Returns the address at translation, which is canonical: bits 63 to 48 are copies of bit 47.
    pub fn pc(self) -> u64 {
        ((self.low_pc() << 16) as i64 >> 16) as u64
    }
}

const fn flow_from_bits(bits: u8) -> Option<Flow> {
    match bits {
        1 => Some(Flow::On),
        2 => Some(Flow::Elsewhere),
        3 => Some(Flow::Handler),
        _ => None,
    }
}

const fn flow_to_bits(flow: Option<Flow>) -> u8 {
    match flow {
        None => 0,
        Some(Flow::On) => 1,
        Some(Flow::Elsewhere) => 2,
        Some(Flow::Handler) => 3,
    }
}

macro_rules! tokens {
    ($($kind:ident)*) => {
        $(
            impl From<$kind> for Token {
                fn from(kind: $kind) -> Token {
                    Token(kind.0)
                }
            }

            impl From<Token> for $kind {
                #[inline]
                fn from(Token(bits): Token) -> $kind {
                    $kind(bits)
                }
            }
        )*
    };
}

tokens! { PortIoToken CallToken VmrunToken CountToken }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::decode;

    const ADDRESSES: [CodeAddress; 3] = [
        CodeAddress { base: 0, offset: 0 },
        CodeAddress { base: u32::MAX, offset: 0xfff },
        CodeAddress { base: 0x8765_4321, offset: 0x567 },
    ];

    /// Passes a token through QEMU.
    fn carried<T: Into<Token> + From<Token>>(token: T) -> T {
        T::from(token.into())
    }

    #[test]
    fn a_port_io_token_keeps_form_operand_privilege_and_site() {
        let codes: [&[u8]; 4] = [&[0xe6, 0xf4], &[0xee], &[0xf3, 0x67, 0x6d], &[0x6e]];
        let sites = [None, Some(SiteId(0)), Some(SiteId(0xffff))];
        for (code, mode) in codes.iter().flat_map(|code| Mode::ALL.map(|mode| (code, mode))) {
            let decoded = decode(code, mode).unwrap();
            let form = InsnForm::from(decoded.form);
            for (site, privileged) in sites.iter().flat_map(|&site| [(site, false), (site, true)]) {
                for address in ADDRESSES {
                    let token = carried(PortIoToken::new(decoded, form, site, address, privileged));
                    assert_eq!(token.form(), form);
                    assert_eq!(token.is_privileged(), privileged);
                    assert_eq!((token.site(), token.base()), (site, address.base));
                    let is_plain = privileged && !decoded.form.is_string();
                    assert_eq!(token.plain_site(), site.filter(|_| is_plain));
                    if site.is_none() {
                        assert_eq!(token.address_without_row(0x1000), address.at(0x1000));
                    }
                    if decoded.form.is_string() {
                        assert_eq!(token.immediate_or_size(), decoded.address_size as u8);
                    } else if let Some(port) = decoded.immediate {
                        assert_eq!(token.immediate(), port);
                    }
                }
            }
        }
    }

    #[test]
    fn a_call_token_keeps_instruction_mode_privilege_and_address() {
        let privileges = [None, Some(Supervisor::Yes), Some(Supervisor::No)];
        for (mode, supervisor) in
            Mode::ALL.into_iter().flat_map(|mode| privileges.map(|known| (mode, known)))
        {
            for (magic, address) in Magic::ALL.into_iter().zip(ADDRESSES) {
                let token = carried(CallToken::new(magic, mode, supervisor, address));
                assert_eq!((token.mode(), token.supervisor()), (mode, supervisor));
                assert_eq!((token.magic(), token.address()), (magic, address));
            }
        }
    }

    #[test]
    fn a_vmrun_token_keeps_kind_and_address() {
        let entries = AddressSize::ALL.map(|size| VmrunSite::Entry(size, 15));
        for site in entries.into_iter().chain([VmrunSite::Exit]) {
            for address in ADDRESSES {
                let token = carried(VmrunToken::new(site, address));
                assert_eq!((token.site(), token.address()), (site, address));
            }
        }
    }

    #[test]
    fn a_count_token_keeps_section_flow_and_canonical_address() {
        assert_eq!(CountToken::from(Token(0)).flow(), None);
        for flow in [Flow::On, Flow::Elsewhere, Flow::Handler] {
            for (pc, has_base) in [(0, false), (0x8010_0085, true), (!0 << 47 | 0x1234, false)] {
                let token = carried(CountToken::new(pc, has_base, flow, 64));
                assert_eq!((token.pc(), token.has_base()), (pc, has_base));
                assert_eq!((token.flow(), token.place()), (Some(flow), 64));
            }
        }
    }
}
