#![no_main]
//! Lists of kvm-unit-tests, the settings of guests, and their patterns.

use fuzz::{MemoryFile, assert_message};
use libfuzzer_sys::fuzz_target;
use pvio_cli::guest_test::{Pattern, Settings, Unittests};

fuzz_target!(|data: &[u8]| {
    let file = MemoryFile::new(data);
    match Unittests::read(file.path()) {
        Ok(list) => {
            list.warnings().iter().for_each(assert_message);
            if let Err(error) = list.check_group("no such group") {
                assert_message(&error);
            }
        }
        Err(error) => assert_message(&format!("{error:#}")),
    }
    let Ok(text) = str::from_utf8(data) else { return };
    // The message of an error is made one line elsewhere.
    let _ = toml::from_str::<Settings>(text);
    let (pattern, line) = text.split_once('\n').unwrap_or((text, ""));
    match pattern.parse::<Pattern>() {
        Ok(pattern) => drop(pattern.matches(line)),
        Err(error) => assert_message(&error),
    }
});
