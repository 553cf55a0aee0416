//! The rooms put together: what `libpvio.so` is to QEMU.

use std::ffi::{c_char, c_int};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::bus::{BusError, PortBus};
use crate::devices::BUILT_IN;
use crate::interception::Interceptor;
use crate::options::{OptionError, Options, Summary};
use crate::qemu::{self, Ended, HostInfo, Insn, Machine, MachineError, VcpuIndex, Watch};
use crate::stats::{Snapshot, Statistics, render};

/// The plugin API that this library declares to QEMU, which reads it as a C `int`.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "QEMU's name for it")]
static qemu_plugin_version: AtomicI32 = AtomicI32::new(0);

/// Runs when the library is loaded, before QEMU reads `qemu_plugin_version`.
extern "C" fn declare_api_level() {
    qemu_plugin_version.store(qemu::declared_api_level().0, Ordering::Relaxed);
}

// SAFETY: the dynamic loader calls the functions in this section, with C's calling convention and
// arguments that may be ignored, after this library has been bound.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = declare_api_level;

/// QEMU's way in.
///
/// # Safety
///
/// For QEMU to call, with its own arguments.
#[unsafe(no_mangle)]
unsafe extern "C" fn qemu_plugin_install(
    id: qemu::qemu_plugin_id_t,
    info: *const qemu::qemu_info_t,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU's own arguments.
    unsafe { qemu::install(id, info, argc, argv, Pvio::build) }
}

/// What keeps the plugin from being what the user asked for.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("{0}")]
    Option(#[from] OptionError),
    #[error("option \"device\": {0}")]
    Bus(#[from] BusError),
    #[error("option \"device\": {0}")]
    Machine(#[from] MachineError),
}

struct Pvio {
    host: HostInfo,
    options: Options,
    bus: PortBus,
    statistics: Arc<Statistics>,
    interceptor: Interceptor,
}

impl Pvio {
    fn build(host: &HostInfo, arguments: Vec<String>) -> Result<Box<dyn qemu::Plugin>, BuildError> {
        let mut options = Options::parse(&arguments, &BUILT_IN)?;
        let requests = std::mem::take(&mut options.devices);
        let bus = match requests.is_empty() {
            // Counting asks nothing of QEMU that it might not export.
            true => PortBus::default(),
            false => PortBus::build(&Arc::new(Machine::open(host.version)?), requests)?,
        };
        let statistics = Arc::new(Statistics::default());
        let interceptor = Interceptor::new(host, Arc::clone(&statistics));
        Ok(Box::new(Pvio { host: host.clone(), options, bus, statistics, interceptor }))
    }

    fn dump(&self, snapshot: &Snapshot) {
        if let Some(destination) = &self.options.stats {
            let mut json = serde_json::to_vec_pretty(snapshot).expect("plain data becomes JSON");
            json.push(b'\n');
            complain(destination.write(&json));
        }
        match &self.options.summary {
            Summary::Off => {}
            Summary::Stderr => {
                let colour =
                    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
                eprint!("{}", render(snapshot, colour));
            }
            Summary::File(destination) => {
                complain(destination.write(render(snapshot, false).as_bytes()));
            }
        }
    }
}

fn complain(result: Result<(), crate::stats::DestinationError>) {
    if let Err(error) = result {
        eprintln!("pvio: {error}");
    }
}

impl qemu::Plugin for Pvio {
    fn vcpu_begins(&self, vcpu: VcpuIndex) -> Box<dyn qemu::Vcpu> {
        self.interceptor.vcpu_begins(vcpu)
    }

    fn vcpus_share_a_thread(&self) {
        self.statistics.vcpus_are_mixed();
    }

    fn translate(&self, insn: &Insn<'_>) -> Option<Watch> {
        self.interceptor.translate(insn)
    }

    fn machine_ended(&self, how: Ended) {
        for failure in self.bus.finish() {
            eprintln!("pvio: {failure}");
        }
        self.dump(&self.statistics.snapshot(&self.host, how, &self.options.symbols));
    }
}
