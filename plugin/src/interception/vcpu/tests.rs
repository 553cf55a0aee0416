//! Reports in the order in which QEMU makes them, and what they count as.

mod aliases;
mod executions;
mod exits;
mod faults;
mod interrupts;
mod restarts;

use super::*;
use crate::interception::address::CodeAddress;
use crate::interception::nested::SharedMemory;
use crate::qemu::{Discontinuity, Ended, HostInfo, VcpuIndex};
use crate::stats::{FormRow, SiteKey, SiteRow, Snapshot, SnapshotContext, Statistics};
use crate::x86::{Mode, PortForm, decode};

/// Registers whose values a function returns.
struct Fixed<F>(F);

impl<F: Fn(Register) -> u64> ReadRegisters for Fixed<F> {
    fn read(&mut self, register: Register) -> u64 {
        (self.0)(register)
    }
}

/// A vCPU with registers, and the counter that it reports to.
struct Guest {
    statistics: Statistics,
    counter: VcpuCounter,
    exceptions_reported: bool,
    rcx: u64,
    rdx: u64,
    rflags: u64,
    cs: u64,
    /// True if QEMU translates code that has port I/O permission without the TSS.
    privileged: bool,
    /// The distance of the code from the address of its translation.
    distance: u64,
}

const API_7: Rules =
    Rules { exceptions_reported: true, steps_reps: false, adds_ignored_bases: false };
const API_4: Rules =
    Rules { exceptions_reported: false, steps_reps: false, adds_ignored_bases: false };

const RING_0: u64 = 0x08;
const RING_3: u64 = 0x1b;
const PC: u64 = 0x10_0000;

impl Guest {
    fn new(rules: Rules) -> Guest {
        Guest::with(rules, Arc::default(), None)
    }

    /// A vCPU that shares a list of interrupted strings, and whose physical memory can be read.
    fn with(
        rules: Rules,
        interrupted: Arc<InterruptedStrings>,
        memory: Option<SharedMemory>,
    ) -> Guest {
        let statistics = Statistics::default();
        let recorder = Recorder::new(statistics.counters(VcpuIndex(0)), None);
        let guests = NestedGuests::new(memory);
        let counter = VcpuCounter::new(rules, recorder, interrupted, guests, None, None, None);
        let exceptions_reported = rules.exceptions_reported;
        Guest {
            statistics,
            counter,
            exceptions_reported,
            rcx: 0,
            rdx: 0x5000,
            rflags: 2,
            cs: RING_0,
            privileged: false,
            distance: 0,
        }
    }

    /// A vCPU of QEMU 11, which reports exceptions.
    fn on_api_7() -> Guest {
        Guest::new(API_7)
    }

    /// A vCPU of QEMU 10.0, which does not.
    fn on_api_4() -> Guest {
        Guest::new(API_4)
    }

    /// A vCPU of QEMU 9.2, which also leaves every `rep` after each element, and does not set RF.
    fn on_9_2() -> Guest {
        Guest::new(Rules {
            exceptions_reported: false,
            steps_reps: true,
            adds_ignored_bases: false,
        })
    }

    fn token(&self, code: &[u8], pc: u64) -> Token {
        let decoded = decode(code, Mode::Bits32).unwrap();
        let key = SiteKey { pc, mode: Some(Mode::Bits32), bytes: code.try_into().unwrap() };
        let site = self.statistics.sites.enter(key, None, decoded.form);
        let address = CodeAddress { base: 0, offset: (pc & 0xfff) as u16 };
        PortIoToken::new(decoded, decoded.form.into(), site, address, self.privileged).into()
    }

    /// QEMU reports that it is about to run an instruction.
    fn start(&mut self, code: &[u8], pc: u64) -> Token {
        let token = self.token(code, pc.wrapping_sub(self.distance));
        // RIP is that of the start of the block.
        let rip = pc & !0x3f;
        let (rcx, rdx, rflags, cs) = (self.rcx, self.rdx, self.rflags, self.cs);
        self.counter.about_to_run(
            token,
            &mut Fixed(|register| match register {
                Register::Rax => 0,
                Register::Rcx => rcx,
                Register::Rdx => rdx,
                Register::Rflags => rflags,
                Register::Rip => rip,
                Register::Cs => cs,
                Register::Cr0 => 1,
                Register::Rsp | Register::Rbp | Register::Cr3 | Register::Cr4 | Register::Efer => {
                    unreachable!("port I/O does not depend on it")
                }
            }),
        );
        token
    }

    /// QEMU moves elements: `ins` stores each twice, `outs` loads it once.
    fn elements(&mut self, token: Token, count: u64) {
        let stores = match PortIoToken::from(token).form().direction() {
            Direction::In => 2,
            Direction::Out => 1,
        };
        if stores == 1 && self.cs == RING_3 && self.rflags & (3 << 12) == 0 {
            self.permission_check(token);
        }
        for _ in 0..count * stores {
            self.counter.memory_accessed(token, || 0);
        }
        self.rcx = self.rcx.wrapping_sub(count);
    }

    /// QEMU looks the port up in the TSS, as accesses of the instruction. Only writes are watched for `ins`.
    fn permission_check(&mut self, token: Token) {
        if PortIoToken::from(token).form().direction() == Direction::Out {
            for _ in 0..2 {
                self.counter.memory_accessed(token, || 0);
            }
        }
    }

    fn exception_at(&mut self, pc: u64) {
        self.counter.discontinuity(Discontinuity::Exception);
        self.counter.discontinuity(Discontinuity::Delivered { from: pc });
    }

    fn interrupt_at(&mut self, pc: u64) {
        self.counter.discontinuity(Discontinuity::Delivered { from: pc });
    }

    fn snapshot(&self) -> Snapshot {
        let host = HostInfo {
            api: crate::qemu::ApiLevel(if self.exceptions_reported { 7 } else { 4 }),
            version: None,
            target: "x86_64".into(),
            max_vcpus: 1,
            icount: false,
            recorded: false,
            command_line: Default::default(),
            memory_is_readable: true,
        };
        let context = SnapshotContext {
            host: &host,
            ended: Some(Ended::Quit),
            symbols: &Default::default(),
            own_kind: &|_| None,
            at_port: &|_| crate::qemu::AtPort::Unknown,
        };
        self.statistics.snapshot_of(self.statistics.read(), &context)
    }

    /// Returns the attempts, executions, accesses, faults and unverified executions of one form.
    ///
    /// The tables must agree with each other whatever happened.
    fn row(&self, form: PortForm) -> [u64; 5] {
        let snapshot = self.snapshot();
        let of_forms = |column: fn(&FormRow) -> u64| snapshot.forms.iter().map(column).sum::<u64>();
        assert_eq!(
            of_forms(|row| row.accesses),
            snapshot.ports.iter().map(|row| row.qemu).sum::<u64>()
        );
        assert_eq!(
            of_forms(|row| row.executions),
            snapshot.sites.iter().map(|row| row.counts.executions).sum::<u64>()
        );
        let row = &snapshot.forms[form.index()];
        [row.attempts, row.executions, row.accesses, row.faults.unwrap_or(0), row.unverified]
    }
}

const OUT: &[u8] = &[0xee];
const INSB: &[u8] = &[0x6c];
const REP_INSB: &[u8] = &[0xf3, 0x6c];
const REP_OUTSB: &[u8] = &[0xf3, 0x6e];
