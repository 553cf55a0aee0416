//! The statistics' part of a trace: the definitions of its numbers, and the names at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pvio_stats::trace::{
    CallSiteDefinition, End, FileOffset, FrameName, Owner, PortIdentity, ProcessDefinition,
    SiteDefinition, SiteNames, StackDefinition, StackFrames,
};
use pvio_stats::{ChainEnd, Privilege};

use super::call_sites::CallSiteId;
use super::chain_rows::{boot_of, chain_end};
use super::chains::StackOwner;
use super::collect::{SnapshotContext, identity_of_port};
use super::counters::{VcpuCounters, port_of_row};
use super::sites::{FilePlace, SiteId};
use super::statistics::Statistics;
use crate::guest::{Caller, Frame, StackId};
use crate::processes;
use crate::stats::Snapshot;
use crate::symbols::Names;
use crate::untrusted_text::escape;

/// The chain of a stack of a vCPU. Callers have the boot of their kernel.
struct Chain {
    slot: u32,
    stack: u32,
    callers: Vec<(u32, Caller)>,
    end: ChainEnd,
}

impl Statistics {
    /// The vCPU's number among those that count.
    ///
    /// # Panics
    ///
    /// If the counters are not of these statistics.
    pub fn slot_of(&self, counters: &Arc<VcpuCounters>) -> u32 {
        let counted = self.lock();
        let slot = counted.all_counters.iter().position(|other| Arc::ptr_eq(other, counters));
        slot.expect("the counters are of these statistics") as u32
    }

    /// Returns the definition of a site's number.
    pub fn traced_site(&self, id: SiteId) -> SiteDefinition {
        let site = self.sites.get(id);
        let place = site.place.map(|FilePlace { file, offset }| FileOffset {
            path: escape(self.sites.path(file).as_bytes()),
            offset,
        });
        SiteDefinition {
            pc: site.key.pc,
            mode: site.key.mode,
            form: site.form,
            boot: site.boot,
            privilege: self.sites.privilege(id),
            bytes: site.key.bytes.to_vec(),
            place,
        }
    }

    /// Returns the definition of a call site's number.
    pub fn traced_call_site(&self, id: CallSiteId) -> CallSiteDefinition {
        let site = self.call_sites.get(id);
        let key = site.key;
        CallSiteDefinition { pc: key.pc, at: key.at, mode: key.mode, boot: site.boot }
    }

    /// Returns the definition of a process's number.
    ///
    /// # Panics
    ///
    /// If there is no such process.
    pub fn traced_process(&self, number: u32) -> ProcessDefinition {
        let table = self.processes().expect("who has a number is counted");
        let (boot, owner) = table.get(number as usize);
        let owner = match owner {
            processes::Owner::Process { pid, comm } => Owner::Process { pid, comm: comm.text() },
            processes::Owner::AddressSpace(table) => Owner::AddressSpace(table),
            processes::Owner::Unpaged => Owner::Unpaged,
        };
        ProcessDefinition { boot, owner }
    }

    /// The names of all sites, ports and callers, for the end of a trace whose last snapshot is given.
    pub(super) fn trace_end(
        &self,
        context: &SnapshotContext<'_>,
        names: &Names<'_>,
        snapshot: &Snapshot,
    ) -> End {
        let (frames, stacks) = self.traced_stacks(names);
        End {
            ended: snapshot.ended.clone(),
            vcpus: snapshot.vcpus.iter().map(|row| row.vcpu).collect(),
            vcpus_omitted: snapshot.vcpus_omitted.clone(),
            sites_dropped: snapshot.sites_dropped,
            symbol_files: snapshot.symbol_files.clone(),
            sites_of_both: self.sites_of_both(),
            sites: self.traced_names(names),
            call_sites: self.traced_call_names(names),
            ports: self.traced_ports(context),
            frames,
            stacks,
            streams: Vec::new(),
        }
    }

    fn sites_of_both(&self) -> Vec<u32> {
        let ids = self.sites.iter().map(|(id, _)| id);
        let both = ids.filter(|&id| self.sites.privilege(id) == Some(Privilege::Both));
        both.map(|SiteId(number)| number).collect()
    }

