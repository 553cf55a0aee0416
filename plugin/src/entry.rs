//! The symbols that QEMU looks up in a plugin library (`include/plugins/qemu-plugin.h`).

/// Makes the crate, a `cdylib`, a QEMU plugin: pvio with its devices, and with kinds of your own.
///
/// Each kind is a [`DeviceKind`](crate::devices::DeviceKind) or an [`ObserverKind`](crate::devices::ObserverKind).
///
/// ```no_run
/// use pvio::devices::{BUILT_IN, DeviceKind};
/// # const MY_KIND: DeviceKind = BUILT_IN[0];
///
/// pvio::plugin!(MY_KIND);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! plugin {
    ($($kind:expr),* $(,)?) => {
        const _: () = {
            use $crate::qemu::DeclaredVersion;

            // SAFETY: QEMU looks up this name and reads a C `int`, which this is.
            #[unsafe(export_name = "qemu_plugin_version")]
            static VERSION: DeclaredVersion = DeclaredVersion::new();

            extern "C" fn declare_version() {
                VERSION.declare();
            }

            // SAFETY: after relocation the dynamic loader calls the functions in this section with the
            // C calling convention, and arguments that a function may ignore.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static CONSTRUCTOR: extern "C" fn() = declare_version;

            // SAFETY: QEMU looks up this name and calls a function of this type.
            #[unsafe(export_name = "qemu_plugin_install")]
            unsafe extern "C" fn install(
                id: $crate::qemu::qemu_plugin_id_t,
                info: *const $crate::qemu::qemu_info_t,
                argc: ::std::ffi::c_int,
                argv: *const *const ::std::ffi::c_char,
            ) -> ::std::ffi::c_int {
                let kinds: &[$crate::devices::Kind] = &[$($crate::devices::Kind::from($kind)),*];
                // SAFETY: these are the arguments that QEMU has passed.
                unsafe {
                    $crate::qemu::install(id, info, argc, argv, |host, options| {
                        $crate::build(host, options, kinds)
                    })
                }
            }
        };
    };
}
