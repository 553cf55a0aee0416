//! Decodes the contents of chunks. Wrong bytes are damage, never a panic.

use std::collections::HashMap;

use integer_encoding::VarInt;
use pvio_x86::{AccessSize, InsnForm, Port};

use super::encode::{end_of_number, mode_of_number, outcome_of_number};
use super::event::{
    CallCode, CallEvent, CallSiteDefinition, Code, Event, FileOffset, InsnEvent, Owner, Process,
    ProcessDefinition, SiteDefinition, StackDefinition, Stage, What, WindowEvent,
};
use super::record::{COMPLETES, KIND, MORE, PORT, VALUE, kind, len_of_value, more};
use crate::{Call, CallAt, Privilege};

/// The damage in a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damage(pub &'static str);

/// The definitions of the numbers in events, as far as they were read.
#[derive(Debug, Default)]
pub struct Definitions {
    sites: HashMap<u32, SiteDefinition>,
    call_sites: HashMap<u32, CallSiteDefinition>,
    stacks: HashMap<(u32, u32), StackDefinition>,
    processes: HashMap<u32, ProcessDefinition>,
}

impl Definitions {
    /// Returns the definition of a site's number.
    pub fn site(&self, site: u32) -> Option<&SiteDefinition> {
        self.sites.get(&site)
    }

    /// Returns the definition of a call site's number.
    pub fn call_site(&self, site: u32) -> Option<&CallSiteDefinition> {
        self.call_sites.get(&site)
    }

    /// Returns the definition of a stack's number in a vCPU's stream.
    pub fn stack(&self, stream: u32, stack: u32) -> Option<&StackDefinition> {
        self.stacks.get(&(stream, stack))
    }

    /// Returns the definition of a process's number.
    pub fn process(&self, process: u32) -> Option<&ProcessDefinition> {
        self.processes.get(&process)
    }
}

/// The fields of a site's last record.
#[derive(Clone, Copy, Debug)]
struct SiteState {
    site: u32,
    form: InsnForm,
    port: Option<Port>,
    value: u32,
    stack: Option<u32>,
}

impl SiteState {
    fn new(site: u32, form: InsnForm) -> SiteState {
        SiteState { site, form, port: None, value: 0, stack: None }
    }
}

/// Reads the events of one chunk.
#[derive(Debug)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
    at: usize,
    stream: u32,
    time: u64,
    clock: Option<i64>,
    /// By their numbers in the chunk; the first is that of instructions without a site.
    sites: Vec<SiteState>,
    call_sites: Vec<u32>,
    stacks: Vec<u32>,
    processes: Vec<u32>,
    process: Option<Process>,
    call: CallState,
}

/// The fields of the last record of a call.
#[derive(Clone, Copy, Debug, Default)]
struct CallState {
    port: Option<Port>,
    value: u32,
    code: Option<CallCode>,
    stack: Option<u32>,
}

/// The end of a chunk within a record.
const CUT: Damage = Damage("a chunk ends within an event");
/// A call site that the chunk does not define.
const NO_CALL_SITE: Damage = Damage("a call site is not defined");

