//! The experiment of `tests/guests/experiment` on a small scale: every operation by every mechanism.

use std::ffi::{CString, c_int, c_void};
use std::process::Command;

use iced_x86::{Code, Instruction, OpKind, Register};
use pvio::stats::Snapshot;
use pvio::x86::MAX_INSN_LEN;
use pvio_cli::experiment::metrics::{AllMetrics, Part};
use pvio_cli::experiment::report::{Plan, Report, measure};
use pvio_cli::experiment::{Cell, Mechanism};
use pvio_cli::paths;
use pvio_tests::Host;

fn report(workload: Option<&Snapshot>) -> Report {
    let qemu = Host::NEWEST.program("qemu-system-x86_64");
    let workload = workload.map(|dump| ("A guest".to_owned(), dump));
    measure(&qemu, Plan::COUNTS, workload, |_| ()).unwrap()
}

fn monitor(all: &AllMetrics, mechanism: Mechanism, cell: Cell) -> u64 {
    all.get(mechanism, cell).unwrap_or_else(|| panic!("{cell} by {mechanism}")).monitor
}

/// [`measure`] fails unless every mechanism did the same and two runs count the same.
#[test]
fn every_way_does_the_same_at_its_own_price() {
    use Mechanism::{
        Int, Native, Pvio, PvioMailbox, SvmIoio, SvmVmmcall, Sysenter, Trap, TrapChecked,
    };

    let dump = dump_of_the_forms();
    let report = report(Some(&dump));
    let all = &report.metrics;
    let few = Cell::all().filter(|&cell| Sysenter.has(cell)).count();
    let one = Cell::all().filter(|&cell| PvioMailbox.has(cell)).count();
    assert_eq!((one, all.0.len()), (12, 5 * 36 + 12 + 3 * few));
    assert_eq!(report.accesses_compared, 24 * 16 + 12 * 512 * 2);

    for cell in Cell::all() {
        let total = |mechanism| all.get(mechanism, cell).unwrap().total;
        let native = if cell.is_one_instruction() { 1 } else { 3 * u64::from(cell.elements) };
        assert_eq!(total(Native), native, "{cell}");
        assert_eq!((monitor(all, Native, cell), monitor(all, Pvio, cell)), (0, 0), "{cell}");
        let order = [Native, Int, Trap, TrapChecked].map(|mechanism| monitor(all, mechanism, cell));
        assert!(order.is_sorted_by(|a, b| a < b), "{cell}: {order:?}");
        let order = [Int, Trap, TrapChecked].map(total);
        assert!(order.is_sorted_by(|a, b| a < b), "{cell}: {order:?}");
        // The device's own work is the same for every caller; only one mechanism walks page tables.
        for row in all.0.iter().filter(|row| row.cell == cell) {
            let in_monitor = !row.mechanism.reaches_plugin();
            let device =
                if in_monitor { all.get(Trap, cell).unwrap().part(Part::Device) } else { 0 };
            assert_eq!(row.part(Part::Device), device, "{cell} by {}", row.mechanism);
            assert_eq!(row.part(Part::Walk) > 0, row.mechanism == TrapChecked, "{cell}");
            let decodes = matches!(row.mechanism, Trap | TrapChecked)
                || row.mechanism == SvmIoio && cell.form.is_string();
            assert_eq!(row.part(Part::Decode) > 0, decodes, "{cell} by {}", row.mechanism);
        }
        if SvmIoio.has(cell) {
            assert!(monitor(all, SvmIoio, cell) >= monitor(all, SvmVmmcall, cell), "{cell}");
        }
    }

    let workload = report.workload.as_ref().unwrap();
    assert_eq!(workload.uses.len(), 24);
    assert!(workload.prices[&Int].monitor < workload.prices[&TrapChecked].monitor);
    let text = report.render(false).unwrap();
    assert!(text.contains("Conclusions") && text.contains("rep outsd x 512"), "{text}");
    assert!(report.render(true).unwrap().contains("| out dx,al |"));
    assert_eq!(report.conclusions.words.len(), 7, "{:#?}", report.conclusions.words);
}

