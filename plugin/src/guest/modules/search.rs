//! Finds the list of modules in a kernel whose symbol table has no data.

use super::layout::Layout;
use crate::guest::PhysicalMemory;
use crate::guest::address_space::AddressSpace;
use crate::x86::PAGE;

/// Bytes after the code that are searched.
const REACH: u64 = 32 << 20;
/// Maximum number of pairs of pointers that are followed.
const MOST: usize = 200_000;

/// Finds the head of the list after the kernel's code.
///
/// The first and the last element of a list point back to its head, and the first is a module.
pub(in crate::guest) fn head<M: PhysicalMemory>(
    space: &AddressSpace<'_, M>,
    end_of_code: u64,
) -> Option<u64> {
    let word = space.word_size();
    let lowest = space.kernel_half();
    let begin = end_of_code & !(PAGE - 1);
    let mut pairs = 0;
    let mut bytes = [0; PAGE as usize];
    for page in (begin..begin.checked_add(REACH)?).step_by(PAGE as usize) {
        if space.read(page, &mut bytes).is_none() {
            continue;
        }
        let at = |place: u64| {
            let mut value = [0; 8];
            let place = place as usize;
            value[..word as usize].copy_from_slice(&bytes[place..place + word as usize]);
            u64::from_le_bytes(value)
        };
        for place in (0..PAGE - word).step_by(word as usize) {
            let (head, next, prev) = (page + place, at(place), at(place + word));
            if next < lowest || prev < lowest || next == head || next % word != 0 {
                continue;
            }
            pairs += 1;
            if pairs > MOST {
                return None;
            }
            let is_list =
                space.word(next.wrapping_add(word)) == Some(head) && space.word(prev) == Some(head);
            if is_list && Layout::by_shape(space, head).is_some() {
                return Some(head);
            }
        }
    }
    None
}
