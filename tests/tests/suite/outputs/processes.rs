//! `processes=on` counts accesses by process, and code of a program as one site wherever Linux loads it. The counts are
//! compared with what the guest's programs print about themselves.

use pvio::stats::{Counts, ProcessRow, SiteRow, Snapshot};
use pvio_tests::{Host, LinuxGuest, assert_consistent, guest, on_both_qemus, refusal};

on_both_qemus! {
    two_copies_of_a_program_are_two_processes
    a_driver_works_in_the_name_of_a_process
    a_process_is_a_filter_of_the_access_log
    many_runs_of_a_program_are_one_site_for_each_instruction
    a_guest_without_processes_is_told_apart_by_page_tables
    a_qemu_that_shows_no_memory_is_refused
}

/// The report of a run of `tests/guests/linux/task.c` about itself.
struct Task {
    pid: u32,
    comm: String,
    /// The addresses of its two instructions.
    sites: [u64; 2],
    times: u64,
    /// Start, end, offset and path of what is mapped from files.
    maps: Vec<(u64, u64, u64, String)>,
}

impl Task {
    /// Returns the file and offset of an address, by `/proc/self/maps`.
    fn place(&self, address: u64) -> (String, u64) {
        let found = self.maps.iter().find(|(start, end, ..)| (*start..*end).contains(&address));
        let (start, _, offset, path) = found.expect("it is mapped");
        (path.clone(), address - start + offset)
    }
}

fn hex(digits: &str) -> u64 {
    u64::from_str_radix(digits, 16).unwrap()
}

/// The tasks that the console tells of.
fn tasks(console: &str) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for line in console.lines().map(str::trim_end) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (&words[..], tasks.last_mut()) {
            (["task", pid, out, input, times], _) => tasks.push(Task {
                pid: pid.parse().unwrap(),
                comm: String::new(),
                sites: [hex(out), hex(input)],
                times: times.parse().unwrap(),
                maps: Vec::new(),
            }),
            (["comm", comm], Some(task)) => task.comm = (*comm).to_owned(),
            ([range, _, offset, _, _, path], Some(task)) if path.starts_with('/') => {
                let (start, end) = range.split_once('-').unwrap();
                task.maps.push((hex(start), hex(end), hex(offset), (*path).to_owned()));
            }
            _ => {}
        }
    }
    tasks
}

fn boot(host: &Host, script: &str) -> (Snapshot, String) {
    let program = std::fs::read(guest("task")).unwrap();
    let files = [("task", &*program), ("other", &*program)];
    let mut linux = LinuxGuest::new(script, &files).unwrap();
    let arguments = linux.argument("-append");
    *arguments = arguments.replace("nokaslr", "pti=on");
    let symbols = format!("symbols={}", guest("task").display());
    let options = ["device=latch@0x300", "processes=on", "symbols=guest", &symbols];
    let machine = host.machine().plugin(&options);
    let ended = linux.on(machine).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    let stats = ended.stats().unwrap().clone();
    assert_consistent(&stats);
    (stats, ended.stdout)
}

fn process<'a>(stats: &'a Snapshot, pid: u32, comm: &str) -> &'a ProcessRow {
    let is_it = |row: &&ProcessRow| row.pid == Some(pid) && row.comm.as_deref() == Some(comm);
    let mut rows = stats.processes.iter().filter(is_it);
    let row = rows.next().unwrap_or_else(|| panic!("{pid} {comm}: {:#?}", stats.processes));
    assert!(rows.next().is_none(), "{pid} {comm}");
    row
}

/// Retired, or unverified where QEMU does not report faults.
fn begun(counts: Counts) -> u64 {
    counts.executions + counts.unverified
}

/// The site at a place in a file.
fn site<'a>(stats: &'a Snapshot, (path, offset): &(String, u64)) -> &'a SiteRow {
    let offset = format!("{offset:#x}");
    let is_it =
        |row: &&SiteRow| row.file.as_ref() == Some(path) && row.offset.as_ref() == Some(&offset);
    let mut rows = stats.sites.iter().filter(is_it);
    let row = rows.next().unwrap_or_else(|| panic!("{path}+{offset}: {:#?}", stats.sites));
    assert!(rows.next().is_none(), "{path}+{offset}");
    row
}

fn two_copies_of_a_program_are_two_processes(host: &Host) {
    let script = "
/task 40 > /a & /task 25 > /b & wait
/other 7 > /c
cat /a /b /c
";
    let (stats, console) = boot(host, script);
    let tasks = tasks(&console);
    assert_eq!(tasks.len(), 3, "{console}");
    for task in &tasks {
        let row = process(&stats, task.pid, &task.comm);
        // The program writes to a file, so the kernel uses no port for it, but in interrupts.
        let by_user = begun(row.counts) - row.kernel_accesses;
        assert_eq!(by_user, 2 * task.times, "{row:?}");
    }
    let names: Vec<&str> = tasks.iter().map(|task| &*task.comm).collect();
    assert_eq!(names, ["task", "task", "other"]);
    assert_ne!(tasks[0].pid, tasks[1].pid);
    // Both runs of one file are one site for each instruction; the same bytes in another file are another.
    for instruction in 0..2 {
        let places = [0, 1, 2].map(|run: usize| tasks[run].place(tasks[run].sites[instruction]));
        assert_eq!(places[0], places[1]);
        assert_eq!((&*places[0].0, &*places[2].0), ("/task", "/other"));
        assert_eq!(begun(site(&stats, &places[0]).counts), 40 + 25);
        assert_eq!(begun(site(&stats, &places[2]).counts), 7);
    }
    // The names are those of the file of this name; the copy has another.
    for (run, symbols) in [(0, [Some("out_site"), Some("in_site")]), (2, [None, None])] {
        let names = tasks[run].sites.map(|address| site(&stats, &tasks[run].place(address)));
        assert_eq!(names.map(|row| row.symbol.as_deref()), symbols);
    }
    let addresses = [0, 1].map(|run: usize| format!("{:#x}", tasks[run].sites[0]));
    let row = site(&stats, &tasks[0].place(tasks[0].sites[0]));
    assert!(addresses.contains(&row.pc), "{row:?}: {addresses:?}");
}

