//! A dump for the tests: a Linux guest with firmware, a program, strings and a hypercall.

use pvio_x86::{Direction, Mode, Port, PortForm};

use crate::stats::test_data::snapshot;
use crate::stats::{
    AccessCounts, AccessRow, Call, CallAccessRow, CallAt, CallCounts, CallSiteRow, CallerRow,
    ChainEnd, Counts, FrameRow, PortRow, Privilege, SiteRow, Snapshot,
};

struct Row {
    pc: &'static str,
    mode: Mode,
    form: PortForm,
    symbol: Option<&'static str>,
    named_by: Option<&'static str>,
    port: u16,
    name: Option<&'static str>,
    accesses: u64,
}

const ROWS: [Row; 7] = [
    Row {
        pc: "0xffffffff81000010",
        mode: Mode::Bits64,
        form: PortForm::InAlDx,
        symbol: Some("pit_read+0x1"),
        named_by: Some("guest kernel"),
        port: 0x40,
        name: Some("PIT"),
        accesses: 2400,
    },
    Row {
        pc: "0xffffffff81000020",
        mode: Mode::Bits64,
        form: PortForm::OutDxAl,
        symbol: Some("io_serial_out+0x16"),
        named_by: Some("guest kernel"),
        port: 0x3f8,
        name: Some("COM1"),
        accesses: 1000,
    },
    Row {
        pc: "0x555555555139",
        mode: Mode::Bits64,
        form: PortForm::InAlDx,
        symbol: None,
        named_by: None,
        port: 0x300,
        name: None,
        accesses: 500,
    },
    Row {
        pc: "0xffffffff81000030",
        mode: Mode::Bits64,
        form: PortForm::RepInsw,
        symbol: Some("ata_sff_data_xfer+0x5c [libata]"),
        named_by: Some("guest kernel"),
        port: 0x1f0,
        name: Some("IDE 1"),
        accesses: 256,
    },
    Row {
        pc: "0xffffffff81000040",
        mode: Mode::Bits64,
        form: PortForm::OutImmAl,
        symbol: Some("native_io_delay+0x1"),
        named_by: Some("guest kernel"),
        port: 0x80,
        name: Some("POST code"),
        accesses: 100,
    },
    Row {
        pc: "0xf1234",
        mode: Mode::Bits32,
        form: PortForm::OutDxAl,
        symbol: None,
        named_by: None,
        port: 0x402,
        name: Some("SeaBIOS debug"),
        accesses: 600,
    },
    Row {
        pc: "0x7e100010",
        mode: Mode::Bits32,
        form: PortForm::OutDxAl,
        symbol: None,
        named_by: None,
        port: 0x20,
        name: Some("PIC 1"),
        accesses: 10,
    },
];

/// The dump.
pub fn linux() -> Snapshot {
    let mut dump = snapshot(1);
    let (site, port) = (dump.tables.sites[0].clone(), dump.tables.ports[0].clone());
    let tables = &mut dump.tables;
    tables.sites = ROWS.iter().map(|row| site_row(row, &site)).collect();
    tables.accesses = (0..).zip(&ROWS).map(|(site, row)| access_row(site, row)).collect();
    tables.ports = ROWS.iter().map(|row| port_row(row, &port)).collect();
    tables.callers =
        vec![chain(&tables.sites[0], &["setup_timers+0x2", "start_kernel+0x90"], 2400)];
    tables.call_sites = vec![CallSiteRow {
        pc: "0xffffffff81000060".to_owned(),
        at: CallAt::Return,
        mode: Some(Mode::Bits64),
        symbol: Some("early_serial_puts+0x20".to_owned()),
        named_by: Some("guest kernel".to_owned()),
        source: Some("kernel/early.c:45".to_owned()),
        call: Call::Outsb,
        counts: CallCounts { calls: 1, accesses: 5, bytes: 5 },
    }];
    tables.call_accesses = vec![CallAccessRow {
        site: 0,
        port: Port(0x3f8),
        dir: Direction::Out,
        size: PortForm::OutDxAl.width().into(),
        accesses: 5,
    }];
    dump
}

fn site_row(row: &Row, site: &SiteRow) -> SiteRow {
    let is_user = row.pc.starts_with("0x5");
    SiteRow {
        pc: row.pc.to_owned(),
        mode: Some(row.mode),
        insn: row.form.name().to_owned(),
        form: row.form.into(),
        privilege: Some(if is_user { Privilege::User } else { Privilege::Supervisor }),
        symbol: row.symbol.map(str::to_owned),
        named_by: row.named_by.map(str::to_owned),
        file: is_user.then(|| "/bin/dongle".to_owned()),
        offset: is_user.then(|| "0x1139".to_owned()),
        counts: Counts { executions: row.accesses, accesses: row.accesses, unverified: 0 },
        ..site.clone()
    }
}

fn access_row(site: usize, row: &Row) -> AccessRow {
    AccessRow {
        site,
        port: Port(row.port),
        dir: row.form.direction(),
        size: row.form.width().into(),
        counts: AccessCounts { accesses: row.accesses, unverified: 0 },
    }
}

fn port_row(row: &Row, port: &PortRow) -> PortRow {
    PortRow {
        port: Port(row.port),
        name: row.name.map(Into::into),
        dir: row.form.direction(),
        size: row.form.width().into(),
        qemu: row.accesses,
        ..port.clone()
    }
}

/// The only call chain of a site.
fn chain(site: &SiteRow, callers: &[&str], accesses: u64) -> CallerRow {
    let frame = |symbol: &&str| FrameRow {
        pc: "0xffffffff82000000".to_owned(),
        symbol: Some((*symbol).to_owned()),
        interrupted: false,
    };
    CallerRow {
        pc: site.pc.clone(),
        mode: site.mode,
        bytes: site.bytes.clone(),
        symbol: site.symbol.clone(),
        frames: callers.iter().map(frame).collect(),
        end: ChainEnd::Bottom,
        accesses,
    }
}