#[test]
fn a_qemu_that_reports_no_exceptions_is_refused() {
    let qemu = Host::STABLE.program("qemu-system-x86_64");
    let error = measure(&qemu, Plan::COUNTS, None, |_| ()).unwrap_err().to_string();
    assert!(error.ends_with("use QEMU 11.0 or newer"), "{error}");
}

/// The statistics of a guest that uses all forms.
fn dump_of_the_forms() -> Snapshot {
    let guest = paths::guest("forms.bin").unwrap();
    let ended = Host::NEWEST.machine().plugin(&[]).bare_guest(&guest).run().unwrap();
    ended.stats().unwrap().clone()
}

/// Without pvio's answers, SVM, SYSENTER and NX, the other mechanisms are measured.
#[test]
fn the_guest_does_without_what_is_not_there() {
    let said = tempfile::NamedTempFile::new().unwrap();
    let ended = Host::STABLE
        .machine()
        .args(["-machine", "pc", "-cpu", "qemu32,-sep,-nx,-svm", "-m", "64", "-display", "none"])
        .args(["-nodefaults", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .args(["-debugcon", &format!("file:{}", said.path().display())])
        .args(["-kernel", &paths::guest("experiment.elf").unwrap().display().to_string()])
        .args(["-append", "scalars=16 strings=1 rounds=1"])
        .run()
        .unwrap();
    let said = std::fs::read_to_string(said.path()).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("monitor checked") && said.ends_with("end\n"), "{said}");
    let ways =
        |name: &str| said.lines().filter(|line| line.starts_with(&format!("cell {name} "))).count();
    assert_eq!(["native", "trap-checked", "trap", "int"].map(ways), [36; 4]);
    assert_eq!(["pvio", "sysenter", "svm-ioio", "svm-vmmcall"].map(ways), [0; 4]);
}

/// `struct io` of `monitor.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Io {
    operation: u8,
    length: u8,
    immediate: u8,
    port: u8,
    repeat: u8,
    address16: u8,
    segment: u8,
}

type Decode = unsafe extern "C" fn(*const u8, u32, *mut Io) -> c_int;

/// The monitor's decoder, compiled for the host.
fn decoder() -> Decode {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("decode.so");
    let source = paths::repository().join("tests/guests/experiment/decode.c");
    let compiler = std::env::var("CC").unwrap_or("cc".into());
    let mut words = compiler.split_whitespace();
    let built = Command::new(words.next().unwrap())
        .args(words)
        .args(["-O2", "-std=gnu11", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .unwrap();
    assert!(built.success());
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the library has no constructors; it is never closed. The function's type is that of
    // `monitor.h`.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null());
        let function = libc::dlsym(handle, c"decode".as_ptr());
        assert!(!function.is_null());
        std::mem::transmute::<*mut c_void, Decode>(function)
    }
}

/// Decodes the first instruction of these bytes with iced, in the monitor's terms.
fn iced(bytes: &[u8]) -> Option<Io> {
    let mut decoder = iced_x86::Decoder::new(32, bytes, 0);
    let mut insn = Instruction::default();
    decoder.decode_out(&mut insn);
    use Code::*;
    let (operation, source) = match insn.code() {
        In_AL_imm8 | In_AL_DX => (0, None),
        In_AX_imm8 | In_AX_DX => (1, None),
        In_EAX_imm8 | In_EAX_DX => (2, None),
        Out_imm8_AL | Out_DX_AL => (3, None),
        Out_imm8_AX | Out_DX_AX => (4, None),
        Out_imm8_EAX | Out_DX_EAX => (5, None),
        Insb_m8_DX => (6, Some(insn.op0_kind())),
        Insw_m16_DX => (7, Some(insn.op0_kind())),
        Insd_m32_DX => (8, Some(insn.op0_kind())),
        Outsb_DX_m8 => (9, Some(insn.op1_kind())),
        Outsw_DX_m16 => (10, Some(insn.op1_kind())),
        Outsd_DX_m32 => (11, Some(insn.op1_kind())),
        _ => return None,
    };
    let immediate = (0..insn.op_count()).find(|&place| insn.op_kind(place) == OpKind::Immediate8);
    let is_outs = operation >= 9;
    Some(Io {
        operation,
        length: insn.len() as u8,
        immediate: immediate.is_some().into(),
        port: immediate.map_or(0, |_| insn.immediate8()),
        repeat: (source.is_some() && (insn.has_rep_prefix() || insn.has_repne_prefix())).into(),
        address16: matches!(source, Some(OpKind::MemorySegSI | OpKind::MemoryESDI)).into(),
        segment: match insn.memory_segment() {
            Register::ES if is_outs => 0,
            Register::CS if is_outs => 1,
            Register::SS if is_outs => 2,
            Register::FS if is_outs => 4,
            Register::GS if is_outs => 5,
            _ => 3,
        },
    })
}

/// Returns the result of the monitor's decoder, without prefixes that have no effect here.
fn ours(decode: Decode, bytes: &[u8]) -> Option<Io> {
    let mut io = Io::default();
    // SAFETY: that many bytes may be read, and `io` written.
    let length = unsafe { decode(bytes.as_ptr(), bytes.len() as u32, &mut io) };
    if length <= 0 {
        return None;
    }
    assert_eq!(length, c_int::from(io.length));
    let is_string = io.operation >= 6;
    let of_string = |value: u8| if is_string { value } else { 0 };
    let segment = if io.operation >= 9 { io.segment } else { 3 };
    let port = if io.immediate == 1 { io.port } else { 0 };
    let (repeat, address16) = (of_string(io.repeat), of_string(io.address16));
    Some(Io { segment, port, repeat, address16, ..io })
}

const PREFIXES: [u8; 10] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3];

