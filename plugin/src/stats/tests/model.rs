//! A model of the statistics, which adds every count to each open window.

use std::collections::BTreeMap;

use super::*;

/// Counts by name, without zeros.
pub(super) type Counts<N> = BTreeMap<String, N>;

/// The counts of all rows, by the names that the model uses.
pub(super) fn counts_in(tables: &Tables) -> Counts<u64> {
    let mut counts = Counts::new();
    let mut put = |name: String, count| assert!(counts.insert(name, count).is_none());
    for row in &tables.vcpus {
        put(format!("vcpu {} executions", row.vcpu), row.executions);
        put(format!("vcpu {} accesses", row.vcpu), row.accesses);
        put(format!("vcpu {} hypercalls", row.vcpu), row.hypercalls);
    }
    for row in &tables.forms {
        put(format!("{} attempts", row.form), row.attempts);
        put(format!("{} executions", row.form), row.executions);
        put(format!("{} accesses", row.form), row.accesses);
        put(format!("{} faults", row.form), row.faults.unwrap());
        put(format!("{} exits", row.form), row.exits.unwrap());
        put(format!("{} unverified", row.form), row.unverified);
    }
    for row in &tables.forms_undecided {
        put(format!("{} attempts", row.form), row.attempts);
        put(format!("{} executions", row.form), row.executions);
        put(format!("{} accesses", row.form), row.accesses);
        put(format!("{} faults", row.form), row.faults.unwrap());
        put(format!("{} exits", row.form), row.exits.unwrap());
        put(format!("{} unverified", row.form), row.unverified);
    }
    for row in &tables.ports {
        let name = format!("{} {} {}", row.port, row.dir, row.size);
        assert_eq!(if row.port.0.is_multiple_of(2) { row.qemu } else { row.device }, 0);
        put(format!("{name} accesses"), row.device + row.qemu);
        put(format!("{name} unverified"), row.unverified);
        put(format!("{name} hypercall"), row.hypercall);
    }
    let sites = tables.sites.iter().map(|row| (&*row.pc, row.counts));
    for (pc, row) in sites.chain([("dropped", tables.sites_dropped_counts)]) {
        put(format!("site {pc} executions"), row.executions);
        put(format!("site {pc} accesses"), row.accesses);
        put(format!("site {pc} unverified"), row.unverified);
    }
    for row in &tables.accesses {
        let (site, size) = (&tables.sites[row.site].pc, row.size);
        let name = format!("site {site} {} {} {size}", row.port, row.dir);
        put(format!("{name} accesses"), row.counts.accesses);
        put(format!("{name} unverified"), row.counts.unverified);
    }
    put("accesses dropped".into(), tables.accesses_dropped.accesses);
    put("unverified dropped".into(), tables.accesses_dropped.unverified);
    for row in &tables.hypercalls {
        put(format!("{} count", row.call), row.count);
        put(format!("{} bytes", row.call), row.bytes);
        put(format!("{} declined", row.call), row.declined);
        put(format!("{} denied", row.call), row.denied);
        put(format!("{} errors", row.call), row.errors);
    }
    for row in &tables.call_sites {
        let name = format!("call site {} {}", row.pc, row.call);
        put(format!("{name} calls"), row.counts.calls);
        put(format!("{name} accesses"), row.counts.accesses);
        put(format!("{name} bytes"), row.counts.bytes);
    }
    put("call site dropped calls".into(), tables.call_sites_dropped_counts.calls);
    put("call site dropped accesses".into(), tables.call_sites_dropped_counts.accesses);
    put("call site dropped bytes".into(), tables.call_sites_dropped_counts.bytes);
    for row in &tables.call_accesses {
        let site = &tables.call_sites[row.site];
        let name = format!("call site {} {} {} {}", site.pc, site.call, row.port, row.dir);
        put(format!("{name} {} accesses", row.size), row.accesses);
    }
    put("call accesses dropped".into(), tables.call_accesses_dropped);
    counts.retain(|_, count| *count != 0);
    counts
}

#[derive(Default)]
struct ModelWindow {
    entries: u64,
    open: bool,
    counts: Counts<i64>,
}

/// The expected statistics.
#[derive(Default)]
pub(super) struct Model {
    totals: Counts<i64>,
    windows: BTreeMap<String, ModelWindow>,
}

impl Model {
    pub fn add(&mut self, name: impl Into<String>, count: i64) {
        let name = name.into();
        for window in self.windows.values_mut().filter(|window| window.open) {
            *window.counts.entry(name.clone()).or_default() += count;
        }
        *self.totals.entry(name).or_default() += count;
    }