    fn traced_names(&self, names: &Names<'_>) -> Vec<SiteNames> {
        let sites = self.sites.iter().filter_map(|(id, _)| {
            let name = self.sites.name_in(id, names)?;
            let (symbol, named_by) = (name.symbol, name.named_by);
            Some(SiteNames { site: id.0, symbol, named_by, source: name.source })
        });
        sites.collect()
    }

    fn traced_call_names(&self, names: &Names<'_>) -> Vec<SiteNames> {
        let sites = self.call_sites.iter().filter_map(|(id, _)| {
            let name = self.call_sites.name_in(id, self.sites.boot(), names)?;
            let (symbol, named_by) = (name.symbol, name.named_by);
            Some(SiteNames { site: id.0, symbol, named_by, source: name.source })
        });
        sites.collect()
    }

    fn traced_ports(&self, context: &SnapshotContext<'_>) -> Vec<PortIdentity> {
        let all_counters = self.lock().all_counters.clone();
        let rows = all_counters.iter().flat_map(|counters| counters.ports.rows());
        let ports: BTreeSet<_> = rows.map(|(row, _)| port_of_row(row as usize).0).collect();
        let identity = |port| {
            let (name, served) = identity_of_port(context, port);
            PortIdentity { port, name: name.map(Into::into), served }
        };
        ports.into_iter().map(identity).collect()
    }

    /// The chains of all stacks, with the callers in their own order.
    fn traced_stacks(&self, names: &Names<'_>) -> (Vec<FrameName>, Vec<StackFrames>) {
        let all_counters = self.lock().all_counters.clone();
        let mut numbers: BTreeMap<(u32, Caller), usize> = BTreeMap::new();
        let mut chains: Vec<Chain> = Vec::new();
        for (slot, counters) in (0..).zip(&all_counters) {
            let Some(table) = counters.chains().map(|chains| chains.stacks()) else { continue };
            for id in table.ids() {
                let Some((callers, end)) = table.chain(id) else { continue };
                let owner = StackOwner::of_number(table.site(id));
                let boot = boot_of(owner, &self.sites, &self.call_sites);
                let callers: Vec<_> = callers.iter().map(|caller| (boot, caller.clone())).collect();
                numbers.extend(callers.iter().map(|caller| (caller.clone(), 0)));
                chains.push(Chain { slot, stack: id.0, callers, end: chain_end(end) });
            }
        }
        numbers.values_mut().zip(0..).for_each(|(number, index)| *number = index);
        let frames = numbers.keys().map(|(boot, caller)| {
            let now = if *boot == self.sites.boot() { names.caller(caller) } else { None };
            let symbol = self.frame_names.get(*boot, caller, now);
            let (pc, interrupted) = parts(caller.frame);
            FrameName { pc, symbol, interrupted }
        });
        let frames = frames.collect();
        let stacks = chains.into_iter().map(|Chain { slot: stream, stack, callers, end }| {
            let frames = callers.iter().map(|caller| numbers[caller]).collect();
            StackFrames { stream, stack, frames, end }
        });
        (frames, stacks.collect())
    }
}

impl VcpuCounters {
    /// QEMU's index of the vCPU.
    pub fn vcpu_index(&self) -> u32 {
        self.vcpu.0
    }

    /// Returns the definition of a stack's number, as far as it is known now.
    pub fn traced_stack(&self, stack: u32) -> StackDefinition {
        let stacks = self.chains().map(|chains| chains.stacks());
        let chain = stacks.as_ref().and_then(|stacks| stacks.chain(StackId(stack)));
        let (callers, end) = chain.unzip();
        let callers = callers.unwrap_or_default();
        StackDefinition {
            frames: callers.iter().map(|caller| parts(caller.frame)).collect(),
            end: end.map(chain_end),
        }
    }
}

/// The address of a frame, and whether it was interrupted.
fn parts(frame: Frame) -> (u64, bool) {
    match frame {
        Frame::Return(pc) => (pc, false),
        Frame::Interrupted(pc) => (pc, true),
    }
}
