//! A dump for unit tests.

use pvio_x86::{Direction, Mode, Port, PortForm, Width};

use crate::stats::{Counts, FormRow, PortRow, QemuRow, SCHEMA, SiteRow, Snapshot, Tables, VcpuRow};

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

/// A dump of a guest that wrote to COM1 this many times.
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
        size: Width::Byte,
        served: Some(true),
        device: 0,
        qemu: accesses,
        hypercall: 0,
        unverified: 0,
    };
    let site = SiteRow {
        pc: "0xffffffff81000051".into(),
        mode: Some(Mode::Bits64),
        bytes: "ee".into(),
        insn: "out dx,al".into(),
        form: PortForm::OutDxAl,
        symbol: Some("io_serial_out+0x1".into()),
        counts: Counts { executions: accesses, accesses, unverified: 0 },
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
            sites: vec![site],
            ..Tables::default()
        },
        vcpus_omitted: None,
        symbol_files: Vec::new(),
        sites_dropped: 0,
        windows: Vec::new(),
    }
}
