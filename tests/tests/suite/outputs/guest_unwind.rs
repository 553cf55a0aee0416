//! Call chains and processes of distributions' kernels, from registers and guest memory alone, compared
//! with what the kernels say themselves.

mod counted;
mod linux;

pub(super) use counted::check_counted;

use std::ops::Range;
use std::time::{Duration, Instant};

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use linux::{Debugger, Guest};
use pvio::guest::{
    Chain, End, Frame, Kernel, MOST_FRAMES, PhysicalMemory, Process, Processes, Start, unwind,
};

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
    let mut cpu = guest.stop(|cpu| cpu.is_in_user_mode());
    let kernel = guest.kernel();
    let processes = Processes::find(&kernel, &guest.ram).expect("types");
    let current = |guest: &Guest| {
        let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest.ram, at, into);
        let base = processes.base_of(0, &mut read).unwrap();
        assert_eq!(processes.current(&[base + 1, 0], &mut read), None);
        processes.current(&[1, base], &mut read).unwrap()
    };
    // The others may not sleep yet.
    for _ in 0..100 {
        if current(&guest).comm == "yes" {
            break;
        }
        guest.monitor.ask("cont");
        std::thread::sleep(Duration::from_millis(50));
        cpu = guest.stop(|cpu| cpu.is_in_user_mode());
    }
    let current = current(&guest);
    let scheduler = guest.symbol("__sched_text_start")..guest.symbol("__sched_text_end");
    let ram = &guest.ram;
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(ram, at, into);
    let (mut same, mut threads, mut moved) = (0, 0, 0);
    for task in tasks(&guest, &kernel, &processes) {
        let Process { pid, comm, is_kernel_thread, .. } = &task.process;
        let part = format!("task {pid}");
        // What began later is not there.
        if !guest.said.contains(&format!("\n{part}:\n")) {
            continue;
        }
        // These two run, or ran since.
        if comm == "yes" || Some(&*pid.to_string()) == guest.part("printer").next() {
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
        // The timer's thread of RCU goes on from time to time.
        if ours != theirs && comm.starts_with("rcu_") {
            moved += 1;
            continue;
        }
        assert_eq!(ours, theirs, "{pid} {comm}: {:?}", unwound.chain.end);
        let end = if *is_kernel_thread { End::Bottom } else { End::UserMode };
        assert_eq!(unwound.chain.end, end, "{comm}: {ours:?}");
        assert!(unwound.recipe.matches(&task.start, &mut read));
        same += 1;
        threads += u32::from(*is_kernel_thread);
    }
    println!("{same} chains are the same, {threads} of them of kernel threads; {moved} moved");
    assert!(same - threads >= 6 && threads > 15 && moved < 3);

    assert_eq!((&*current.comm, current.is_kernel_thread), ("yes", false));
    assert_eq!(guest.part(&format!("task {}", current.pid)).next(), Some("yes"));
    assert_eq!(current.tgid, current.pid);
    assert_eq!(processes.executable(&current, &mut read).as_deref(), Some("/bin/busybox"));
    check_mappings(&guest, &processes, &current, &mut read);
    let code = processes.mapping(&current, cpu.get("RIP"), &mut read).unwrap();
    assert_eq!(code.path.as_deref(), Some("/bin/busybox"));
}

