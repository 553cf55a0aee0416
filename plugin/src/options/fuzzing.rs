//! Options from arbitrary texts. No file is opened.

use pvio_stats::toml_file::TomlFile;

use super::OptionError;
use super::argument::Argument;
use super::config::Config;
use super::given::Given;
use crate::BuildError;
use crate::devices::built_in_kinds;
use crate::fuzzing::assert_message;
use crate::qemu::{ApiLevel, CommandLine};

/// Adds options of the command line: texts with a zero byte after each.
pub fn arguments(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let arguments: Vec<Argument> = text
        .split('\0')
        .map_while(|text| {
            let argument = Argument::from_command_line(text);
            argument.map_err(assert_refusal).ok()
        })
        .collect();
    add_all(&arguments);
}

/// Reads a configuration file, and adds its options.
pub fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match (Config { file: TomlFile { name: "directory/pvio.toml", text } }).arguments() {
        Ok(arguments) => add_all(&arguments),
        Err(source) => {
            assert_refusal(OptionError::Config { path: "directory/pvio.toml".to_owned(), source });
        }
    }
}

fn add_all(arguments: &[Argument]) {
    let kinds = built_in_kinds();
    for api in [ApiLevel::OLDEST, ApiLevel::NEWEST] {
        let command_line = CommandLine::default();
        let mut given = Given::new(&kinds, api, &command_line);
        for argument in arguments {
            if let Err(error) = given.add(argument) {
                assert_refusal(argument.blame(error));
                break;
            }
        }
    }
}

fn assert_refusal(error: OptionError) {
    assert_message(&BuildError::from(error));
}
