//! The definitions of sites, call sites, stacks and processes. Each is in a chunk before the first record that uses it.

use super::{Define, Encoder, Local, SiteState};
use crate::trace::event::{
    CallCode, CallSiteDefinition, Owner, ProcessDefinition, SiteDefinition, StackDefinition,
};
use crate::trace::record::kind;
use crate::{CallAt, ChainEnd};

impl Encoder {
    /// The number of a site in this chunk.
    #[inline]
    pub(super) fn site(&mut self, site: u32, define: &impl Define) -> u32 {
        match self.sites.get(site as usize) {
            Some(state) if state.local.chunk == self.chunk => state.local.number,
            _ => self.define_site(site, &define.site(site)),
        }
    }

    #[cold]
    fn define_site(&mut self, site: u32, definition: &SiteDefinition) -> u32 {
        let SiteDefinition { pc, mode, form, boot, privilege, bytes, place } = definition;
        self.bytes.byte(kind::SITE);
        self.bytes.number(site.into());
        self.bytes.number(*pc);
        self.bytes.number((*boot).into());
        self.bytes.byte(mode.map_or(0, |mode| 1 + mode as u8));
        self.bytes.byte(privilege.map_or(0, |privilege| 1 + privilege as u8));
        self.bytes.byte(form.index() as u8);
        self.bytes.byte(bytes.len() as u8);
        self.bytes.extend(bytes);
        match place {
            None => self.bytes.byte(0),
            Some(place) => {
                self.bytes.number(1 + place.path.len() as u64);
                self.bytes.number(place.offset);
            }
        }
        if let Some(place) = place {
            self.bytes.extend(place.path.as_bytes());
        }
        let local = self.new_number(0);
        if self.sites.len() <= site as usize {
            self.sites.resize(site as usize + 1, SiteState::default());
        }
        self.sites[site as usize] = SiteState { local, ..SiteState::default() };
        local.number
    }

    /// The number of a call site in this chunk; 0 without a row.
    #[inline]
    pub(super) fn call_site(&mut self, code: CallCode, define: &impl Define) -> u32 {
        let CallCode::Site(site) = code else { return 0 };
        match self.call_sites.get(site as usize) {
            Some(local) if local.chunk == self.chunk => local.number,
            _ => self.define_call_site(site, &define.call_site(site)),
        }
    }

    #[cold]
    fn define_call_site(&mut self, site: u32, definition: &CallSiteDefinition) -> u32 {
        let &CallSiteDefinition { pc, at, mode, boot } = definition;
        self.bytes.byte(kind::CALL_SITE);
        self.bytes.number(site.into());
        self.bytes.number(pc);
        self.bytes.number(boot.into());
        self.bytes.byte(1 + mode as u8);
        self.bytes.byte(match at {
            CallAt::Instruction => 0,
            CallAt::Return => 1,
        });
        let local = self.new_number(3);
        set(&mut self.call_sites, site, local);
        local.number
    }

    /// The number of a stack in this chunk.
    #[inline]
    pub(super) fn stack(&mut self, stack: u32, define: &impl Define) -> u32 {
        match self.stacks.get(stack as usize) {
            Some(local) if local.chunk == self.chunk => local.number,
            _ => self.define_stack(stack, &define.stack(stack)),
        }
    }

    #[cold]
    fn define_stack(&mut self, stack: u32, definition: &StackDefinition) -> u32 {
        self.bytes.byte(kind::STACK);
        self.bytes.number(stack.into());
        self.bytes.byte(definition.end.map_or(0, |end| 1 + end_number(end)));
        self.bytes.number(definition.frames.len() as u64);
        let mut last = 0;
        for &(pc, interrupted) in &definition.frames {
            self.bytes.byte(interrupted.into());
            self.bytes.signed((pc.wrapping_sub(last)) as i64);
            last = pc;
        }
        let local = self.new_number(1);
        set(&mut self.stacks, stack, local);
        local.number
    }

    /// The number of a process in this chunk.
    #[inline]
    pub(super) fn process_number(&mut self, process: u32, define: &impl Define) -> u32 {
        match self.processes.get(process as usize) {
            Some(local) if local.chunk == self.chunk => local.number,
            _ => self.define_process(process, &define.process(process)),
        }
    }

    #[cold]
    fn define_process(&mut self, process: u32, definition: &ProcessDefinition) -> u32 {
        self.bytes.byte(kind::PROCESS);
        self.bytes.number(process.into());
        self.bytes.number(definition.boot.into());
        match &definition.owner {
            Owner::Unpaged => self.bytes.byte(0),
            Owner::AddressSpace(table) => {
                self.bytes.byte(1);
                self.bytes.number(*table);
            }
            Owner::Process { pid, comm } => {
                self.bytes.byte(2);
                self.bytes.number((*pid).into());
                self.bytes.number(comm.len() as u64);
            }
        }
        if let Owner::Process { comm, .. } = &definition.owner {
            self.bytes.extend(comm.as_bytes());
        }
        let local = self.new_number(2);
        set(&mut self.processes, process, local);
        local.number
    }

    fn new_number(&mut self, table: usize) -> Local {
        self.defined[table] += 1;
        Local { chunk: self.chunk, number: self.defined[table] }
    }
}

fn set(table: &mut Vec<Local>, index: u32, local: Local) {
    if table.len() <= index as usize {
        table.resize(index as usize + 1, Local::default());
    }
    table[index as usize] = local;
}

/// The number of the end of a chain.
fn end_number(end: ChainEnd) -> u8 {
    match end {
        ChainEnd::User => 0,
        ChainEnd::Bottom => 1,
        ChainEnd::Unknown => 2,
        ChainEnd::Depth => 3,
        ChainEnd::Dropped => 4,
    }
}
