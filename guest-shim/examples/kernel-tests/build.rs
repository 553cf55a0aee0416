//! Links the kernel and each of its tests at 1 MiB, without a libc.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap();
    println!("cargo::rerun-if-changed=kernel.ld");
    let arguments: &[&str] = match &*target {
        // rustc calls the linker itself.
        "none" => &["--no-pie"],
        // rustc calls the C compiler.
        _ => &["-nostdlib", "-nostartfiles", "-static", "-no-pie", "-Wl,--build-id=none"],
    };
    for argument in arguments {
        println!("cargo::rustc-link-arg={argument}");
    }
    println!("cargo::rustc-link-arg=-T{directory}/kernel.ld");
}