fn a_driver_works_in_the_name_of_a_process(host: &Host) {
    let script = "
sh -c 'echo reader $$; exec cat /sys/class/rtc/rtc0/time /sys/class/rtc/rtc0/date'
";
    let (stats, console) = boot(host, &["mount -t sysfs sysfs /sys\n", script].concat());
    let line = console.lines().find_map(|line| line.trim().strip_prefix("reader "));
    let pid = line.unwrap_or_else(|| panic!("{console}")).parse().unwrap();
    let row = process(&stats, pid, "cat");
    // The clock's registers, one after another, and what `cat` prints on the console.
    assert!(row.kernel_accesses > 20, "{row:?}");
    assert_eq!(row.kernel_accesses, row.counts.accesses);
    // Before the kernel is known there is no process.
    assert!(stats.processes.iter().any(|row| row.pid.is_none()));
    // The first process, when it was not yet the program `init`, as `ps` shows it.
    assert!(process(&stats, 1, "swapper/0").kernel_accesses > 1000);
}

/// Each filter for a process selects the same lines of the log.
fn a_process_is_a_filter_of_the_access_log(host: &Host) {
    let program = std::fs::read(guest("task")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    for filter in ["process=task", "0x300:-process=sh"] {
        let linux = LinuxGuest::new("/task 40 > /a; cat /a", &[("task", &program)]).unwrap();
        let option = format!("access-log={}:{filter}", log.display());
        let ended = linux.on(host.machine().plugin(&[&option, "summary=off"])).run().unwrap();
        assert!(ended.stats().unwrap().processes.is_empty(), "they are not counted");
        let tasks = tasks(&ended.stdout);
        let [task] = &tasks[..] else { panic!("{}", ended.stdout) };
        let mut counts = [0; 2];
        for line in std::fs::read_to_string(&log).unwrap().lines().skip(1) {
            let parts: Vec<&str> = line.split('\t').collect();
            assert_eq!(parts[2], format!("{}/task", task.pid), "{line}");
            let pc = parts[0].split_whitespace().nth(2).unwrap();
            let pc = hex(pc.strip_prefix("0x").unwrap());
            if let Some(index) = task.sites.iter().position(|&site| site == pc) {
                counts[index] += 1;
            } else {
                assert!(pc >> 63 == 1, "{line}");
            }
        }
        assert_eq!(counts, [40, 40], "{filter}");
    }
}

fn many_runs_of_a_program_are_one_site_for_each_instruction(host: &Host) {
    let script = "
i=0; while [ $i -lt 150 ]; do /task 2 >> /runs; i=$((i + 1)); done
grep ^task /runs
/task 1
";
    let (stats, console) = boot(host, script);
    let tasks = tasks(&console);
    assert_eq!(tasks.len(), 151);
    let mut addresses: Vec<u64> = tasks.iter().map(|task| task.sites[0]).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert!(addresses.len() > 140, "{addresses:x?}");
    let last = tasks.last().unwrap();
    for address in last.sites {
        assert_eq!(begun(site(&stats, &last.place(address)).counts), 2 * 150 + 1);
    }
    assert_eq!(stats.sites.iter().filter(|row| row.file.is_some()).count(), 2);
    assert_eq!(stats.sites_dropped, 0);
    for address in addresses {
        let is_there = |row: &&SiteRow| row.file.is_none() && row.address() == Some(address);
        assert_eq!(stats.sites.iter().find(is_there), None);
    }
}

fn a_guest_without_processes_is_told_apart_by_page_tables(host: &Host) {
    let machine = host.machine().plugin(&["summary=off", "processes=on"]);
    let ended = machine.bare_guest(&guest("forms.bin")).run().unwrap();
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let unpaged = stats.processes.iter().find(|row| row.cr3.is_none()).expect("real mode");
    let paged: Vec<&ProcessRow> = stats.processes.iter().filter(|row| row.cr3.is_some()).collect();
    assert!(unpaged.counts.accesses > 0 && !paged.is_empty(), "{:#?}", stats.processes);
    assert!(stats.processes.iter().all(|row| row.pid.is_none() && row.comm.is_none()));
    let of_64_bit_code =
        stats.sites.iter().filter(|row| row.mode.is_some_and(|mode| mode.bits() == 64));
    let in_long_mode: u64 = of_64_bit_code.map(|row| row.counts.accesses).sum();
    // Long mode has paging.
    let accesses: u64 = paged.iter().map(|row| row.counts.accesses).sum();
    assert!(accesses >= in_long_mode && in_long_mode > 0, "{accesses} {in_long_mode}");
}

fn a_qemu_that_shows_no_memory_is_refused(host: &Host) {
    let machine = host.machine().env("PVIO_TEST_WITHOUT_EXPORTS", "1").plugin(&["processes=on"]);
    let line = refusal(&machine.bare_guest(&guest("poweroff.bin")).run().unwrap());
    assert!(
        line.starts_with("pvio: option \"processes\": this QEMU does not let plugins"),
        "{line}"
    );
}
