//! Tasks that sleep and a task that runs, compared with what `/proc` says about them.

use std::ops::Range;

use pvio::guest::{Chain, End, Kernel, MOST_FRAMES, Process, Processes, Start, unwind};
use pvio_tests::linux::BootedLinux;
use pvio_tests::{parse_hex, wait_until};

use super::frame_name;

/// Starts tasks that sleep in different places and one that runs. Sends what the kernel says about each.
pub(super) const TASKS: &str = "
mkfifo /fifo
sleep 1000 &
cat /fifo &
cat /dev/ttyS1 &
sh -c 'read line < /fifo' &
{ sleep 1001; echo; } | cat &
yes > /dev/null &
yes=$!
{
    sleep 2
    echo
    echo printer:
    read printer rest < /proc/self/stat
    echo $printer
    echo
    echo symbols:
    grep -E ' (init_task|__sched_text_start|__sched_text_end)$' /proc/kallsyms
    echo
    echo maps:
    cat /proc/$yes/maps
    echo
    for task in /proc/[0-9]*; do
        echo task ${task#/proc/}:
        cat $task/comm
        cat $task/stack
        echo
    done
    echo ready
    sleep 1000
} > /dev/ttyS1 &
wait
";

/// A task that does not run.
pub(super) struct SleepingTask {
    pub(super) process: Process,
    /// The registers at which unwinding starts.
    pub(super) start: Start,
}

/// All tasks in the list that starts at `init_task`, without `init_task` itself.
pub(super) fn sleeping_tasks(
    guest: &BootedLinux,
    kernel: &Kernel,
    processes: &Processes,
) -> Vec<SleepingTask> {
    let ram = &guest.ram;
    let word = |address: u64| {
        let mut bytes = [0; 8];
        assert!(kernel.read_linear(ram, address, &mut bytes), "{address:#x}");
        u64::from_le_bytes(bytes)
    };
    let member = |structure: &str, member: &str| {
        let [place] = kernel.members(ram, structure, [member]).unwrap();
        u64::from(place.unwrap_or_else(|| panic!("{structure}.{member}")))
    };
    let list = member("task_struct", "tasks");
    let sp = member("task_struct", "thread") + member("thread_struct", "sp");
    let init_task = guest.symbol("init_task");
    let mut found = Vec::new();
    let mut task = word(init_task + list) - list;
    while task != init_task {
        // A task that does not run has its registers and its resume address on its stack.
        let frame = word(task + sp);
        let [bp, ip, place] =
            kernel.members(ram, "inactive_task_frame", ["bp", "ret_addr", "flags"]).unwrap();
        assert!(place.is_none());
        let (bp, ip) = (frame + u64::from(bp.unwrap()), frame + u64::from(ip.unwrap()));
        let start = Start::flat(word(ip), ip + 8, word(bp));
        let process = processes.at(task, &mut |at, into| kernel.read_linear(ram, at, into));
        found.push(SleepingTask { process: process.unwrap(), start });
        task = word(task + list) - list;
    }
    found
}

/// The names in a chain, as `/proc/PID/stack` prints them: without the scheduler's functions.
fn without_scheduler(kernel: &Kernel, chain: &Chain, scheduler: &Range<u64>) -> Vec<String> {
    let frames = chain.frames.iter().filter(|frame| !scheduler.contains(&frame.address()));
    frames.map(|frame| frame_name(kernel, *frame)).collect()
}

/// Boots a kernel and compares each of its tasks.
fn check_tasks(options: &[&str], append: &str) {
    let mut guest = BootedLinux::boot(options, append, TASKS);
    let mut cpu = guest.stop(|cpu| cpu.is_in_user_mode());
    let kernel = guest.kernel();
    let processes = Processes::find(&kernel, &guest.ram).expect("types");
    let current = |guest: &BootedLinux| {
        let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest.ram, at, into);
        let base = processes.base_of(0, &mut read).unwrap();
        assert_eq!(processes.current(&[base + 1, 0], &mut read), None);
        processes.current(&[1, base], &mut read).unwrap()
    };
    // When `yes` runs in user mode, the tasks that sleep do sleep.
    wait_until(
        || {
            let is_yes = current(&guest).comm == "yes";
            if !is_yes {
                guest.monitor.cont();
                cpu = guest.stop(|cpu| cpu.is_in_user_mode());
            }
            is_yes
        },
        || "the task `yes` never runs".to_owned(),
    );
    let current = current(&guest);
    check_sleeping(&guest, &kernel, &processes);
    check_running(&guest, &kernel, &processes, &current, cpu.get("RIP"));
}

