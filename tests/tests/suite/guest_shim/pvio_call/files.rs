//! Files both ways by `pvio-call get` and `put`.

use std::path::Path;
use std::process::Command;

use pvio::stats::Call;
use pvio_tests::{Host, file_names, on_answering_qemus};

use super::{Files, Session};

on_answering_qemus! {
    files_arrive_whole_and_unchanged
    names_that_leave_the_directory_are_refused
    limits_hold_and_leave_no_part_of_a_file
}

/// The sizes of the files that are moved.
const SIZES: [usize; 7] = [0, 1, 4095, 4096, 4097, 65_536, 1 << 20];

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

fn files_arrive_whole_and_unchanged(host: &Host) {
    let files = Files::new();
    std::fs::create_dir(files.path("share/sub")).unwrap();
    let mut rng = fastrand::Rng::with_seed(0x2007);
    let mut script = String::new();
    for size in SIZES {
        let contents: Vec<u8> = (0..size).map(|_| rng.u8(..)).collect();
        std::fs::write(files.path("share").join(format!("in{size}")), &contents).unwrap();
        script += &format!(
            "pvio-call get in{size} /tmp/a{size}
call32 get in{size} /tmp/b{size}
sha256sum /tmp/a{size} /tmp/b{size}
pvio-call put /tmp/a{size} out{size}
call32 put - sub/out{size} < /tmp/b{size}
pvio-call put /tmp/a{size} out{size}
pvio-call get in{size} - | cmp - /tmp/a{size}\n"
        );
    }
    script += "cd /tmp && pvio-call get in1 && ls\npvio-call get none /tmp/none\nls /tmp/none\n";
    let session = Session::run(files.machine(host, ""), &[], &script);
    for size in SIZES {
        let source = files.path("share").join(format!("in{size}"));
        let sum = sha256(&source);
        let sums = session.check(&format!("sha256sum /tmp/a{size} /tmp/b{size}"), 0);
        assert_eq!(sums.lines().filter(|line| line.starts_with(&sum)).count(), 2, "{sums}");
        session.check(&format!("pvio-call get in{size} - | cmp - /tmp/a{size}"), 0);
        let contents = std::fs::read(&source).unwrap();
        for name in ["out", "sub/out"] {
            let copy = std::fs::read(files.path("share").join(format!("{name}{size}"))).unwrap();
            assert!(copy == contents, "{name}{size}");
        }
        // The second time, the name was taken.
        let put = format!("pvio-call put /tmp/a{size} out{size}");
        let puts = session.commands.iter().filter(|ran| ran.0 == put);
        let puts: Vec<(i32, bool)> =
            puts.map(|ran| (ran.1, ran.2.contains("has this file already"))).collect();
        assert_eq!(puts, [(0, false), (1, true)]);
    }
    let listed = session.check("cd /tmp && pvio-call get in1 && ls", 0);
    assert!(listed.lines().any(|line| line.split_whitespace().any(|name| name == "in1")));
    assert!(!listed.contains(".pvio-"), "{listed}");
    assert!(session.check("pvio-call get none /tmp/none", 1).contains("no such file"));
    session.check("ls /tmp/none", 1);
    assert_eq!(files.shared().len(), 2 * SIZES.len() + 1);

    // The statistics count the calls and their bytes: each file was read three times as a whole, and written twice.
    let stats = pvio_cli::machine::read_stats(&files.path("stats")).unwrap();
    let row = |call| stats.hypercalls.iter().find(|row| row.call == call).unwrap();
    let total: usize = SIZES.iter().sum();
    assert_eq!(row(Call::FileRead).bytes, 3 * total as u64 + 1);
    assert_eq!(row(Call::FileWrite).bytes, 2 * total as u64);
    assert_eq!(row(Call::FileFinish).count, 2 * SIZES.len() as u64);
    assert_eq!(row(Call::FileWrite).errors, SIZES.len() as u64);
}

fn names_that_leave_the_directory_are_refused(host: &Host) {
    let files = Files::new();
    let share = files.path("share");
    std::fs::create_dir(files.path("outside")).unwrap();
    std::fs::write(files.path("outside/secret"), "secret").unwrap();
    std::fs::create_dir(share.join("sub")).unwrap();
    std::fs::write(share.join("file"), "file").unwrap();
    std::os::unix::fs::symlink("../outside/secret", share.join("link")).unwrap();
    std::os::unix::fs::symlink("../outside", share.join("directory-link")).unwrap();
    std::os::unix::fs::symlink("file", share.join("inner-link")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", share.join("device-link")).unwrap();
    assert!(Command::new("mkfifo").arg(share.join("fifo")).status().unwrap().success());
    let before = files.shared();
    let absolute = files.path("outside/secret").display().to_string();
    let names = [
        "..",
        ".",
        "../outside/secret",
        "sub/../file",
        "sub/../../outside/secret",
        "/etc/passwd",
        &absolute,
        "link",
        "directory-link/secret",
        "inner-link",
        "device-link",
        "fifo",
        "sub",
        "./file",
        "sub//x",
        ".pvio-x",
    ];
    let mut script = String::new();
    for name in names {
        script += &format!("pvio-call get {name} /tmp/x\npvio-call put /init {name}\n");
    }
    script += "ls /tmp\npvio-call get file - && echo\n";
    // Nothing is refused for the sake of a file that exists.
    let session = Session::run(files.machine(host, ":overwrite=on"), &[], &script);
    for name in names {
        for command in
            [format!("pvio-call get {name} /tmp/x"), format!("pvio-call put /init {name}")]
        {
            let output = session.check(&command, 1);
            assert!(output.contains("cannot be that of a regular file"), "{command}: {output}");
        }
    }
    assert_eq!(session.check("ls /tmp", 0), "");
    assert_eq!(session.check("pvio-call get file - && echo", 0), "file\n");
    assert_eq!(files.shared(), before);
    assert_eq!(file_names(&files.path("outside")), ["secret"]);
    assert_eq!(std::fs::read(files.path("outside/secret")).unwrap(), b"secret");
}

fn limits_hold_and_leave_no_part_of_a_file(host: &Host) {
    let files = Files::new();
    std::fs::write(files.path("share/old"), "old").unwrap();
    let script = "head -c 100000 /dev/zero > /tmp/fits
head -c 100001 /dev/zero > /tmp/more
pvio-call put /tmp/fits 1
pvio-call put /tmp/more 2
call32 put /tmp/fits 2
pvio-call put /tmp/fits 3
echo new | pvio-call put - old
echo again | pvio-call put - old
pvio-call get old -
(head -c 70000 /dev/zero; sleep 1000) | pvio-call put - slow & sleep 2";
    // Two files of 25 blocks fit, and then two of one block.
    let settings = ":file-limit=100000:total-limit=212992:overwrite=on";
    let session = Session::run(files.machine(host, settings), &[], script);
    session.check("pvio-call put /tmp/fits 1", 0);
    for command in ["pvio-call put /tmp/more 2", "pvio-call put /tmp/fits 3"] {
        assert!(session.check(command, 1).contains("larger than the limits"), "{command}");
    }
    session.check("call32 put /tmp/fits 2", 0);
    session.check("echo new | pvio-call put - old", 0);
    session.check("echo again | pvio-call put - old", 0);
    assert_eq!(session.check("pvio-call get old -", 0), "again\n");
    // The machine was turned off while the last file was unfinished.
    assert_eq!(files.shared(), ["1", "2", "old"], "{}", session.text());
    assert_eq!(std::fs::read(files.path("share/old")).unwrap(), b"again\n");
    assert_eq!(std::fs::read(files.path("share/2")).unwrap().len(), 100_000);
}