#[test]
fn the_monitors_decoder_agrees_with_iced() {
    let decode = decoder();
    let check = |bytes: &mut Vec<u8>| {
        // The bytes that follow do not matter, but must exist.
        bytes.resize(MAX_INSN_LEN, 0x90);
        let expected = iced(bytes);
        assert_eq!(ours(decode, bytes), expected, "{bytes:02x?}");
        u32::from(expected.is_some())
    };
    // Every opcode after every three prefixes, LOCK among them, which makes any of these undefined.
    let with_lock: Vec<u8> = PREFIXES.into_iter().chain([0xf0]).collect();
    let mut sequences: Vec<Vec<u8>> = vec![Vec::new()];
    for start in 0..1 + 11 + 121 {
        let longer = with_lock.iter().map(|&prefix| [&sequences[start][..], &[prefix]].concat());
        let longer: Vec<Vec<u8>> = longer.collect();
        sequences.extend(longer);
    }
    assert_eq!(sequences.len(), 1 + 11 + 121 + 1331);
    let mut io = 0;
    for prefixes in &sequences {
        for opcode in 0..=0xffu8 {
            io += check(&mut [&prefixes[..], &[opcode, 0x71]].concat());
        }
    }
    assert_eq!(io, 12 * (1 + 10 + 100 + 1000), "no other opcode, and none with LOCK");
    // As many prefixes as a processor accepts, in any order; and more.
    for seed in 0..100_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.usize(..MAX_INSN_LEN);
        let mut bytes: Vec<u8> = (0..count).map(|_| rng.choice(PREFIXES).unwrap()).collect();
        bytes.push(rng.choice([0x6c, 0x6f, 0xe4, 0xe7, 0xec, 0xef, 0x90, 0x0f]).unwrap());
        bytes.push(rng.u8(..));
        bytes.truncate(MAX_INSN_LEN);
        check(&mut bytes);
    }
}

/// An instruction of which the second page is still to be checked: the decoder says that it needs more.
#[test]
fn the_monitors_decoder_asks_for_what_it_has_not_seen() {
    let decode = decoder();
    let bytes = [0x66, 0x67, 0xf3, 0xe5, 0x40];
    let mut io = Io::default();
    for available in 0..5 {
        // SAFETY: that many bytes may be read, and `io` written.
        assert_eq!(unsafe { decode(bytes.as_ptr(), available, &mut io) }, 0, "{available}");
    }
    // SAFETY: as above.
    assert_eq!(unsafe { decode(bytes.as_ptr(), 5, &mut io) }, 5);
    assert_eq!((io.operation, io.port), (1, 0x40));
    let prefixes = [0x26; MAX_INSN_LEN];
    // SAFETY: as above.
    assert_eq!(unsafe { decode(prefixes.as_ptr(), MAX_INSN_LEN as u32, &mut io) }, -1);
}
