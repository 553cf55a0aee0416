//! Traces the events of one vCPU.
//!
//! An `in` or `out` is pending from its start until it retires or faults, or until another event comes. Then one event
//! records its outcome, with the value that an `in` has read. If the outcome changes later, that is another event.
//!
//! Each event takes the lock once: the end of an `in` only notes its value in [`Progress`], and the next event, or the
//! writer, encodes it.

use std::sync::Arc;

use pvio_stats::trace::{self as format, CallEvent, InsnEvent, Stage, StreamEnd, WindowEvent};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::relax::Yield;

use super::coverage::Coverage;
use super::definitions::VcpuDefinitions;
use super::progress::{Pending, Progress};
use super::stream::Stream;
use super::traced_insn::{Change, TracedInsn, call_code, code, event, traced_process};
use super::{FULL, Trace, lock};
use crate::access_log::{Code, CodeKind};
use crate::stats::{Call, CallAt, CallOrigin, CallerId, Outcome, SiteId, VcpuCounters};
use crate::x86::{Direction, Port, PortForm};

/// The trace of one vCPU, for use on its thread. At the end, another thread takes what is left.
pub struct VcpuTrace {
    trace: Arc<Trace>,
    definitions: VcpuDefinitions,
    progress: Progress,
    /// Nearly always only the vCPU's own thread takes it, so a spin lock is cheapest.
    state: SpinMutex<State, Yield>,
}

struct State {
    stream: Stream,
    pending: Option<(u64, InsnEvent)>,
    /// What was presumed of the pending event was counted on one side of a request: a change is an event of its own.
    is_presumption_kept: bool,
    /// The start of a string instruction whose first element has not been moved.
    started: Option<(u64, InsnEvent)>,
    coverage: Coverage,
    is_writing: bool,
}

impl VcpuTrace {
    pub(super) fn new(trace: Arc<Trace>, stream: u32, counters: Arc<VcpuCounters>) -> VcpuTrace {
        let statistics = Arc::clone(&trace.statistics);
        let state = State {
            stream: Stream::new(stream, counters.vcpu_index()),
            pending: None,
            is_presumption_kept: false,
            started: None,
            coverage: Coverage::new(&trace),
            is_writing: false,
        };
        VcpuTrace {
            trace,
            definitions: VcpuDefinitions { statistics, counters },
            progress: Progress::default(),
            state: SpinMutex::new(state),
        }
    }

    /// Returns true if accesses to a port may be traced. The other methods decide which are.
    #[inline]
    pub fn covers(&self, port: Port, direction: Direction) -> bool {
        let filter = &self.trace.filter;
        filter.covers_all() || filter.covers_port(port, direction)
    }

    /// Whether accesses to a port may ever be traced.
    pub fn may_cover(&self, port: Port, direction: Direction) -> bool {
        self.trace.filter.may_cover_port(port, direction)
    }

    /// An attempt that makes no memory access has started, or resumed after a fault.
    ///
    /// `stage` is what is presumed of it. If it `is_final`, nothing can contradict it, and its value is known.
    /// Returns true if it is traced.
    pub fn unobserved(
        &self,
        insn: &TracedInsn,
        stage: Stage,
        (port, caller, value): (Option<Port>, CallerId, Option<u32>),
        is_final: bool,
    ) -> bool {
        let mut state = self.lock();
        self.settle(&mut state);
        if !self.is_covered(&mut state, code(insn), insn.form.direction(), port) {
            return false;
        }
        let host = self.now(&mut state);
        let event = event(insn, stage, port, caller, value);
        if is_final {
            self.encode(&mut state, host, &event);
        } else {
            state.pending = Some((host, event));
            state.is_presumption_kept = false;
            self.progress.set(Pending::Open);
        }
        true
    }

    /// A scalar that nothing can contradict has started, at a site and in a trace without filters.
    ///
    /// `written` is what an `out` writes; `None` for an `in`, whose value is pending.
    #[inline]
    pub fn scalar(&self, form: PortForm, site: SiteId, port: Port, written: Option<u32>) {
        let mut state = self.lock();
        self.settle(&mut state);
        let host = self.now(&mut state);
        let event = InsnEvent {
            stage: Stage::Executed,
            code: format::Code::Site(site.0),
            form: form.into(),
            port: Some(port),
            value: written.map(|value| form.width().low_bytes(value)),
            stack: None,
            process: None,
        };
        match written {
            Some(_) => self.add(&mut state, host, &event),
            None => {
                state.pending = Some((host, event));
                state.is_presumption_kept = false;
                self.progress.set(Pending::Open);
            }
        }
    }

