//! Edits of a small tree that has the lines which they look for, and little else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{EDITS, FILES, Patched, patch};

/// The files of the tree before the edits. None of the text is the kernel's, except for the lines to be found.
const TREE: [(&str, &str); 13] = [
    ("Makefile", "# A comment\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\nEXTRAVERSION =\n"),
    ("arch/x86/Kconfig", "if A\n\nconfig INTEL_TDX_GUEST\n\tbool\n\nendif\n"),
    ("arch/x86/boot/Makefile", "setup-y += a.o\nsetup-$(B) += b.o\nsetup-y += c.o\nend\n"),
    ("arch/x86/boot/io.h", "first\n#include <asm/shared/io.h>\nlast\n"),
    ("arch/x86/boot/main.c", "{\n\tone();\n\tcopy_boot_params();\n\ttwo();\n}\n"),
    ("arch/x86/boot/compressed/Makefile", "vmlinux-objs-$(CONFIG_ACPI) += a.o\nend\n"),
    ("arch/x86/boot/compressed/misc.c", "{\n\tearly_tdx_detect();\n\n\tlast();\n}\n"),
    ("arch/x86/kernel/Makefile", "obj-$(CONFIG_KVM_GUEST)\t+= k.o\n"),
    ("arch/x86/include/asm/io.h", "#include <asm/shared/io.h>\nstrings\n#undef BUILDIO\nlast\n"),
    ("arch/x86/kernel/setup.c", "{\n\t\tearly_cpu_init();\n}\n"),
    ("arch/x86/kernel/cpu/common.c", "load_fixmap_gdt(int cpu)\n{\n\tload_fixmap_gdt(cpu);\n}\n"),
    (
        "arch/x86/kernel/io_delay.c",
        "\tasm volatile (\"outb %al, $0x80\");\n\tasm volatile (\"outb %al, $0xed\");\n",
    ),
    ("arch/x86/lib/kaslr.c", "#ifndef KASLR_COMPRESSED_BOOT\nlast\n"),
];

fn tree() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (file, text) in TREE {
        put(directory.path(), file, text);
    }
    std::fs::create_dir_all(directory.path().join("arch/x86/include/asm/shared")).unwrap();
    directory
}

fn put(tree: &Path, file: &str, text: &str) {
    let path = tree.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// All files of a tree.
fn contents(tree: &Path) -> BTreeMap<PathBuf, String> {
    fn collect(directory: &Path, all: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => collect(&path, all),
                false => drop(all.insert(path.clone(), std::fs::read_to_string(&path).unwrap())),
            }
        }
    }
    let mut all = BTreeMap::new();
    collect(tree, &mut all);
    all
}

#[test]
fn a_tree_gets_the_files_and_the_lines() {
    let tree = tree();
    let patched = patch(tree.path()).unwrap();
    assert_eq!(patched, Patched { version: "6.12.7".into(), files: FILES.len(), edited: 12 });
    let text = |file: &str| std::fs::read_to_string(tree.path().join(file)).unwrap();
    for (file, text_of_file) in FILES {
        assert_eq!(text(file), text_of_file);
    }
    for (file, expected) in [
        (
            "arch/x86/Kconfig",
            "if A\n\nsource \"arch/x86/Kconfig.pvio\"\nconfig INTEL_TDX_GUEST\n\tbool\n\nendif\n",
        ),
        (
            "arch/x86/boot/Makefile",
            "setup-y += a.o\nsetup-$(B) += b.o\nsetup-y += c.o\nsetup-$(CONFIG_PVIO_GUEST) += pvio.o\nend\n",
        ),
        (
            "arch/x86/boot/main.c",
            "{\n\tone();\n\tcopy_boot_params();\n\tpvio_detect();\n\ttwo();\n}\n",
        ),
        (
            "arch/x86/include/asm/io.h",
            "#include <asm/shared/io.h>\n#include <asm/pvio.h>\nstrings\n#undef BUILDIO\n\
             #include <asm/pvio_strings.h>\nlast\n",
        ),
        ("arch/x86/kernel/setup.c", "{\n\t\tpvio_guest_init();\n\t\tearly_cpu_init();\n}\n"),
        (
            "arch/x86/kernel/cpu/common.c",
            "load_fixmap_gdt(int cpu)\n{\n\tload_fixmap_gdt(cpu);\n\tpvio_cpu_init();\n}\n",
        ),
        ("arch/x86/kernel/io_delay.c", "\toutb(0, 0x80);\n\toutb(0, 0xed);\n"),
    ] {
        assert_eq!(text(file), expected, "{file}");
    }
}

#[test]
fn a_patched_tree_stays_as_it_is() {
    let tree = tree();
    patch(tree.path()).unwrap();
    let before = contents(tree.path());
    let again = patch(tree.path()).unwrap();
    assert_eq!((again.files, again.edited), (0, 0));
    assert_eq!(contents(tree.path()), before);

    put(tree.path(), "arch/x86/kernel/pvio.c", "an older one\n");
    assert_eq!(patch(tree.path()).unwrap().files, 1);
    assert_eq!(contents(tree.path()), before);
}

/// For each file in turn: without the line, and with the line twice.
#[test]
fn a_tree_without_a_line_is_left_alone_and_the_line_is_named() {
    for (file, text) in TREE.into_iter().filter(|(file, _)| *file != "Makefile") {
        let tree = tree();
        put(tree.path(), file, "nothing\n");
        let before = contents(tree.path());
        let error = format!("{:#}", patch(tree.path()).unwrap_err());
        assert_eq!(contents(tree.path()), before, "{file}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.starts_with(&format!("{file} (Linux 6.12.7): looked for a line ")),
            "{error}"
        );
        let edit = EDITS.iter().find(|edit| edit.file == file).unwrap();
        let (_, wanted) = error.split_once('"').unwrap();
        let (wanted, _) = wanted.split_once('"').unwrap();
        assert!(text.contains(wanted.trim_end_matches('\\')), "{edit:?}: {error}");
    }

    let tree = tree();
    let twice = "\tearly_cpu_init();\n\tearly_cpu_init();\n";
    put(tree.path(), "arch/x86/kernel/setup.c", twice);
    let error = format!("{:#}", patch(tree.path()).unwrap_err());
    assert!(error.ends_with("looked for a line \"early_cpu_init();\" and found 2"), "{error}");
}

#[test]
fn what_is_no_kernel_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let error = format!("{:#}", patch(directory.path()).unwrap_err());
    assert!(error.contains("Makefile"), "{error}");
    put(directory.path(), "Makefile", "all:\n");
    let error = format!("{:#}", patch(directory.path()).unwrap_err());
    assert!(error.ends_with("is not the source of a Linux kernel"), "{error}");
}
