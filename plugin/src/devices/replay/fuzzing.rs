//! An arbitrary recording, and an arbitrary driver that it is played to.

use std::path::Path;

use super::player::Player;
use super::recording::Recording;
use crate::fuzzing::{Bytes, assert_message};
use crate::x86::{Port, PortRange};

/// The number of ports of the device, from port 0 on.
const PORTS: u16 = 0x100;

/// Loads a trace, and makes accesses of a driver: a byte for each, and then what it has.
pub fn recording(path: &Path, accesses: &[u8]) {
    let range = PortRange::new(Port(0), PORTS).expect("the ports exist");
    let recording = match Recording::load(path, &[range], u16::MAX) {
        Ok(recording) => recording,
        Err(error) => return assert_message(&error),
    };
    for problem in &recording.problems {
        assert_message(problem);
    }
    let total = recording.total;
    let mut player = Player::new(recording);
    let mut bytes = Bytes(accesses);
    while !bytes.is_empty() {
        let what = bytes.byte();
        let (port, size) = (bytes.number::<1>() as u16, [1, 2, 4, 4][usize::from(what & 3)]);
        let mut data = [0; 64];
        let len = usize::from(what >> 4) * usize::from(size);
        match what >> 2 & 3 {
            0 => drop(player.read(port, size)),
            1 => player.write(port, size, bytes.number::<4>() as u32),
            2 => assert!(player.read_elements(port, size, &mut data[..len]) <= len),
            _ => {
                let data = bytes.take(len);
                let whole = data.len() - data.len() % usize::from(size);
                assert!(player.write_elements(port, size, &data[..whole]) <= whole);
            }
        }
        player.irqs.clear();
        if let Some(difference) = player.difference.take() {
            difference.lines().iter().for_each(assert_message);
        }
    }
    assert!(player.counts().passed <= total, "no access is passed twice");
}
