//! The symbols by which QEMU finds a plugin in a shared library.

/// Makes the crate, which must be a `cdylib`, a QEMU plugin: pvio, with the devices that it has and
/// more kinds of your own.
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

            // SAFETY: QEMU's name for a C `int` that it reads, which this is.
            #[unsafe(export_name = "qemu_plugin_version")]
            static VERSION: DeclaredVersion = DeclaredVersion::new();

            extern "C" fn declare_version() {
                VERSION.declare();
            }

            // SAFETY: the dynamic loader calls the functions in this section, with C's calling
            // convention and arguments that may be ignored, after the library has been bound.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static CONSTRUCTOR: extern "C" fn() = declare_version;

            // SAFETY: QEMU's name for a function of this type.
            #[unsafe(export_name = "qemu_plugin_install")]
            unsafe extern "C" fn install(
                id: $crate::qemu::qemu_plugin_id_t,
                info: *const $crate::qemu::qemu_info_t,
                argc: ::std::ffi::c_int,
                argv: *const *const ::std::ffi::c_char,
            ) -> ::std::ffi::c_int {
                let kinds: &[$crate::devices::DeviceKind] = &[$($kind),*];
                // SAFETY: QEMU's own arguments.
                unsafe {
                    $crate::qemu::install(id, info, argc, argv, |host, options| {
                        $crate::build(host, options, kinds)
                    })
                }
            }
        };
    };
}
