//! The commands of the socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pvio_stats::trace::WindowEvent;
use serde_json::{Value, json};

use super::command::{Command, Filtered};
use super::rates::{SiteNames, Subscription};
use super::request::{Request, answer};
use crate::access_log::AccessLog;
use crate::breakpoints::Breakpoints;
use crate::bus::PortBus;
use crate::dumps::Dumps;
use crate::qemu::ExclusiveWork;
use crate::stats::{Statistics, WindowError};
use crate::trace::Trace;
use crate::x86::Port;

/// The time that the vCPUs may take to stop for a snapshot. They take less than 100 ms unless one is in a device that
/// waits for its reader.
const PATIENCE: Duration = Duration::from_secs(2);

/// The time that pvio waits for a moment without counting, if it cannot stop the vCPUs.
const STILL_WITHIN: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(5);

/// Serves requests.
pub struct Commands {
    /// The statistics, and what makes snapshots of them.
    dumps: Arc<Dumps>,
    bus: Arc<PortBus>,
    /// Stops the vCPUs for a moment; `None` if this QEMU does not export how.
    exclusive: Option<ExclusiveWork>,
    /// `None` without `access-log=`.
    access_log: Option<Arc<AccessLog>>,
    /// `None` without `trace=`.
    trace: Option<Arc<Trace>>,
    /// `None` if this QEMU cannot stop after an instruction.
    breakpoints: Option<Arc<Breakpoints>>,
    /// Names for rates.
    names: SiteNames,
    /// When the machine was made.
    started: Instant,
}

impl Commands {
    /// Commands that use these dumps, and what else there is.
    pub fn new(
        dumps: Arc<Dumps>,
        bus: Arc<PortBus>,
        access_log: Option<Arc<AccessLog>>,
        trace: Option<Arc<Trace>>,
        breakpoints: Option<Arc<Breakpoints>>,
    ) -> Commands {
        Commands {
            breakpoints,
            bus,
            dumps,
            exclusive: ExclusiveWork::find(),
            access_log,
            trace,
            names: SiteNames::default(),
            started: Instant::now(),
        }
    }

    /// Carries out the request of a line. Returns the line of the answer.
    pub(super) fn serve(
        &mut self,
        line: &[u8],
        subscription: &mut Option<Subscription>,
    ) -> Vec<u8> {
        match Request::parse(line) {
            Ok(mut request) => {
                let id = request.id.take();
                let command = Command::of(&request);
                answer(command.and_then(|command| self.carry_out(command, subscription)), id)
            }
            Err(why) => answer(Err(why), None),
        }
    }

    fn carry_out(
        &mut self,
        command: Command,
        subscription: &mut Option<Subscription>,
    ) -> Result<Value, String> {
        match command {
            Command::Status => Ok(self.status()),
            Command::Snapshot => Ok(self.snapshot()),
            Command::Reset => self.change_window(WindowEvent::Reset),
            Command::Begin(name) => self
                .change_window(WindowEvent::Began(name.as_str().into()))
                .map_err(|error| format!("window {name:?}: {error}")),
            Command::End(name) => self
                .change_window(WindowEvent::Ended(name.as_str().into()))
                .map_err(|error| format!("window {name:?}: {error}")),
            Command::AccessLog(change) => self.change_log(change),
            Command::Trace(change) => self.change_trace(change),
            Command::Break(breakpoint) => {
                let number = self.breakpoints()?.set(breakpoint);
                Ok(json!({ "break": number.map_err(|error| error.to_string())? }))
            }
            Command::Delete(number) => match self.breakpoints()?.delete(number) {
                true => Ok(json!({})),
                false => Err(format!("there is no breakpoint {number}; status lists them")),
            },
            Command::Reload(port) => self.bus.reload(port).map(|()| json!({})),
            Command::Subscribe(wanted) => {
                *subscription = Some(wanted);
                Ok(json!({}))
            }
            Command::Unsubscribe => {
                *subscription = None;
                Ok(json!({}))
            }
        }
    }