    /// Returns true if there are no filters now.
    #[inline]
    pub fn covers_all(&self) -> bool {
        self.trace.filter.covers_all()
    }

    /// The pending access has retired. An `in` has left its value in EAX.
    #[inline]
    pub fn retire(&self, eax: impl FnOnce() -> u32) {
        if self.progress.get() != Pending::Open {
            return;
        }
        if self.covers_all() {
            self.progress.set(Pending::Retired { eax: eax() });
        } else {
            // The filter may change before the next event.
            let mut state = self.lock();
            note_value(&mut state, eax);
            self.settle(&mut state);
        }
    }

    /// Notes EAX as the value of a pending `in`, which may still turn out to have faulted.
    pub fn note_value(&self, eax: impl FnOnce() -> u32) {
        if self.progress.get() == Pending::Open {
            note_value(&mut self.lock(), eax);
        }
    }

    /// Encodes the pending attempt, because its outcome is final.
    pub fn settled(&self) {
        if self.progress.get() != Pending::Nothing {
            self.settle(&mut self.lock());
        }
    }

    /// Records a change of an attempt: of the pending one, or of one whose event is already in the trace.
    pub fn changed(
        &self,
        insn: &TracedInsn,
        change: Change,
        (port, caller): (Option<Port>, CallerId),
    ) {
        let mut state = self.lock();
        let later = event(insn, change.stage(), port, caller, None);
        if !state.is_presumption_kept
            && let Some((_, pending)) = &mut state.pending
            && (pending.code, pending.port) == (later.code, later.port)
            && let Some(stage) = change.of(pending.stage)
        {
            pending.stage = stage;
            return;
        }
        self.settle(&mut state);
        if self.is_covered(&mut state, code(insn), insn.form.direction(), port) {
            let host = self.now(&mut state);
            self.encode(&mut state, host, &later);
        }
    }

    /// A string instruction has started, resumed, faulted or been intercepted.
    pub fn string(&self, insn: &TracedInsn, stage: Stage) {
        let mut state = self.lock();
        self.settle(&mut state);
        if !self.trace.filter.covers_all() && stage != Stage::Started {
            return;
        }
        let host = self.now(&mut state);
        let event = event(insn, stage, None, CallerId::default(), None);
        if stage == Stage::Started {
            state.started = Some((host, event));
            self.progress.set(Pending::Started);
        } else {
            self.encode(&mut state, host, &event);
        }
    }

    /// A string instruction has moved an element, and has retired if it `ends` with it.
    pub fn element(
        &self,
        insn: &TracedInsn,
        (port, caller, value): (Port, CallerId, u32),
        ends: bool,
    ) {
        let mut state = self.lock();
        let mut element =
            event(insn, Stage::Element { starts: false, ends }, Some(port), caller, Some(value));
        let starts = state.started.is_some_and(|(_, started)| started.code == element.code);
        if starts {
            state.started = None;
            self.progress.set(Pending::Nothing);
        }
        self.settle(&mut state);
        if self.is_covered(&mut state, code(insn), insn.form.direction(), Some(port)) {
            element.stage = Stage::Element { starts, ends };
            let host = self.now(&mut state);
            self.encode(&mut state, host, &element);
        }
    }

    /// A hypercall has accessed a port. It `completes` a call of one element.
    pub fn call_access(
        &self,
        call: Call,
        port: Port,
        value: u32,
        origin: &CallOrigin,
        completes: bool,
    ) {
        let Some((direction, width)) = call.port_io() else { return };
        let mut state = self.lock();
        self.settle(&mut state);
        let kind = match origin.key.at {
            CallAt::Instruction => CodeKind::Call,
            CallAt::Return => CodeKind::CallFrom,
        };
        let value = width.low_bytes(value);
        if !self.is_covered(&mut state, Code { pc: origin.key.pc, kind }, direction, Some(port))
            || !self.trace.filter.get().covers_value(Some(value))
        {
            return;
        }
        let (code, stack) = (call_code(origin), origin.caller.number());
        let process = traced_process(origin.process);
        let event = CallEvent::Access { call, port, value, code, stack, process, completes };
        self.encode_call(&mut state, event);
    }

    /// Hypercalls have ended: their number, and the bytes that they moved beside those of accesses.
    pub fn calls_ended(
        &self,
        call: Call,
        outcome: Outcome,
        (count, bytes): (u64, u64),
        origin: &CallOrigin,
    ) {
        if !self.trace.filter.covers_all() {
            return;
        }
        let outcome = match outcome {
            Outcome::Ok => format::CallOutcome::Ok,
            Outcome::Declined => format::CallOutcome::Declined,
            Outcome::Denied => format::CallOutcome::Denied,
            Outcome::Error => format::CallOutcome::Error,
        };
        let mut state = self.lock();
        self.settle(&mut state);
        let code = call_code(origin);
        self.encode_call(&mut state, CallEvent::Ended { call, outcome, count, bytes, code });
    }

