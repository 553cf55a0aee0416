//! The subcommands of `pvio`, one module each.

mod bench;
mod cargo_runner;
mod check;
mod completions;
mod config;
mod cost;
mod demo;
mod diff;
mod dump_files;
mod experiment;
mod export;
mod man;
mod merge;
mod paravirt_linux;
mod paravirt_seabios;
mod patch_linux;
mod patch_seabios;
mod reload;
mod report;
mod show;
mod snapshot;
mod stats;
mod test;
mod top;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pvio_cli::status;

/// Port I/O of x86 guests under QEMU.
#[derive(Parser)]
#[command(name = "pvio", version)]
pub struct Pvio {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    Demo(demo::Arguments),
    Bench(bench::Arguments),
    Experiment(experiment::Arguments),
    Test(Box<test::Arguments>),
    Report(report::Arguments),
    Show(show::Arguments),
    Stats(stats::Arguments),
    Trace(trace::Arguments),
    Export(export::Arguments),
    Diff(diff::Arguments),
    Check(check::Arguments),
    Merge(merge::Arguments),
    Cost(cost::Arguments),
    PatchLinux(patch_linux::Arguments),
    ParavirtLinux(paravirt_linux::Arguments),
    PatchSeabios(patch_seabios::Arguments),
    ParavirtSeabios(paravirt_seabios::Arguments),
    Snapshot(snapshot::Arguments),
    Top(top::Arguments),
    Reload(reload::Arguments),
    Config(config::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

impl Pvio {
    /// Parses this program's arguments.
    pub fn parse_arguments() -> Pvio {
        Pvio::parse_from(cargo_runner::rewrite(std::env::args_os().collect()))
    }
}

impl Command {
    /// Runs the command. Returns the program's exit status.
    pub fn run(self) -> ExitCode {
        match self {
            Command::Demo(arguments) => status::end("demo", demo::run(&arguments)),
            Command::Bench(arguments) => status::end("bench", bench::run(&arguments)),
            Command::Experiment(arguments) => {
                status::end("experiment", experiment::run(&arguments))
            }
            Command::Test(arguments) => test::run(&arguments),
            Command::Report(arguments) => {
                status::end_with_answer("report", report::run(&arguments))
            }
            Command::Show(arguments) => status::end_with_answer("show", show::run(&arguments)),
            Command::Stats(arguments) => status::end_with_answer("stats", stats::run(&arguments)),
            Command::Export(arguments) => {
                status::end_with_answer("export", export::run(&arguments))
            }
            Command::Trace(arguments) => status::end_with_answer("trace", trace::run(&arguments)),
            Command::Diff(arguments) => status::end_with_answer("diff", diff::run(&arguments)),
            Command::Check(arguments) => status::end_with_answer("check", check::run(&arguments)),
            Command::Merge(arguments) => status::end_with_answer("merge", merge::run(&arguments)),
            Command::Cost(arguments) => status::end_with_answer("cost", cost::run(&arguments)),
            Command::PatchLinux(arguments) => {
                status::end("patch-linux", patch_linux::run(&arguments))
            }
            Command::ParavirtLinux(arguments) => {
                status::end("paravirt-linux", paravirt_linux::run(&arguments))
            }
            Command::PatchSeabios(arguments) => {
                status::end("patch-seabios", patch_seabios::run(&arguments))
            }
            Command::ParavirtSeabios(arguments) => {
                status::end("paravirt-seabios", paravirt_seabios::run(&arguments))
            }
            Command::Snapshot(arguments) => {
                status::end_with_answer("snapshot", snapshot::run(&arguments))
            }
            Command::Top(arguments) => status::end_with_answer("top", top::run(&arguments)),
            Command::Config(arguments) => {
                status::end_with_answer("config", config::run(&arguments))
            }
            Command::Reload(arguments) => {
                status::end_with_answer("reload", reload::run(&arguments))
            }
            Command::Completions(arguments) => {
                status::end_with_answer("completions", completions::run(&arguments))
            }
            Command::Man(arguments) => status::end_with_answer("man", man::run(&arguments)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The scripts print these files, because the program may not be built yet.
    #[test]
    fn help_files_are_what_the_commands_print() {
        for (name, file) in [
            ("demo", include_str!("../../help/demo.txt")),
            ("bench", include_str!("../../help/bench.txt")),
            ("experiment", include_str!("../../help/experiment.txt")),
            ("test", include_str!("../../help/test.txt")),
            ("paravirt-linux", include_str!("../../help/paravirt-linux.txt")),
            ("patch-linux", include_str!("../../help/patch-linux.txt")),
            ("paravirt-seabios", include_str!("../../help/paravirt-seabios.txt")),
            ("patch-seabios", include_str!("../../help/patch-seabios.txt")),
            ("report", include_str!("../../help/report.txt")),
            ("show", include_str!("../../help/show.txt")),
            ("stats", include_str!("../../help/stats.txt")),
            ("trace", include_str!("../../help/trace.txt")),
            ("export", include_str!("../../help/export.txt")),
            ("diff", include_str!("../../help/diff.txt")),
            ("check", include_str!("../../help/check.txt")),
            ("merge", include_str!("../../help/merge.txt")),
            ("cost", include_str!("../../help/cost.txt")),
            ("snapshot", include_str!("../../help/snapshot.txt")),
            ("top", include_str!("../../help/top.txt")),
            ("config", include_str!("../../help/config.txt")),
            ("reload", include_str!("../../help/reload.txt")),
            ("completions", include_str!("../../help/completions.txt")),
            ("man", include_str!("../../help/man.txt")),
        ] {
            let help = Pvio::command().try_get_matches_from(["pvio", name, "--help"]);
            assert_eq!(
                help.unwrap_err().to_string(),
                file,
                "make it again: target/release/pvio {name} --help >qemu-scripts/help/{name}.txt"
            );
        }
    }

    #[test]
    fn every_command_has_a_help_file() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/help")).unwrap();
        let mut files: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort_unstable();
        let mut names: Vec<String> =
            Pvio::command().get_subcommands().map(|c| format!("{}.txt", c.get_name())).collect();
        names.sort_unstable();
        assert_eq!(files, names);
    }
}