/// Compares the mappings of `yes` with those in `/proc/PID/maps`.
fn check_mappings(
    guest: &Guest,
    processes: &Processes,
    process: &Process,
    read: &mut impl FnMut(u64, &mut [u8]) -> bool,
) {
    let mut mappings = 0;
    for line in guest.part("maps") {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hex = |word: &str| u64::from_str_radix(word, 16).unwrap();
        let (start, end) = words[0].split_once('-').unwrap();
        let (start, end) = (hex(start), hex(end));
        // This one is not of the process.
        if words.get(5) == Some(&"[vsyscall]") {
            continue;
        }
        for address in [start, end - 1] {
            let mapping = processes.mapping(process, address, read).expect(line);
            assert_eq!((mapping.start, mapping.end), (start, end), "{line}");
            let path = words.get(5).filter(|path| path.starts_with('/'));
            assert_eq!(mapping.path.as_deref(), path.copied(), "{line}");
            if path.is_some() {
                assert_eq!(mapping.file_offset, hex(words[2]), "{line}");
            }
        }
        mappings += 1;
    }
    assert!(mappings >= 5, "{mappings}");
    assert_eq!(processes.mapping(process, 0x1000, read), None);
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
    grep -E ' (io_serial_out|pci_conf1_read|mc146818_get_time|rtc_cmos_read|serial8250_interrupt)$' /proc/kallsyms
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

/// A function that only interrupts call. Chains of those that interrupted the kernel are looked at.
const INTERRUPT: &str = "serial8250_interrupt";

/// Stops where a function accesses a port, if it does so itself, and compares with what the kernel prints of
/// the same moment.
fn check_access(options: &[&str], append: &str, function: &str) {
    let mut guest = Guest::boot(options, append, ACCESSES);
    let mut debugger = Debugger::attach(&mut guest);
    let kernel = guest.kernel();
    let address = guest.symbol(function);
    let mut code = [0; 256];
    assert!(kernel.read_linear(&guest.ram, address, &mut code));
    debugger.run_to(address);
    let is_interrupted = |chain: &[String]| chain.iter().any(|name| name.starts_with("at "));
    while !is_interrupted(&check_chain(&mut guest, &kernel)) && function == INTERRUPT {
        debugger.step();
        debugger.run_to(address);
    }
    // Where there is no frame yet, the 32-bit kernel itself leaves a caller out.
    while !guest.is_64_bit && guest.cpu().get("EBP") != guest.cpu().get("ESP") {
        debugger.step();
    }
    let bits = if guest.is_64_bit { 64 } else { 32 };
    let mut decoder = Decoder::with_ip(bits, &code, address, DecoderOptions::NONE);
    let access = decoder.iter().find(|it| matches!(it.mnemonic(), Mnemonic::In | Mnemonic::Out));
    if let Some(access) = access {
        debugger.run_to(access.ip());
    }
    let ours = check_chain(&mut guest, &kernel);
    let processes = Processes::find(&kernel, &guest.ram);
    let gs_base = guest.cpu().base("GS");
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest.ram, at, into);
    let current = processes.map(|processes| processes.current(&[gs_base], &mut read).unwrap());
    // Debian's 32-bit kernel has no types.
    assert_eq!(current.is_some(), guest.is_64_bit);
    guest.monitor.ask("nmi");
    debugger.go_on();
    guest.wait_for(|guest| guest.console().contains("---[ end Kernel panic"));
    let console = guest.console();
    let theirs = printed_by_kernel(&console, function);
    assert_eq!(ours, theirs, "{console}");
    assert!(ours.len() > 5, "{ours:?}");
    if let Some(Process { pid, comm, .. }) = current {
        let (_, panic) = console.split_once("Kernel panic").unwrap();
        assert!(panic.contains(&format!("PID: {pid} Comm: {comm} ")), "{pid} {comm}: {panic}");
    }
}

/// Unwinds from where the guest stopped, and returns the names of the callers.
fn check_chain(guest: &mut Guest, kernel: &Kernel) -> Vec<String> {
    let cpu = guest.cpu();
    let ram = &guest.ram;
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(ram, at, into);
    let start = cpu.start();
    let unwound = unwind(Some(kernel), &start, MOST_FRAMES, &mut read);
    assert!(unwound.recipe.matches(&start, &mut read));
    let is_idle = unwound.chain.end == End::Bottom;
    assert!(is_idle || unwound.chain.end == End::UserMode, "{:x?}", unwound.chain);
    let frames = unwound.chain.frames.iter();
    let name = |&frame: &Frame| match frame {
        Frame::Return(_) => name(kernel, frame),
        Frame::Interrupted(_) => format!("at {}", name(kernel, frame)),
    };
    frames.map(name).collect()
}