/// Compares the call chains of the tasks that sleep.
fn check_sleeping(guest: &BootedLinux, kernel: &Kernel, processes: &Processes) {
    let scheduler = guest.symbol("__sched_text_start")..guest.symbol("__sched_text_end");
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest.ram, at, into);
    let printer = guest.part("printer").next();
    let (mut programs, mut threads, mut moved) = (0, 0, 0);
    for task in sleeping_tasks(guest, kernel, processes) {
        let Process { pid, comm, is_kernel_thread, .. } = &task.process;
        // `yes` and the printer of the report run, or have run since.
        if comm == "yes" || Some(&*pid.to_string()) == printer {
            continue;
        }
        // A task that started after the report is not in it.
        let Some(mut lines) = guest.find_part(&format!("task {pid}")) else { continue };
        let their_comm = lines.next().unwrap();
        match is_kernel_thread {
            // For its own threads the kernel has names that are longer than `comm`.
            true => assert!(their_comm.starts_with(&**comm), "{comm}: {their_comm}"),
            false => assert_eq!(their_comm, comm),
        }
        let theirs: Vec<String> = lines
            .map(|line| {
                let (_, name) = line.split_once("] ").unwrap_or_else(|| panic!("{line}"));
                name.split('/').next().unwrap().to_owned()
            })
            .collect();
        let unwound = unwind(Some(kernel), &task.start, MOST_FRAMES, &mut read);
        let ours = without_scheduler(kernel, &unwound.chain, &scheduler);
        // RCU's thread wakes up from time to time.
        if ours != theirs && comm.starts_with("rcu_") {
            moved += 1;
            continue;
        }
        assert_eq!(ours, theirs, "{pid} {comm}: {:?}", unwound.chain.end);
        let end = if *is_kernel_thread { End::Bottom } else { End::UserMode };
        assert_eq!(unwound.chain.end, end, "{comm}: {ours:?}");
        assert!(unwound.recipe.matches(&task.start, &mut read));
        *(if *is_kernel_thread { &mut threads } else { &mut programs }) += 1;
    }
    println!("same chains: {programs} programs, {threads} kernel threads; {moved} have moved");
    assert!(programs >= 6 && threads > 15 && moved < 3);
}

/// Compares the task that runs, `yes`, and its mappings.
fn check_running(
    guest: &BootedLinux,
    kernel: &Kernel,
    processes: &Processes,
    current: &Process,
    pc: u64,
) {
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest.ram, at, into);
    assert_eq!((&*current.comm, current.is_kernel_thread), ("yes", false));
    assert_eq!(guest.part(&format!("task {}", current.pid)).next(), Some("yes"));
    assert_eq!(current.tgid, current.pid);
    assert_eq!(processes.executable(current, &mut read).as_deref(), Some("/bin/busybox"));
    check_mappings(guest, processes, current, &mut read);
    let code = processes.mapping(current, pc, &mut read).unwrap();
    assert_eq!(code.path.as_deref(), Some("/bin/busybox"));
}

/// Compares the mappings of a process with its `/proc/PID/maps`.
fn check_mappings(
    guest: &BootedLinux,
    processes: &Processes,
    process: &Process,
    read: &mut impl FnMut(u64, &mut [u8]) -> bool,
) {
    let mut mappings = 0;
    for line in guest.part("maps") {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap();
        let (start, end) = (parse_hex(start), parse_hex(end));
        // The kernel maps this page; it is not a mapping of the process.
        if words.get(5) == Some(&"[vsyscall]") {
            continue;
        }
        for address in [start, end - 1] {
            let mapping = processes.mapping(process, address, read).expect(line);
            assert_eq!((mapping.start, mapping.end), (start, end), "{line}");
            let path = words.get(5).filter(|path| path.starts_with('/'));
            assert_eq!(mapping.path.as_deref(), path.copied(), "{line}");
            if path.is_some() {
                assert_eq!(mapping.file_offset, parse_hex(words[2]), "{line}");
            }
        }
        mappings += 1;
    }
    assert!(mappings >= 5, "{mappings}");
    assert_eq!(processes.mapping(process, 0x1000, read), None);
}

#[test]
fn chains_of_sleeping_tasks_are_those_of_linux_6_1() {
    check_tasks(&["--suite", "bookworm"], "pti=on");
}

#[test]
fn chains_of_sleeping_tasks_are_those_of_linux_5_10() {
    check_tasks(&["--suite", "bullseye"], "pti=on");
}

#[test]
fn chains_of_sleeping_tasks_are_those_of_linux_6_12() {
    check_tasks(&["--suite", "trixie"], "pti=off");
}

#[test]
fn chains_of_sleeping_tasks_are_those_of_the_newest_linux() {
    check_tasks(&["--suite", "trixie-backports"], "pti=on");
}