impl Decoder {
    /// Creates a decoder for the contents of a chunk.
    pub fn new(stream: u32, start: u64, bytes: Vec<u8>) -> Decoder {
        Decoder {
            bytes,
            at: 0,
            stream,
            time: start,
            clock: None,
            sites: vec![SiteState::new(0, InsnForm::from_index(0))],
            call_sites: Vec::new(),
            stacks: Vec::new(),
            processes: Vec::new(),
            process: None,
            call: CallState::default(),
        }
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Damage> {
        let byte = *self.bytes.get(self.at).ok_or(CUT)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn number(&mut self) -> Result<u64, Damage> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(byte.into())
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> Result<u64, Damage> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (number, len) = u64::decode_var(rest).ok_or(Damage("a number is too long"))?;
        self.at += len;
        Ok(number)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Damage> {
        self.number()?.try_into().map_err(|_| Damage("a number is too large"))
    }

    fn signed(&mut self) -> Result<i64, Damage> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (number, len) = i64::decode_var(rest).ok_or(Damage("a number is too long"))?;
        self.at += len;
        Ok(number)
    }

    #[inline]
    fn value(&mut self, size: AccessSize) -> Result<u32, Damage> {
        let len = len_of_value(size);
        let bytes = self.bytes.get(self.at..self.at + len).ok_or(CUT)?;
        let mut value = [0; 4];
        value[..len].copy_from_slice(bytes);
        self.at += len;
        Ok(u32::from_le_bytes(value))
    }

    /// The range of the next bytes.
    fn take(&mut self, len: u64) -> Result<std::ops::Range<usize>, Damage> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len)).ok_or(CUT)?;
        if end > self.bytes.len() {
            return Err(CUT);
        }
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn text(&mut self, len: u64) -> Result<String, Damage> {
        let range = self.take(len)?;
        let text = str::from_utf8(&self.bytes[range]);
        text.map(str::to_owned).map_err(|_| Damage("a text is not UTF-8"))
    }

    /// The next event; `None` at the end of the chunk. Definitions before it are entered.
    pub fn next(&mut self, definitions: &mut Definitions) -> Result<Option<Event>, Damage> {
        loop {
            if self.at >= self.bytes.len() {
                return Ok(None);
            }
            let first = self.byte()?;
            match first & KIND {
                kind::CLOCK => self.clock = Some(self.signed()?),
                kind::SITE => self.site(definitions)?,
                kind::STACK => self.stack(definitions)?,
                kind::PROCESS => self.process(definitions)?,
                kind::CALL_SITE => self.call_site(definitions)?,
                kind @ (kind::WINDOW_BEGAN..=kind::FILTER | kind::OFF) => {
                    self.elapse()?;
                    let len = self.number()?;
                    let range = self.take(len)?;
                    let (host, guest) = self.times();
                    let text = str::from_utf8(&self.bytes[range])
                        .map_err(|_| Damage("a text is not UTF-8"))?;
                    let text: Box<str> = text.into();
                    let what = match kind {
                        kind::WINDOW_BEGAN => {
                            What::Window(WindowEvent::Began(text), self.window_call()?)
                        }
                        kind::WINDOW_ENDED => {
                            What::Window(WindowEvent::Ended(text), self.window_call()?)
                        }
                        kind::RESET => What::Window(WindowEvent::Reset, self.window_call()?),
                        kind::OFF => What::Off,
                        _ => What::Filter(text),
                    };
                    return Ok(Some(Event { host, guest, what }));
                }
                kind::IRQ => {
                    self.elapse()?;
                    let byte = self.byte()?;
                    let (host, guest) = self.times();
                    let what = What::Irq { line: byte >> 1, level: byte & 1 != 0 };
                    return Ok(Some(Event { host, guest, what }));
                }
                kind => {
                    let what = match kind {
                        kind::CALL_ACCESS => What::Call(self.call_access(first)?),
                        kind::CALL_ENDED => What::Call(self.call_ended(first)?),
                        _ => What::Insn(self.insn(first)?),
                    };
                    let (host, guest) = self.times();
                    return Ok(Some(Event { host, guest, what }));
                }
            }
        }
    }

    #[inline]
    fn elapse(&mut self) -> Result<(), Damage> {
        let since = self.number()?;
        self.time = self.time.saturating_add(since);
        Ok(())
    }

    #[inline]
    fn times(&self) -> (u64, Option<u64>) {
        (self.time, self.clock.map(|ahead| self.time.saturating_add_signed(ahead)))
    }

    #[inline]
    fn insn(&mut self, first: u8) -> Result<InsnEvent, Damage> {
        let flags = if first & MORE != 0 { self.byte()? } else { 0 };
        let stage = Stage::of_kind(first & KIND, flags).ok_or(Damage("an event is unknown"))?;
        self.elapse()?;
        let local = self.number()? as usize;
        let mut code = None;
        if local == 0 {
            self.sites[0].form = form(self.byte()?)?;
            code = Some(Code::Dropped(self.number()?));
        }
        let mut state = *self.sites.get(local).ok_or(Damage("a site is not defined"))?;
        if first & PORT != 0 {
            state.port = Some(Port(self.small()?));
        }
        if first & VALUE != 0 {
            state.value = self.value(state.form.size())?;
        }
        if flags & more::STACK != 0 {
            state.stack = Some(self.stack_number()?);
        }
        if flags & more::NO_STACK != 0 {
            state.stack = None;
        }
        if flags & more::PROCESS != 0 {
            self.process = self.process_use()?;
        }
        self.sites[local] = state;
        let is_bare = stage.is_bare();
        let has_port = !is_bare && flags & more::NO_PORT == 0;
        let has_value = !is_bare && flags & more::NO_VALUE == 0;
        Ok(InsnEvent {
            stage,
            code: code.unwrap_or(Code::Site(state.site)),
            form: state.form,
            port: state.port.filter(|_| has_port),
            value: has_value.then_some(state.value),
            stack: state.stack.filter(|_| !is_bare),
            process: self.process.filter(|_| !is_bare),
        })
    }

    fn process_use(&mut self) -> Result<Option<Process>, Damage> {
        let Some(word) = self.number()?.checked_sub(1) else { return Ok(None) };
        let number = match usize::try_from(word >> 1).unwrap_or(usize::MAX).checked_sub(1) {
            None => None,
            Some(index) => {
                let number = self.processes.get(index);
                Some(*number.ok_or(Damage("a process is not defined"))?)
            }
        };
        Ok(Some(Process { number, is_user: word & 1 != 0 }))
    }

    fn call_access(&mut self, first: u8) -> Result<CallEvent, Damage> {
        let flags = if first & MORE != 0 { self.byte()? } else { 0 };
        self.elapse()?;
        let word = self.byte()?;
        let call = call(word & !COMPLETES)?;
        let (_, width) = call.port_io().ok_or(Damage("a call makes no accesses"))?;
        if first & PORT != 0 {
            self.call.port = Some(Port(self.small()?));
        }
        if first & VALUE != 0 {
            self.call.value = self.value(width.into())?;
        }
        if flags & more::CALL_SITE != 0 {
            self.call.code = Some(self.call_code()?);
        }
        if flags & more::STACK != 0 {
            self.call.stack = Some(self.stack_number()?);
        }
        if flags & more::NO_STACK != 0 {
            self.call.stack = None;
        }
        if flags & more::PROCESS != 0 {
            self.process = self.process_use()?;
        }
        let CallState { port, value, code, stack } = self.call;
        let port = port.ok_or(Damage("a call has no port"))?;
        let code = code.ok_or(NO_CALL_SITE)?;
        let (process, completes) = (self.process, word & COMPLETES != 0);
        Ok(CallEvent::Access { call, port, value, code, stack, process, completes })
    }

    fn call_ended(&mut self, first: u8) -> Result<CallEvent, Damage> {
        let flags = if first & MORE != 0 { self.byte()? } else { 0 };
        self.elapse()?;
        let call = call(self.byte()?)?;
        let outcome = outcome_of_number(self.byte()?).ok_or(Damage("an outcome is unknown"))?;
        let (count, bytes) = (self.number()?, self.number()?);
        if flags & more::CALL_SITE != 0 {
            self.call.code = Some(self.call_code()?);
        }
        let code = self.call.code.ok_or(NO_CALL_SITE)?;
        Ok(CallEvent::Ended { call, outcome, count, bytes, code })
    }

    fn call_code(&mut self) -> Result<CallCode, Damage> {
        match self.small::<usize>()?.checked_sub(1) {
            None => Ok(CallCode::Dropped(self.number()?)),
            Some(index) => {
                self.call_sites.get(index).map(|&site| CallCode::Site(site)).ok_or(NO_CALL_SITE)
            }
        }
    }

    /// The code of the hypercall that changed a window.
    fn window_call(&mut self) -> Result<Option<CallCode>, Damage> {
        match self.byte()? {
            0 => Ok(None),
            _ => self.call_code().map(Some),
        }
    }

    fn stack_number(&mut self) -> Result<u32, Damage> {
        let number: usize = self.small()?;
        let stack = number.checked_sub(1).and_then(|index| self.stacks.get(index));
        stack.copied().ok_or(Damage("a stack is not defined"))
    }

    fn call_site(&mut self, definitions: &mut Definitions) -> Result<(), Damage> {
        let (site, pc, boot) = (self.small()?, self.number()?, self.small()?);
        let mode = mode_of_number(self.byte()?).flatten().ok_or(Damage("a mode is unknown"))?;
        let at = match self.byte()? {
            0 => CallAt::Instruction,
            1 => CallAt::Return,
            _ => return Err(Damage("a call site is of an unknown kind")),
        };
        definitions.call_sites.insert(site, CallSiteDefinition { pc, at, mode, boot });
        self.call_sites.push(site);
        Ok(())
    }

    fn site(&mut self, definitions: &mut Definitions) -> Result<(), Damage> {
        let (site, pc, boot) = (self.small()?, self.number()?, self.small()?);
        let mode = mode_of_number(self.byte()?).ok_or(Damage("a mode is unknown"))?;
        let privilege = privilege(self.byte()?)?;
        let form = form(self.byte()?)?;
        let len = self.byte()?;
        let range = self.take(len.into())?;
        let bytes = self.bytes[range].to_vec();
        let place = match self.number()?.checked_sub(1) {
            None => None,
            Some(len) => {
                let offset = self.number()?;
                Some(FileOffset { path: self.text(len)?, offset })
            }
        };
        let definition = SiteDefinition { pc, mode, form, boot, privilege, bytes, place };
        definitions.sites.insert(site, definition);
        self.sites.push(SiteState::new(site, form));
        Ok(())
    }

    fn stack(&mut self, definitions: &mut Definitions) -> Result<(), Damage> {
        let stack = self.small()?;
        let end = match self.byte()?.checked_sub(1) {
            None => None,
            Some(number) => Some(end_of_number(number).ok_or(Damage("a chain's end is unknown"))?),
        };
        let count = self.number()?;
        let mut frames = Vec::new();
        let mut last = 0u64;
        for _ in 0..count {
            let interrupted = self.byte()? != 0;
            last = last.wrapping_add(self.signed()? as u64);
            frames.push((last, interrupted));
        }
        definitions.stacks.insert((self.stream, stack), StackDefinition { frames, end });
        self.stacks.push(stack);
        Ok(())
    }

    fn process(&mut self, definitions: &mut Definitions) -> Result<(), Damage> {
        let (process, boot) = (self.small()?, self.small()?);
        let owner = match self.byte()? {
            0 => Owner::Unpaged,
            1 => Owner::AddressSpace(self.number()?),
            2 => {
                let (pid, len) = (self.small()?, self.number()?);
                Owner::Process { pid, comm: self.text(len)? }
            }
            _ => return Err(Damage("a process is of an unknown kind")),
        };
        definitions.processes.insert(process, ProcessDefinition { boot, owner });
        self.processes.push(process);
        Ok(())
    }
}

fn privilege(number: u8) -> Result<Option<Privilege>, Damage> {
    Ok(match number {
        0 => None,
        1 => Some(Privilege::Supervisor),
        2 => Some(Privilege::User),
        3 => Some(Privilege::Both),
        _ => return Err(Damage("a privilege is unknown")),
    })
}

fn form(index: u8) -> Result<InsnForm, Damage> {
    let index = Some(usize::from(index)).filter(|&index| index < InsnForm::COUNT);
    index.map(InsnForm::from_index).ok_or(Damage("a form is unknown"))
}

fn call(index: u8) -> Result<Call, Damage> {
    Call::ALL.get(usize::from(index)).copied().ok_or(Damage("a call is unknown"))
}
