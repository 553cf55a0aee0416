//! Options on QEMU's command line that take effect after plugins are loaded. QEMU does not export them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The options that affect files and standard streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The option by which QEMU changes its user or its root directory before the guest runs:
    /// `-run-with user=...`, `-run-with chroot=...`, or the names that older QEMUs have for them.
    pub confined_by: Option<&'static str>,
    /// `-daemonize`: QEMU closes stdin, stdout and stderr before the guest runs.
    pub daemonize: bool,
    /// `-icount`: QEMU counts instructions.
    pub icount: bool,
    /// QEMU may run all vCPUs on one thread: `-icount`, `-accel tcg,thread=single`, or a `-readconfig` whose file may say so.
    pub one_thread: bool,
    /// `-d plugin`: the output of plugins goes to QEMU's log, which is stderr or the file of `-D`.
    pub logs_plugins: bool,
}

impl CommandLine {
    /// Reads the options of this process; none if `/proc` cannot be read.
    pub(crate) fn of_this_process() -> CommandLine {
        let bytes = std::fs::read("/proc/self/cmdline").unwrap_or_default();
        let arguments = bytes.split(|&byte| byte == 0);
        CommandLine::parse(arguments.map(|argument| OsString::from_vec(argument.to_vec())))
    }

    fn parse(arguments: impl IntoIterator<Item = OsString>) -> CommandLine {
        let mut found = CommandLine::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            // QEMU takes two dashes for one.
            let argument = argument.to_string_lossy();
            match argument.strip_prefix("--").or(argument.strip_prefix('-')) {
                Some("daemonize") => found.daemonize = true,
                Some("icount") => (found.icount, found.one_thread) = (true, true),
                Some("readconfig") => found.one_thread = true,
                Some("accel") => {
                    let value = arguments.next().unwrap_or_default();
                    found.one_thread |= value.to_string_lossy().contains("thread=single");
                }
                // The last one counts.
                Some("d") => {
                    let value = arguments.next().unwrap_or_default();
                    let mut items = value.to_str().unwrap_or_default().split(',');
                    found.logs_plugins = items.any(|item| matches!(item, "plugin" | "all"));
                }
                Some("runas") => found.confined_by = Some("-runas"),
                Some("chroot") => found.confined_by = Some("-chroot"),
                Some("run-with") => {
                    let value = arguments.next().unwrap_or_default();
                    for setting in value.to_string_lossy().split(',') {
                        match setting.split_once('=') {
                            Some(("user", _)) => found.confined_by = Some("-run-with user="),
                            Some(("chroot", _)) => found.confined_by = Some("-run-with chroot="),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_confine_qemu_are_found_in_each_spelling() {
        let parse = |line: &str| CommandLine::parse(line.split(' ').map(OsString::from));
        let confined = |line: &str| parse(line).confined_by;
        assert_eq!(parse("qemu -m 64 -name user=me"), CommandLine::default());
        assert_eq!(confined("qemu -run-with async-teardown=on,user=me"), Some("-run-with user="));
        assert_eq!(confined("qemu --run-with chroot=/srv"), Some("-run-with chroot="));
        assert_eq!(confined("qemu -run-with exit-with-parent=on"), None);
        assert_eq!(confined("qemu -runas me"), Some("-runas"));
        assert_eq!(confined("qemu -chroot /srv"), Some("-chroot"));
        assert!(
            parse("qemu -accel tcg,thread=single").one_thread && parse("q -icount 1").one_thread
        );
        assert!(!parse("qemu -accel tcg,thread=multi -m 64").one_thread);
        assert!(parse("qemu --daemonize").daemonize && !parse("qemu -m 64").daemonize);
        assert!(parse("qemu -d int,plugin -D log").logs_plugins && parse("q -d all").logs_plugins);
        assert!(!parse("qemu -d plugin -d int").logs_plugins && !parse("q -D plugin").logs_plugins);
        assert!(parse("qemu -icount shift=0").icount && !parse("qemu -m 64").icount);
    }
}