    fn encode_call(&self, state: &mut State, event: CallEvent) {
        let host = self.now(state);
        state.stream.encoder.call(host, event, &self.definitions);
        self.seal_if_full(state);
    }

    /// Changes a window by `change` for a hypercall, and traces that if it succeeds.
    ///
    /// Events of windows have the order of the changes. What other vCPUs have counted before has an earlier time.
    pub fn window<E>(
        &self,
        window: &WindowEvent,
        origin: &CallOrigin,
        change: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        self.settled();
        let _in_order = lock(&self.trace.windows);
        change()?;
        let mut state = self.lock();
        let host = self.now(&mut state);
        let code = call_code(origin);
        state.stream.encoder.window_by_call(host, window, code, &self.definitions);
        self.seal_if_full(&mut state);
        Ok(())
    }

    /// Keeps the presumed outcome of the pending event, because a request from outside the guest has counted it.
    pub(super) fn keep_presumption(&self) {
        self.lock().is_presumption_kept = true;
    }

    #[inline]
    fn lock(&self) -> SpinMutexGuard<'_, State, Yield> {
        self.state.lock()
    }

    /// The time of an event. Notes by how much the guest's clock is ahead.
    #[inline]
    fn now(&self, state: &mut State) -> u64 {
        if !state.is_writing {
            state.is_writing = true;
            self.trace.writer.start();
        }
        state.stream.now(&self.trace.clocks)
    }

    #[inline]
    fn is_covered(
        &self,
        state: &mut State,
        code: Code,
        direction: Direction,
        port: Option<Port>,
    ) -> bool {
        self.trace.filter.covers_all() || state.coverage.covers(&self.trace, code, direction, port)
    }

    /// Encodes what is pending.
    #[inline]
    fn settle(&self, state: &mut State) {
        match self.progress.get() {
            Pending::Nothing => {}
            Pending::Retired { .. } => self.settle_retired(state),
            Pending::Open | Pending::Started => self.settle_open(state),
        }
    }

    /// Encodes what is pending, if it has retired.
    #[inline]
    fn settle_retired(&self, state: &mut State) {
        if let Pending::Retired { eax } = self.progress.get() {
            self.progress.set(Pending::Nothing);
            note_value(state, || eax);
            if let Some((host, event)) = state.pending.take() {
                self.add(state, host, &event);
            }
        }
    }

    #[inline(never)]
    fn settle_open(&self, state: &mut State) {
        self.progress.set(Pending::Nothing);
        if let Some((host, event)) = state.pending.take() {
            self.encode(state, host, &event);
        }
        if let Some((host, event)) = state.started.take()
            && self.covers_all()
        {
            self.encode(state, host, &event);
        }
    }

    fn encode(&self, state: &mut State, host: u64, event: &InsnEvent) {
        if self.covers_all() || self.trace.filter.get().covers_value(event.value) {
            self.add(state, host, event);
        }
    }

    /// Adds an event that the filters cover.
    #[inline]
    fn add(&self, state: &mut State, host: u64, event: &InsnEvent) {
        state.stream.encoder.insn(host, event, &self.definitions);
        self.seal_if_full(state);
    }

    #[inline]
    fn seal_if_full(&self, state: &mut State) {
        if state.stream.encoder.len() >= FULL
            && let Some(chunk) = state.stream.seal()
        {
            // Within the lock, so that chunks are written in their order.
            self.trace.writer.push(chunk);
        }
    }

    /// Takes the events so far, unless the vCPU adds one just now.
    pub(super) fn try_take(&self) -> Option<Vec<u8>> {
        let mut state = self.state.try_lock()?;
        self.settle_retired(&mut state);
        state.stream.seal()
    }

    /// Hands all events over, when the machine has ended.
    pub(super) fn finish(&self) -> StreamEnd {
        let mut state = self.lock();
        self.settle(&mut state);
        if let Some(chunk) = state.stream.seal() {
            self.trace.writer.push(chunk);
        }
        state.stream.end()
    }
}

fn note_value(state: &mut State, eax: impl FnOnce() -> u32) {
    if let Some((_, pending)) = &mut state.pending
        && pending.value.is_none()
    {
        pending.value = pending.form.size().low_bytes(eax());
    }
}
