//! The kernel's types, for the layout of its modules.

use super::{ARCH, CODE, KALLSYMS};

/// Types: the structures of the list of modules, among others.
pub(super) fn btf(has_mem: bool, wide: bool) -> Vec<u8> {
    let word = if wide { 8 } else { 4 };
    let layout: &[(&str, u64)] = match has_mem {
        true => &[("mem", CODE)],
        false => &[("core_layout", CODE), ("init_layout", CODE + 0x40)],
    };
    let module =
        [("state", 0), ("list", word), ("name", 3 * word), ("kallsyms", KALLSYMS), ("arch", ARCH)];
    let module = [&module, layout].concat();
    let structures = [
        ("list_head", 2 * word, vec![("next", 0), ("prev", word)]),
        ("mod_kallsyms", 4 * word, vec![("symtab", 0), ("num_symtab", word), ("strtab", 2 * word)]),
        match has_mem {
            true => ("module_memory", 2 * word, vec![("base", 0), ("size", word)]),
            false => {
                ("module_layout", 32, vec![("base", 0), ("size", word), ("text_size", word + 4)])
            }
        },
        ("mod_arch_specific", 24, vec![("num_orcs", 0), ("orc_unwind_ip", 8), ("orc_unwind", 16)]),
        ("module", 0x280, module),
        // Another of the same name, as a driver may have: the first counts.
        ("module", 4, vec![("name", 0)]),
    ];
    let mut strings = vec![0];
    let mut place = |name: &str| {
        let known: Vec<&[u8]> = strings.split(|&byte| byte == 0).collect();
        let mut at = 0;
        for string in known {
            if string == name.as_bytes() {
                return at;
            }
            at += string.len() as u32 + 1;
        }
        let at = strings.len() as u32;
        strings.extend(name.bytes());
        strings.push(0);
        at
    };
    let mut types: Vec<u32> = vec![place("int"), 1 << 24, 4, 0x20];
    types.extend([0, 2 << 24, 1]);
    types.extend([0, 3 << 24, 0, 1, 1, 4]);
    types.extend([place("state"), 6 << 24 | 1, 4, place("LIVE"), 0]);
    for (name, size, members) in structures {
        types.extend([place(name), 4 << 24 | members.len() as u32, size as u32]);
        for (member, at) in members {
            types.extend([place(member), 1, 8 * at as u32]);
        }
    }
    let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
    let sizes = [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
    let mut btf = vec![0x9f, 0xeb, 1, 0];
    btf.extend(sizes.iter().flat_map(|word| word.to_le_bytes()));
    [btf, types, strings].concat()
}
