//! Links each test as an EFI application.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    println!("cargo::rerun-if-changed=efi.ld");
    // For x86_64-unknown-uefi, rustc does all of this itself.
    if std::env::var("CARGO_CFG_TARGET_OS").unwrap() == "uefi" {
        return;
    }
    for argument in ["-nostdlib", "-nostartfiles", "-static-pie", "-Wl,--oformat=binary"] {
        println!("cargo::rustc-link-arg={argument}");
    }
    for argument in ["--build-id=none", "--no-dynamic-linker", "-z,norelro"] {
        println!("cargo::rustc-link-arg=-Wl,{argument}");
    }
    println!("cargo::rustc-link-arg=-T{directory}/efi.ld");
}
