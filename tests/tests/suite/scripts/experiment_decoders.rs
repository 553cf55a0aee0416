//! The decoders of the experiment, the monitor's and the guest's, against iced-x86.

use std::ffi::{CStr, CString, c_int, c_void};
use std::process::Command;

use iced_x86::{Code, Instruction, OpKind, Register};
use pvio::x86::MAX_INSN_LEN;
use pvio_cli::paths;

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
type Inform = unsafe extern "C" fn(*const u8, *mut u32, *mut c_int) -> c_int;

/// The monitor's decoder, compiled for the host.
fn decoder() -> Decode {
    // SAFETY: the function's type is that of `monitor.h`.
    unsafe { std::mem::transmute::<*mut c_void, Decode>(compiled("decode.c", c"decode")) }
}

/// The guest's decoder of #VC, compiled for the host.
fn guests_decoder() -> Inform {
    // SAFETY: the function's type is that of `guest.h`.
    unsafe {
        std::mem::transmute::<*mut c_void, Inform>(compiled("guest_insn.c", c"io_information"))
    }
}

/// A function of a file of the experiment, compiled for the host.
fn compiled(file: &str, name: &CStr) -> *mut c_void {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("decode.so");
    let source = paths::repository().join("tests/guests/experiment").join(file);
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
    // SAFETY: the library has no constructors; it is never closed.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null());
        let function = libc::dlsym(handle, name.as_ptr());
        assert!(!function.is_null());
        function
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

/// Returns the result of the guest's decoder, in the same terms.
fn guests(decode: Inform, bytes: &[u8]) -> Option<Io> {
    assert!(bytes.len() >= MAX_INSN_LEN);
    let (mut information, mut port_in_dx) = (0, 0);
    // SAFETY: it reads as many bytes as an instruction can have, and writes the others.
    let length = unsafe { decode(bytes.as_ptr(), &mut information, &mut port_in_dx) };
    if length <= 0 {
        return None;
    }
    // APM Vol. 2, 15.10.2: direction, string, repeat, a bit for each size, and so on.
    let bit = |bit: u32| (information >> bit & 1) as u8;
    let size = information >> 4 & 7;
    assert!(size.is_power_of_two() && bit(7) + bit(8) == 1, "{information:#x}");
    let is_string = bit(2) == 1;
    let first = [[3, 0], [9, 6]][usize::from(is_string)][usize::from(bit(0))];
    let segment = (information >> 10 & 7) as u8;
    Some(Io {
        operation: first + size.trailing_zeros() as u8,
        length: length as u8,
        immediate: (port_in_dx == 0).into(),
        port: if port_in_dx == 0 { (information >> 16) as u8 } else { 0 },
        repeat: bit(3),
        address16: if is_string { bit(7) } else { 0 },
        segment: if first == 9 { segment } else { 3 },
    })
}

const PREFIXES: [u8; 10] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3];

/// Compares a decoder with iced.
fn compare(ours: impl Fn(&[u8]) -> Option<Io>) {
    let check = |bytes: &mut Vec<u8>| {
        // The bytes that follow do not matter, but must exist.
        bytes.resize(MAX_INSN_LEN, 0x90);
        let expected = iced(bytes);
        assert_eq!(ours(bytes), expected, "{bytes:02x?}");
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

#[test]
fn the_monitors_decoder_agrees_with_iced() {
    let decode = decoder();
    compare(|bytes| ours(decode, bytes));
}

#[test]
fn the_guests_decoder_agrees_with_iced() {
    let decode = guests_decoder();
    compare(|bytes| guests(decode, bytes));
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
