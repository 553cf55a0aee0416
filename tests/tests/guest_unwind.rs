//! Call chains and processes of distributions' kernels, from registers and guest memory alone, compared
//! with what the kernels say themselves.

#[path = "guest_unwind/linux.rs"]
mod linux;

use std::ops::Range;

use linux::{Debugger, Guest};
use pvio::guest::{Chain, End, Frame, Kernel, MOST_FRAMES, Process, Processes, Start, unwind};

/// Tasks that sleep in different places, and one that runs; then what the kernel says of each.
const TASKS: &str = "
mkfifo /fifo
sleep 1000 &
cat /fifo &
cat /dev/ttyS1 &
sh -c 'read line < /fifo' &
{ sleep 1001; echo; } | cat &
yes > /dev/null &
yes=$!
sleep 2
{
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
} > /dev/ttyS1
sleep 1000
";

/// A task that does not run.
struct Sleeping {
    process: Process,
    start: Start,
}

/// All tasks of the list that begins with `init_task`.
fn tasks(guest: &Guest, kernel: &Kernel, processes: &Processes) -> Vec<Sleeping> {
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
        // A switched-out task has its registers, and the address at which it goes on, on its stack.
        let frame = word(task + sp);
        let [bp, ip, place] =
            kernel.members(ram, "inactive_task_frame", ["bp", "ret_addr", "flags"]).unwrap();
        assert!(place.is_none());
        let (bp, ip) = (frame + u64::from(bp.unwrap()), frame + u64::from(ip.unwrap()));
        let start = Start::flat(word(ip), ip + 8, word(bp));
        let process = processes.at(task, &mut |at, into| kernel.read_linear(ram, at, into));
        found.push(Sleeping { process: process.unwrap(), start });
        task = word(task + list) - list;
    }
    found
}

/// A chain as the kernel prints it, without the functions of the scheduler.
fn printed(kernel: &Kernel, chain: &Chain, scheduler: &Range<u64>) -> Vec<String> {
    let frames = chain.frames.iter().filter(|frame| !scheduler.contains(&frame.address()));
    frames.map(|frame| name(kernel, *frame)).collect()
}

fn name(kernel: &Kernel, frame: Frame) -> String {
    let after = u64::from(matches!(frame, Frame::Return(_)));
    let Some(name) = kernel.name(frame.address()) else { return format!("{frame:x?}") };
    format!("{}+{:#x}", name.symbol, name.offset + after)
}

fn check_tasks(options: &[&str], append: &str) {
    let mut guest = Guest::boot(options, append, TASKS);
    let cpu = guest.stop(|cpu| cpu.is_in_user_mode());
    let kernel = guest.kernel();
    let processes = Processes::find(&kernel, &guest.ram).expect("types");
    let scheduler = guest.symbol("__sched_text_start")..guest.symbol("__sched_text_end");
    let ram = &guest.ram;
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(ram, at, into);
    let (mut same, mut threads) = (0, 0);
    for task in tasks(&guest, &kernel, &processes) {
        let Process { pid, comm, is_kernel_thread, .. } = &task.process;
        let part = format!("task {pid}");
        // What began later is not there.
        if !guest.said.contains(&format!("\n{part}:\n")) {
            continue;
        }
        let mut lines = guest.part(&part);
        let their_comm = lines.next().unwrap();
        match is_kernel_thread {
            // The kernel has longer names for its own threads.
            true => assert!(their_comm.starts_with(&**comm), "{comm}: {their_comm}"),
            false => assert_eq!(their_comm, comm),
        }
        let theirs: Vec<String> = lines
            .map(|line| {
                let (_, name) = line.split_once("] ").unwrap_or_else(|| panic!("{line}"));
                name.split('/').next().unwrap().to_owned()
            })
            .collect();
        let unwound = unwind(Some(&kernel), &task.start, MOST_FRAMES, &mut read);
        let ours = printed(&kernel, &unwound.chain, &scheduler);
        if comm == "yes" {
            continue;
        }
        if ours != theirs {
            println!("{pid} {comm}: {ours:?} {:?} is not {theirs:?}", unwound.chain.end);
            continue;
        }
        let end = if *is_kernel_thread { End::Bottom } else { End::UserMode };
        assert_eq!(unwound.chain.end, end, "{comm}: {ours:?}");
        assert!(unwound.recipe.matches(&task.start, &mut read));
        same += 1;
        threads += u32::from(*is_kernel_thread);
    }
    println!("{same} are the same, {threads} of them kernel threads");
    assert!(same - threads >= 6 && threads > 15);
    let base = processes.base_of(0, &mut read).unwrap();
    let current = processes.current(&[1, base], &mut read).unwrap();
    println!(
        "{current:?} {:?} {:?}",
        processes.executable(&current, &mut read),
        processes.mapping(&current, cpu.get("RIP"), &mut read)
    );
}

