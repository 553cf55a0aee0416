use std::path::Path;
use std::sync::Arc;

use super::queue::BATCH;
use super::*;
use crate::access_filter::AccessFilter;
use crate::stats::Sites;
use crate::symbols::{LiveNames, Symbols};
use crate::x86::{InsnForm, Port, PortForm};

fn open(path: &Path, filters: &[&str]) -> Arc<AccessLog> {
    let file = OutputFile::open(path).unwrap();
    let filter = AccessFilter::parse(filters.iter().copied()).unwrap();
    let filter = LiveFilter::new(filter, None);
    let names = LiveNames::new(Arc::new(Symbols::default()));
    let names = CodeNames::new(Arc::new(Sites::default()), names, None);
    Arc::new(AccessLog::new(path.to_owned(), file, filter, names, None))
}

fn log(filters: &[&str]) -> (tempfile::TempDir, Arc<AccessLog>) {
    let directory = tempfile::tempdir().unwrap();
    let log = open(&directory.path().join("log"), filters);
    (directory, log)
}

fn code(pc: u64) -> Code {
    Code { pc, kind: CodeKind::Dropped }
}

/// The lines without their times.
fn lines(directory: &tempfile::TempDir) -> Vec<String> {
    let text = std::fs::read_to_string(directory.path().join("log")).unwrap();
    let words = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    text.lines().skip(1).map(words).collect()
}

#[test]
fn reads_get_their_values_and_faulted_accesses_are_dropped() {
    let (directory, log) = log(&[]);
    let vcpu = VcpuLog::new(Arc::clone(&log), 3);
    vcpu.start(code(0x1000), PortForm::InAxDx.into(), Port(0x60), None, false);
    vcpu.retire(|| 0xffff_1234);
    vcpu.start(code(0x1001), PortForm::OutDxAl.into(), Port(0x80), Some(0xabcd_ef12), false);
    vcpu.discard();
    vcpu.start(code(0x1002), PortForm::OutDxAl.into(), Port(0x80), Some(0x34), true);
    vcpu.access(code(0x1003), InsnForm::from(PortForm::RepInsd).into(), Port(0x1f0), 0xdead_beef);
    vcpu.start(code(0x1004), PortForm::InAlDx.into(), Port(0x64), None, false);
    log.finish().unwrap();
    assert_eq!(
        lines(&directory),
        [
            "3 0x1000 in 0x0060 2 0x1234 ? -",
            "3 0x1003 in 0x01f0 4 0xdeadbeef ? -",
            "3 0x1002 out 0x0080 1 0x34? ? -",
            "3 0x1004 in 0x0064 1 - ? -",
        ]
    );
}

#[test]
fn records_of_several_vcpus_all_arrive_in_order() {
    let (directory, log) = log(&[]);
    let count = 10 * BATCH + 17;
    std::thread::scope(|scope| {
        for vcpu in 0..4 {
            let log = &log;
            scope.spawn(move || {
                let vcpu = VcpuLog::new(Arc::clone(log), vcpu);
                for value in 0..count as u32 {
                    vcpu.access(code(0), InsnForm::from(PortForm::Outsd).into(), Port(0), value);
                }
            });
        }
    });
    log.finish().unwrap();
    let lines = lines(&directory);
    assert_eq!(lines.len(), 4 * count);
    for vcpu in 0..4 {
        let own = lines.iter().filter(|line| line.starts_with(&vcpu.to_string()));
        assert!(own.enumerate().all(|(n, line)| line.ends_with(&format!(" 4 {n:#010x} ? -"))));
    }
}

#[test]
fn a_full_disk_is_reported_again_at_the_end() {
    let log = open(Path::new("/dev/full"), &[]);
    let vcpu = VcpuLog::new(Arc::clone(&log), 0);
    for value in 0..20 * BATCH as u32 {
        vcpu.access(code(0), InsnForm::from(PortForm::Outsb).into(), Port(0), value);
    }
    assert_eq!(log.finish().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
}

#[test]
fn a_line_is_in_the_file_soon() {
    let (directory, log) = log(&[]);
    let vcpu = VcpuLog::new(Arc::clone(&log), 0);
    for value in 0..3 {
        vcpu.access(code(0), InsnForm::from(PortForm::Outsb).into(), Port(0), value);
        let begin = Instant::now();
        while lines(&directory).len() <= value as usize {
            assert!(begin.elapsed() < Duration::from_secs(20), "line {value} does not appear");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    log.finish().unwrap();
    assert_eq!(lines(&directory).len(), 3);
}

#[test]
fn the_value_decides_when_it_is_known() {
    let (directory, log) = log(&["value=5", "-pc=0x2000"]);
    let vcpu = VcpuLog::new(Arc::clone(&log), 0);
    for (pc, eax) in [(0x1000, 4), (0x1000, 5), (0x2000, 5)] {
        let is_logged = vcpu.start(code(pc), PortForm::InAlDx.into(), Port(0x60), None, false);
        assert_eq!(is_logged, pc == 0x1000);
        vcpu.retire(|| eax);
    }
    vcpu.access(code(0x1001), InsnForm::from(PortForm::Outsb).into(), Port(1), 5);
    vcpu.access(code(0x1002), InsnForm::from(PortForm::Outsb).into(), Port(1), 6);
    vcpu.start(code(0x1003), PortForm::InAlDx.into(), Port(0x60), None, false);
    log.finish().unwrap();
    assert_eq!(
        lines(&directory),
        ["0 0x1000 in 0x0060 1 0x05 ? -", "0 0x1001 out 0x0001 1 0x05 ? -"]
    );
}
