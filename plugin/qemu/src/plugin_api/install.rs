//! Installation: checks whether pvio supports the QEMU that loads it, and builds the plugin from the options.

use std::ffi::{CStr, c_char, c_int};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;

use qemu_plugin_sys::{qemu_info_t, qemu_plugin_id_t};

use super::api::{Api, MissingFunction};
use super::block_flag::BlockFlag;
use super::host::Host;
use super::installed::{self, Installed};
use super::plugin::Plugin;
use super::registration;
use super::vcpus::Vcpus;
use crate::internals::{
    CommandLine, GuestRam, ShutdownCause, exports_functions, icount_is_on, is_recorded,
    other_than_tcg,
};
use crate::report::say;
use crate::version::{ApiLevel, QemuVersion};

/// The QEMU that loads the plugin.
#[derive(Clone, Debug)]
pub struct HostInfo {
    /// Its plugin API.
    pub api: ApiLevel,
    /// Its release; `None` if it is not known.
    pub version: Option<QemuVersion>,
    /// The guest's architecture: `i386` or `x86_64`.
    pub target: String,
    /// The maximum number of vCPUs of the machine.
    pub max_vcpus: usize,
    /// True if QEMU reports that it counts instructions (`-icount`).
    pub icount: bool,
    /// True if QEMU reports that it records or replays a run (`-icount rr=`).
    pub recorded: bool,
    /// The options of QEMU that affect the plugin's files.
    pub command_line: CommandLine,
    /// True if [`GuestRam::open`](crate::GuestRam::open) succeeds.
    pub memory_is_readable: bool,
}

impl HostInfo {
    /// Returns true if [`Vcpu::discontinuity`](super::Vcpu::discontinuity) is called.
    pub fn reports_exceptions(&self) -> bool {
        self.api >= ApiLevel::DISCONTINUITIES
    }
}

/// The reason why pvio does not work in this QEMU.
#[derive(Debug, thiserror::Error)]
enum Unsuitable {
    #[error(
        "user-mode emulation has no I/O ports to count; \
         load pvio into qemu-system-x86_64 or qemu-system-i386"
    )]
    UserMode,
    #[error(
        "this QEMU emulates {0}, which pvio does not support; \
         load pvio into qemu-system-x86_64 or qemu-system-i386"
    )]
    Target(String),
    #[error(
        "this QEMU's plugin API is version {0}; pvio needs version {oldest} or newer: use QEMU 9.2 or newer",
        oldest = ApiLevel::OLDEST
    )]
    TooOld(ApiLevel),
    #[error(
        "this QEMU runs the guest with the accelerator {0}, under which QEMU calls no plugins, so nothing would be \
         counted; start it with -accel tcg"
    )]
    Accelerator(String),
    #[error("{0}")]
    MissingFunction(#[from] MissingFunction),
    #[error("the option {0:?} is not UTF-8; write it in UTF-8")]
    NotUtf8(String),
}

/// Installs the plugin that `build` makes. Returns what `qemu_plugin_install` is to return.
///
/// `build` gets the options as QEMU passes them, `key=value`. Its error, one line, goes to stderr, and
/// QEMU does not start.
///
/// # Safety
///
/// The arguments must be those that QEMU gives to `qemu_plugin_install`.
pub unsafe fn install<E: Display>(
    id: qemu_plugin_id_t,
    info: *const qemu_info_t,
    argc: c_int,
    argv: *const *const c_char,
    build: impl FnOnce(&HostInfo, Vec<String>) -> Result<Box<dyn Plugin>, E>,
) -> c_int {
    let attempt = AssertUnwindSafe(|| -> Result<(), String> {
        // SAFETY: promised by the caller.
        let (host, arguments) = unsafe { (examine(&*info), arguments(argc, argv)) };
        let host = host.map_err(|error| error.to_string())?;
        let arguments = arguments.map_err(|error| error.to_string())?;
        let api = Api::load(host.api).map_err(|error| error.to_string())?;
        if host.api > ApiLevel::NEWEST {
            let newest = ApiLevel::NEWEST;
            say(format_args!(
                "warning: this QEMU's plugin API is version {}, newer than any that pvio was \
                 tested with ({newest})",
                host.api
            ));
        } else if let Some(version) = host.version.filter(|version| version.is_newer_than_known()) {
            say(format_args!(
                "warning: this is QEMU {version}, newer than any that pvio was tested with (11.1)"
            ));
        }
        let plugin = build(&host, arguments).map_err(|error| error.to_string())?;
        if !exports_functions() {
            say(
                "warning: this QEMU exports none of its functions to plugins (it was configured without \
                 --enable-modules): pvio counts, but it has no devices, hypercalls reach no ports, and no names are \
                 read from the guest; for these, use a QEMU configured with --enable-modules",
            );
        }
        let block_flag = plugin.follows_blocks().then(|| BlockFlag::new(&api));
        let installed = Installed {
            host: Host::new(api),
            shutdown: ShutdownCause::listen(),
            vcpus: Vcpus::new(host.max_vcpus),
            plugin,
            ran: AtomicBool::new(false),
            block_flag,
        };
        let installed = installed::open(installed)
            .ok_or_else(|| "the plugin is loaded already; load it only once".to_string())?;
        // Callbacks can find the plugin only from here on.
        registration::register(id, &installed.host.api, installed.plugin.follows_idle());
        Ok(())
    });
    match catch_unwind(attempt) {
        Ok(Ok(())) => 0,
        Ok(Err(why)) => {
            say(why);
            -1
        }
        // The panic has said what happened.
        Err(_) => -1,
    }
}

fn examine(info: &qemu_info_t) -> Result<HostInfo, Unsuitable> {
    if !info.system_emulation {
        return Err(Unsuitable::UserMode);
    }
    // SAFETY: QEMU's name of its target, a C string for ever.
    let target = unsafe { CStr::from_ptr(info.target_name) }.to_string_lossy().into_owned();
    if !matches!(&*target, "i386" | "x86_64") {
        return Err(Unsuitable::Target(target));
    }
    let api = ApiLevel(info.version.cur);
    if api < ApiLevel::OLDEST {
        return Err(Unsuitable::TooOld(api));
    }
    if let Some(accelerator) = other_than_tcg() {
        return Err(Unsuitable::Accelerator(accelerator));
    }
    // SAFETY: the union's only member, which QEMU fills for system emulation.
    let max_vcpus = unsafe { info.__bindgen_anon_1.system.max_vcpus };
    let version = QemuVersion::of_this_process();
    let command_line = CommandLine::of_this_process();
    Ok(HostInfo {
        api,
        version,
        memory_is_readable: GuestRam::open(version).is_some(),
        target,
        max_vcpus: usize::try_from(max_vcpus).unwrap_or(0),
        icount: icount_is_on() || command_line.icount,
        recorded: is_recorded(),
        command_line,
    })
}

/// # Safety
///
/// `argv` must point to `argc` C strings.
unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Result<Vec<String>, Unsuitable> {
    (0..usize::try_from(argc).unwrap_or(0))
        .map(|index| {
            // SAFETY: promised by the caller.
            let argument = unsafe { CStr::from_ptr(*argv.add(index)) };
            argument
                .to_str()
                .map(str::to_owned)
                .map_err(|_| Unsuitable::NotUtf8(argument.to_string_lossy().into_owned()))
        })
        .collect()
}