/// The callers in a panic at an NMI: what is not marked as a guess, after the place itself.
fn printed_by_kernel(console: &str, function: &str) -> Vec<String> {
    let lines = console.lines().filter_map(|line| Some(line.split_once("] ")?.1.trim()));
    let name = |line: &str| {
        let (name, rest) = line.split_once('/')?;
        (name.contains("+0x") && rest.starts_with("0x")).then(|| name.to_owned())
    };
    let place = |line: &str| {
        let (register, place) = line.split_once("IP: ")?;
        matches!(register, "R" | "E").then(|| place.trim_start_matches("0010:").to_owned())
    };
    let is_start = |line: &&str| place(line).is_some_and(|place| place.starts_with(function));
    let lines = lines.skip_while(|line| !is_start(line)).skip(1);
    let is_user = |line: &str| place(line).is_some_and(|place| name(&place).is_none());
    let lines = lines.take_while(|line| !is_user(line)).filter(|line| !line.starts_with('?'));
    lines
        .filter_map(|line| match place(line) {
            Some(place) => Some(format!("at {}", name(&place)?)),
            None => name(line),
        })
        .collect()
}

#[test]
fn callers_of_io_serial_out_in_linux_6_1() {
    check_access(&["--suite", "bookworm"], "pti=on", "io_serial_out");
}

#[test]
fn callers_of_pci_conf1_read_in_linux_6_12() {
    check_access(&["--suite", "trixie"], "pti=off", "pci_conf1_read");
}

#[test]
fn callers_of_mc146818_get_time_in_the_newest_linux() {
    check_access(&["--suite", "trixie-backports"], "pti=on", "mc146818_get_time");
}

#[test]
fn callers_of_pci_conf1_read_in_a_32_bit_linux() {
    check_access(&["--suite", "bookworm", "--arch", "i386"], "", "pci_conf1_read");
}

#[test]
fn callers_in_an_interrupt_of_linux_6_1() {
    check_access(&["--suite", "bookworm"], "pti=on", INTERRUPT);
}

#[test]
fn callers_in_an_interrupt_of_the_newest_linux() {
    check_access(&["--suite", "trixie-backports"], "pti=off", INTERRUPT);
}

#[test]
fn callers_in_an_interrupt_of_a_32_bit_linux() {
    check_access(&["--suite", "bookworm", "--arch", "i386"], "", INTERRUPT);
}

/// Memory of a guest that is not what its kernel made it.
struct BrokenRam(Vec<u8>);

impl PhysicalMemory for BrokenRam {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        let start = physical as usize;
        let bytes = start.checked_add(into.len()).and_then(|end| self.0.get(start..end));
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.0.len() as u64).collect()
    }
}

/// Bytes anywhere in a kernel's memory are changed: whatever is found of it is bounded, and comes soon.
#[test]
fn broken_memory_does_no_harm() {
    let mut guest = Guest::boot(&["--suite", "trixie"], "pti=off", TASKS);
    let cpu = guest.stop(|cpu| cpu.is_in_user_mode());
    let registers = cpu.registers();
    let kernel = guest.kernel();
    let processes = Processes::find(&kernel, &guest.ram).unwrap();
    let tasks = tasks(&guest, &kernel, &processes);
    let mut ram = BrokenRam(guest.ram.copy());
    let used: Vec<usize> = (0..ram.0.len())
        .step_by(0x1000)
        .filter(|&page| ram.0[page..page + 0x1000].iter().any(|&byte| byte != 0))
        .collect();
    let mut random = fastrand::Rng::with_seed(12);
    for _ in 0..20 {
        for _ in 0..20_000 {
            let page = used[random.usize(..used.len())];
            ram.0[page + random.usize(..0x1000)] = random.u8(..);
        }
        let begin = Instant::now();
        let found = Kernel::find(&ram, &[registers]);
        // What was found before serves as well: the tables change while it is used.
        for kernel in found.iter().chain([&kernel]) {
            let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&ram, at, into);
            for task in &tasks {
                let chain = unwind(Some(kernel), &task.start, MOST_FRAMES, &mut read).chain;
                assert!(chain.frames.len() <= MOST_FRAMES);
            }
            let found = Processes::find(kernel, &ram);
            for processes in found.iter().chain([&processes]) {
                let base = processes.base_of(0, &mut read).unwrap_or_default();
                let current = processes.current(&[base], &mut read);
                for process in tasks.iter().map(|task| &task.process).chain(&current) {
                    assert!(process.comm.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                    let path = processes.executable(process, &mut read).unwrap_or_default();
                    assert!(path.len() <= 64 * 256);
                    for address in [0, 0x40_1000, random.u64(..), cpu.get("RIP")] {
                        let _ = processes.mapping(process, address, &mut read);
                    }
                }
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}
