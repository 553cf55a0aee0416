//! Decides which events of a vCPU the filters cover.

use super::Trace;
use crate::access_log::Code;
use crate::processes::ProcessReader;
use crate::running_kernel::KernelView;
use crate::x86::{Direction, Port};

/// One vCPU's data for the decision.
pub(super) struct Coverage {
    /// `None` if the guest's kernel must not name code.
    kernel: Option<KernelView>,
    /// `None` if the filters do not need processes.
    processes: Option<ProcessReader>,
}

impl Coverage {
    pub fn new(trace: &Trace) -> Coverage {
        let filter = &trace.filter;
        let needs_processes = filter.may_change() || filter.get().needs_processes();
        let finder = trace.processes.as_ref().filter(|_| needs_processes);
        Coverage {
            kernel: trace.names.kernel().map(KernelView::new),
            processes: finder.map(|finder| finder.reader()),
        }
    }

    /// Returns true if an event is covered, as far as it is known. An event without a port has no access, and only a trace
    /// without filters records it.
    pub fn covers(
        &mut self,
        trace: &Trace,
        code: Code,
        direction: Direction,
        port: Option<Port>,
    ) -> bool {
        let Some(port) = port else { return false };
        if !trace.filter.covers_port(port, direction) {
            return false;
        }
        let filter = trace.filter.get();
        let symbol = match filter.needs_symbols() {
            true => Some(trace.names.name(code, self.kernel.as_mut())),
            false => None,
        };
        let name = || symbol.and_then(|symbol| trace.names.text(symbol));
        if !filter.covers_code(code.pc, name) {
            return false;
        }
        !filter.needs_processes() || {
            let running = self.processes.as_mut().and_then(ProcessReader::running);
            filter.covers_process(running.map(|running| running.owner).as_ref())
        }
    }
}