    pub fn execution(&mut self, vcpu: u32, form: InsnForm, site: &str, sign: i64) {
        self.add(format!("vcpu {vcpu} executions"), sign);
        self.add(format!("{form} executions"), sign);
        self.add(format!("site {site} executions"), sign);
    }

    pub fn access(&mut self, vcpu: u32, form: InsnForm, site: &str, port: Port, sign: i64) {
        self.add(format!("vcpu {vcpu} accesses"), sign);
        self.add(format!("{form} accesses"), sign);
        self.add(format!("site {site} accesses"), sign);
        let (dir, size) = (form.direction(), form.size());
        self.add(format!("{port} {dir} {size} accesses"), sign);
        self.by_site_and_port("accesses", form, site, port, sign);
    }

    pub fn by_site_and_port(
        &mut self,
        what: &str,
        form: InsnForm,
        site: &str,
        port: Port,
        sign: i64,
    ) {
        let (dir, size) = (form.direction(), form.size());
        match site {
            "dropped" => self.add(format!("{what} dropped"), sign),
            _ => self.add(format!("site {site} {port} {dir} {size} {what}"), sign),
        }
    }

    pub fn hypercall(&mut self, vcpu: u32, (site, call): (&str, Call), outcome: Outcome) {
        self.add(format!("vcpu {vcpu} hypercalls"), 1);
        self.add(format!("{call} count"), 1);
        self.by_call_site(site, call, "calls", 1);
        match outcome {
            Outcome::Ok => {}
            Outcome::Declined => self.add(format!("{call} declined"), 1),
            Outcome::Denied => self.add(format!("{call} denied"), 1),
            Outcome::Error => self.add(format!("{call} errors"), 1),
        }
    }

    pub fn hypercall_access(&mut self, (site, call): (&str, Call), port: Port, count: i64) {
        let (direction, width) = call.port_io().unwrap();
        let size = width.bytes();
        self.add(format!("{port} {direction} {size} hypercall"), count);
        self.hypercall_bytes((site, call), count * i64::from(size));
        self.by_call_site(site, call, "accesses", count);
        match site {
            "dropped" => self.add("call accesses dropped", count),
            _ => {
                let name = format!("call site {site} {call} {port} {direction} {size} accesses");
                self.add(name, count);
            }
        }
    }

    pub fn hypercall_bytes(&mut self, (site, call): (&str, Call), bytes: i64) {
        self.add(format!("{call} bytes"), bytes);
        self.by_call_site(site, call, "bytes", bytes);
    }

    fn by_call_site(&mut self, site: &str, call: Call, what: &str, count: i64) {
        match site {
            "dropped" => self.add(format!("call site dropped {what}"), count),
            _ => self.add(format!("call site {site} {call} {what}"), count),
        }
    }

    pub fn is_open(&self, name: &str) -> bool {
        self.windows.get(name).is_some_and(|window| window.open)
    }

    pub fn begin(&mut self, name: &str) -> Result<(), WindowError> {
        let window = self.windows.entry(name.into()).or_default();
        if std::mem::replace(&mut window.open, true) {
            return Err(WindowError::Open);
        }
        window.entries += 1;
        Ok(())
    }

    pub fn end(&mut self, name: &str) -> Result<(), WindowError> {
        let open = self.windows.get_mut(name).filter(|window| window.open);
        open.map(|window| window.open = false).ok_or(WindowError::NotOpen)
    }

    pub fn reset(&mut self) {
        self.totals.clear();
        self.windows.retain(|_, window| window.open);
        for window in self.windows.values_mut() {
            *window = ModelWindow { entries: 1, open: true, counts: Counts::new() };
        }
    }

    pub fn assert_is(&self, snapshot: &Snapshot) {
        let clamped = |counts: &Counts<i64>| -> Counts<u64> {
            let positive = counts.iter().filter(|(_, count)| **count > 0);
            positive.map(|(name, &count)| (name.clone(), count as u64)).collect()
        };
        assert_eq!(counts_in(snapshot), clamped(&self.totals));
        assert_eq!(snapshot.windows.len(), self.windows.len());
        for row in &snapshot.windows {
            let window = &self.windows[&row.name];
            assert_eq!((row.entries, row.open), (window.entries, window.open), "{}", row.name);
            assert_eq!(counts_in(row), clamped(&window.counts), "{}", row.name);
        }
    }
}
