//! Dumps for tests. The feature `test-data` makes them available to other crates' tests.

#[cfg(test)]
mod random;

use pvio_x86::{Direction, Mode, Port, PortForm, Width};

#[cfg(test)]
pub(crate) use random::random;

use crate::{
    AccessCounts, AccessRow, Counts, FormRow, PortRow, Privilege, QemuRow, SCHEMA, SiteRow,
    Snapshot, Tables, VcpuRow,
};
#[cfg(test)]
use crate::{Call, CallAt, CallCallerRow, CallCounts, CallSiteRow, ChainEnd, FrameRow};

/// The row of a form that the guest did not use.
fn idle(form: PortForm) -> FormRow {
    FormRow {
        form,
        attempts: 0,
        executions: 0,
        accesses: 0,
        bytes: 0,
        faults: Some(0),
        exits: Some(0),
        unverified: 0,
    }
}

/// The row of an `out dx,al` in 64-bit code that executed `accesses` times.
pub(crate) fn site(pc: u64, symbol: Option<&str>, accesses: u64) -> SiteRow {
    SiteRow {
        pc: format!("{pc:#x}"),
        mode: Some(Mode::Bits64),
        bytes: "ee".into(),
        insn: "out dx,al".into(),
        privilege: Some(Privilege::Supervisor),
        form: PortForm::OutDxAl.into(),
        symbol: symbol.map(str::to_owned),
        named_by: symbol.map(|_| "test".to_owned()),
        source: None,
        file: None,
        offset: None,
        counts: Counts { executions: accesses, accesses, unverified: 0 },
    }
}

/// The row of `outb` at a return address in 64-bit code.
#[cfg(test)]
pub(crate) fn call_site(pc: u64, symbol: &str, counts: CallCounts) -> CallSiteRow {
    CallSiteRow {
        pc: format!("{pc:#x}"),
        at: CallAt::Return,
        mode: Some(Mode::Bits64),
        symbol: Some(symbol.to_owned()),
        named_by: Some("test".to_owned()),
        source: None,
        call: Call::Outb,
        counts,
    }
}

/// The row of a call chain that ends at the bottom of a stack.
#[cfg(test)]
pub(crate) fn call_chain(callers: &[&str], accesses: u64) -> CallCallerRow {
    let frame = |symbol: &&str| FrameRow {
        pc: "0x2000".to_owned(),
        symbol: Some((*symbol).to_owned()),
        interrupted: false,
    };
    let CallSiteRow { pc, at, mode, symbol, .. } =
        call_site(0x1000, "io_serial_out+0x16", CallCounts::default());
    let (frames, end) = (callers.iter().map(frame).collect(), ChainEnd::Bottom);
    CallCallerRow { pc, at, mode, symbol, frames, end, accesses }
}

/// A dump of a guest with one vCPU, which wrote `accesses` bytes to COM1.
pub fn snapshot(accesses: u64) -> Snapshot {
    let mut forms = PortForm::ALL.map(idle);
    forms[PortForm::OutDxAl.index()] = FormRow {
        attempts: accesses,
        executions: accesses,
        accesses,
        bytes: accesses,
        ..idle(PortForm::OutDxAl)
    };
    let port = PortRow {
        port: Port(0x3f8),
        name: Some("COM1".into()),
        dir: Direction::Out,
        size: Width::Byte.into(),
        served: Some(true),
        first: None,
        device: 0,
        qemu: accesses,
        hypercall: 0,
        unverified: 0,
    };
    let access = AccessRow {
        site: 0,
        port: Port(0x3f8),
        dir: Direction::Out,
        size: Width::Byte.into(),
        counts: AccessCounts { accesses, unverified: 0 },
    };
    let vcpu = VcpuRow {
        vcpu: 0,
        executions: accesses,
        accesses,
        hypercalls: 0,
        instructions: Default::default(),
    };
    Snapshot {
        schema: SCHEMA.into(),
        pvio: "1.2.3".into(),
        qemu: QemuRow { version: Some("11.1.3".into()), plugin_api: 7, target: "x86_64".into() },
        ended: "shutdown".into(),
        runs: 1,
        tables: Tables {
            vcpus: vec![vcpu],
            forms: forms.into(),
            ports: vec![port],
            sites: vec![site(0xffff_ffff_8100_0051, Some("io_serial_out+0x1"), accesses)],
            accesses: vec![access],
            ..Tables::default()
        },
        vcpus_omitted: None,
        symbol_files: Vec::new(),
        sites_dropped: 0,
        values_clock: None,
        values: Vec::new(),
        values_dropped: AccessCounts::default(),
        post_clock: None,
        post: Vec::new(),
        post_dropped: 0,
        windows: Vec::new(),
    }
}

/// A dump of 70,000 writes by two vCPUs, and of two attempts that faulted.
#[cfg(test)]
pub(crate) fn smp_snapshot() -> Snapshot {
    let mut dump = snapshot(70_000);
    let form = &mut dump.tables.forms[PortForm::OutDxAl.index()];
    form.attempts += 2;
    form.faults = Some(2);
    let first = VcpuRow { executions: 35_000, accesses: 35_000, ..dump.tables.vcpus[0].clone() };
    let second = VcpuRow { vcpu: 1, ..first.clone() };
    dump.tables.vcpus = vec![first, second];
    dump
}