#[test]
fn tasks_of_linux_6_1() {
    check_tasks(&["--suite", "bookworm"], "pti=on");
}

#[test]
fn tasks_of_linux_5_10() {
    check_tasks(&["--suite", "bullseye"], "pti=on");
}

#[test]
fn tasks_of_linux_6_12() {
    check_tasks(&["--suite", "trixie"], "pti=off");
}

#[test]
fn tasks_of_the_newest_linux() {
    check_tasks(&["--suite", "trixie-backports"], "pti=on");
}

/// Makes accesses again and again, and panics at an NMI: the kernel says where it was.
const ACCESSES: &str = "
echo 1 > /proc/sys/kernel/unknown_nmi_panic
echo 0 > /proc/sys/kernel/panic
{
    echo
    echo symbols:
    grep -E ' (io_serial_out|pci_conf1_read|mc146818_get_time)$' /proc/kallsyms
    echo
    echo ready
} > /dev/ttyS1
sleep 1
while :; do
    cat /sys/bus/pci/devices/0000:00:00.0/config > /dev/null
    cat /sys/class/rtc/rtc0/time > /dev/null
    echo a line that is written > /dev/ttyS1
done
";

/// Stops at a function, and compares with what the kernel prints of the same moment.
fn check_access(options: &[&str], append: &str, function: &str) {
    let mut guest = Guest::boot(options, append, ACCESSES);
    let mut debugger = Debugger::attach(&mut guest);
    debugger.run_to(guest.symbol(function));
    let cpu = guest.cpu();
    let kernel = guest.kernel();
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest.ram, at, into);
    let start = cpu.start();
    let unwound = unwind(Some(&kernel), &start, MOST_FRAMES, &mut read);
    assert_eq!(kernel.name(start.ip).map(|name| (name.symbol, name.offset)), Some((function, 0)));
    let ours: Vec<String> = unwound
        .chain
        .frames
        .iter()
        .map(|&frame| match frame {
            Frame::Return(_) => name(&kernel, frame),
            Frame::Interrupted(_) => format!("at {}", name(&kernel, frame)),
        })
        .collect();
    assert!(unwound.recipe.matches(&start, &mut read));
    guest.monitor.ask("nmi");
    debugger.go_on();
    guest.wait_for(|guest| guest.console().contains("---[ end Kernel panic"));
    let console = guest.console();
    println!("{ours:#?} {:?} {}", unwound.chain.end, unwound.recipe.words());
    println!("{}", console.split_once("NMI received").unwrap().1);
}

#[test]
fn callers_of_pci_conf1_read_in_linux_6_1() {
    check_access(&["--suite", "bookworm"], "pti=on", "pci_conf1_read");
}

#[test]
fn callers_of_io_serial_out_in_linux_6_12() {
    check_access(&["--suite", "trixie"], "pti=off", "io_serial_out");
}

#[test]
fn callers_of_mc146818_get_time_in_the_newest_linux() {
    check_access(&["--suite", "trixie-backports"], "pti=on", "mc146818_get_time");
}

#[test]
fn callers_of_pci_conf1_read_in_a_32_bit_linux() {
    check_access(&["--suite", "bookworm", "--arch", "i386"], "", "pci_conf1_read");
}