    /// Runs `change` on the statistics while no vCPU counts. Also returns whether none did.
    fn change<R: Send + 'static>(
        &self,
        change: impl FnOnce(&Statistics) -> R + Send + 'static,
    ) -> (R, bool) {
        // The work is shared, since what does not run in time runs after all, while vCPUs count.
        let change = Arc::new(std::sync::Mutex::new(Some(change)));
        let run = {
            let statistics = Arc::clone(&self.dumps.statistics);
            move || {
                let change =
                    change.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                change.map(|change| change(&statistics))
            }
        };
        let exclusive = self.exclusive.as_ref();
        match exclusive.and_then(|exclusive| exclusive.run(PATIENCE, run.clone())).flatten() {
            Some(result) => (result, true),
            None => (run().expect("it did not run yet"), false),
        }
    }

    /// Changes a window or resets the statistics, and has the trace tell of it.
    fn change_window(&self, event: WindowEvent) -> Result<Value, String> {
        let trace = self.trace.clone();
        let (result, is_exact) = self.change(move |statistics| {
            let change = || match &event {
                WindowEvent::Began(name) => statistics.begin_from_outside(name),
                WindowEvent::Ended(name) => statistics.end(name),
                WindowEvent::Reset => {
                    statistics.reset_from_outside();
                    Ok::<(), WindowError>(())
                }
            };
            match &trace {
                Some(trace) => trace.window_from_outside(&event, change),
                None => change(),
            }
        });
        result.map_err(|error| error.to_string())?;
        Ok(json!({ "exact": is_exact }))
    }

    fn snapshot(&self) -> Value {
        self.with_guest(|| self.dumps.prepare(false));
        let (mut moment, mut is_exact) = self.change(Statistics::read);
        // Without a way to stop the vCPUs, they may stand still by themselves.
        let begun = Instant::now();
        while !is_exact && begun.elapsed() < STILL_WITHIN {
            std::thread::sleep(PAUSE);
            let before = std::mem::replace(&mut moment, self.dumps.statistics.read());
            is_exact = moment.is_still(&before);
        }
        let snapshot = self.with_guest(|| self.dumps.snapshot_of(moment, None));
        let stats = serde_json::to_value(&snapshot).expect("plain data becomes JSON");
        json!({ "exact": is_exact, "stats": stats })
    }

    /// Runs what may look at the guest's memory.
    fn with_guest<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.exclusive {
            Some(exclusive) => exclusive.with_global_lock(work),
            // Then pvio does not read the guest's memory.
            None => work(),
        }
    }

    fn change_log(&self, Filtered { enabled, filter }: Filtered) -> Result<Value, String> {
        let log = self.access_log.as_ref();
        let log = log.ok_or("there is no access log; start QEMU with access-log=FILE")?;
        let filter = filter.map(|(_, parsed)| parsed);
        log.filter().change(filter, enabled).map_err(|error| error.to_string())?;
        Ok(json!({ "enabled": log.filter().is_enabled() }))
    }

    fn change_trace(&self, Filtered { enabled, filter }: Filtered) -> Result<Value, String> {
        let trace = self.trace.clone().ok_or("there is no trace; start QEMU with trace=FILE")?;
        let (text, parsed) = filter.unzip();
        let (result, is_exact) = self.change(move |_| {
            let filter = text.as_deref().zip(parsed);
            trace.change_filter(filter, enabled).map(|()| trace.is_enabled())
        });
        let is_enabled = result.map_err(|error| error.to_string())?;
        Ok(json!({ "enabled": is_enabled, "exact": is_exact }))
    }

    pub(super) fn breakpoints(&self) -> Result<&Arc<Breakpoints>, String> {
        let breakpoints = self.breakpoints.as_ref();
        breakpoints.ok_or_else(|| "this QEMU does not let plugins stop after an instruction".into())
    }

    fn status(&self) -> Value {
        let breaks = self.breakpoints.iter().flat_map(|breakpoints| breakpoints.all());
        let breaks: Vec<Value> = breaks
            .map(|(number, at, hits)| json!({ "break": number, "at": at, "hits": hits }))
            .collect();
        let log =
            self.access_log.as_ref().map(|log| json!({ "enabled": log.filter().is_enabled() }));
        let trace = self.trace.as_ref().map(|trace| json!({ "enabled": trace.is_enabled() }));
        let host = &self.dumps.host;
        json!({
            "pvio": env!("CARGO_PKG_VERSION"),
            "qemu": host.version.map(|version| version.to_string()),
            "target": host.target,
            "pid": std::process::id(),
            "seconds": self.started.elapsed().as_secs_f64(),
            "exact": self.exclusive.is_some(),
            "processes": self.dumps.statistics.processes().is_some(),
            "access-log": log,
            "trace": trace,
            "breaks": breaks,
            "windows": self.dumps.statistics.open_windows(),
        })
    }

    /// The next event of a subscription, if it is time for it and the client has taken the last.
    pub(super) fn rates(
        &mut self,
        subscription: &mut Subscription,
        now: Instant,
        is_free: bool,
    ) -> Option<Vec<u8>> {
        if now < subscription.due() {
            return None;
        }
        if !is_free {
            subscription.skip(now);
            return None;
        }
        let moment = self.dumps.statistics.read();
        // The lock is held for one port at a time, so that the guest's devices do not wait.
        let at_port = |port: Port| self.with_guest(|| self.dumps.presence.at(port.0));
        let tables = self.dumps.without_names(moment, &at_port);
        let Commands { dumps, exclusive, names, .. } = self;
        let look = || {
            dumps.prepare(false);
            dumps.snapshot_of(dumps.statistics.read(), None).tables.sites
        };
        names.learn(&tables.tables.sites, now, || match exclusive {
            Some(exclusive) => exclusive.with_global_lock(look),
            None => look(),
        });
        Some(subscription.event(now, &tables, names))
    }
}
