//! Ports as values, with the interface of the `x86_64` crate, so a driver changes only its `use`.

use core::fmt;
use core::marker::PhantomData;

use crate::paravirt::Hypercall;
use crate::value::Value;

/// A port that can be read and written.
///
/// ```no_run
/// use pvio_guest::{Port, PortReadOnly};
///
/// let mut data = Port::<u8>::new(0x3f8);
/// let mut line_status = PortReadOnly::<u8>::new(0x3fd);
/// // SAFETY: COM1 is at these ports.
/// unsafe {
///     while line_status.read() & 0x20 == 0 {}
///     data.write(b'x');
/// }
/// ```
pub type Port<T> = PortGeneric<T, ReadWriteAccess>;

/// A port that can be read.
///
/// ```compile_fail,E0599
/// // SAFETY: this is not compiled.
/// unsafe { pvio_guest::PortReadOnly::<u8>::new(0x3fd).write(1) };
/// ```
pub type PortReadOnly<T> = PortGeneric<T, ReadOnlyAccess>;

/// A port that can be written.
///
/// ```compile_fail,E0599
/// // SAFETY: this is not compiled.
/// unsafe { pvio_guest::PortWriteOnly::<u8>::new(0x80).read() };
/// ```
pub type PortWriteOnly<T> = PortGeneric<T, WriteOnlyAccess>;

/// A port with any access: see [`Port`], [`PortReadOnly`] and [`PortWriteOnly`].
///
/// Accesses are hypercalls if a host answers, else the CPU's instructions.
pub struct PortGeneric<T, A> {
    port: u16,
    marker: PhantomData<(T, A)>,
}

impl<T, A> PortGeneric<T, A> {
    /// The port with this number.
    #[inline]
    pub const fn new(port: u16) -> PortGeneric<T, A> {
        PortGeneric { port, marker: PhantomData }
    }
}

impl<T: Value, A: PortReadAccess> PortGeneric<T, A> {
    /// Reads from the port.
    ///
    /// # Safety
    ///
    /// Reading a port may do anything that its device does on a read.
    #[inline]
    pub unsafe fn read(&mut self) -> T {
        // SAFETY: the caller answers for the access.
        unsafe { T::read_from(&Hypercall::FLAT, self.port) }
    }
}

impl<T: Value, A: PortWriteAccess> PortGeneric<T, A> {
    /// Writes to the port.
    ///
    /// # Safety
    ///
    /// Writing a port may do anything that its device does on a write.
    #[inline]
    pub unsafe fn write(&mut self, value: T) {
        // SAFETY: the caller answers for the access.
        unsafe { value.write_to(&Hypercall::FLAT, self.port) }
    }
}

// Not derived, since a derive would demand the same traits of T and A.

impl<T, A: Access> fmt::Debug for PortGeneric<T, A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PortGeneric")
            .field("port", &self.port)
            .field("size", &size_of::<T>())
            .field("access", &format_args!("{}", A::DEBUG_NAME))
            .finish()
    }
}

impl<T, A> Clone for PortGeneric<T, A> {
    fn clone(&self) -> PortGeneric<T, A> {
        PortGeneric::new(self.port)
    }
}

impl<T, A> PartialEq for PortGeneric<T, A> {
    fn eq(&self, other: &PortGeneric<T, A>) -> bool {
        self.port == other.port
    }
}

impl<T, A> Eq for PortGeneric<T, A> {}

/// The directions in which a [`PortGeneric`] may be used.
pub trait Access {
    /// The name that `Debug` shows.
    const DEBUG_NAME: &'static str;
}

/// Marks an access that can read.
pub trait PortReadAccess: Access {}

/// Marks an access that can write.
pub trait PortWriteAccess: Access {}

/// Only read access.
#[derive(Debug)]
pub struct ReadOnlyAccess(());

impl Access for ReadOnlyAccess {
    const DEBUG_NAME: &'static str = "ReadOnly";
}
impl PortReadAccess for ReadOnlyAccess {}

/// Only write access.
#[derive(Debug)]
pub struct WriteOnlyAccess(());

impl Access for WriteOnlyAccess {
    const DEBUG_NAME: &'static str = "WriteOnly";
}
impl PortWriteAccess for WriteOnlyAccess {}

/// Read and write access.
#[derive(Debug)]
pub struct ReadWriteAccess(());

impl Access for ReadWriteAccess {
    const DEBUG_NAME: &'static str = "ReadWrite";
}
impl PortReadAccess for ReadWriteAccess {}
impl PortWriteAccess for ReadWriteAccess {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn ports_compare_and_print_by_number() {
        const COM1: Port<u8> = Port::new(0x3f8);
        assert_eq!(COM1.clone(), Port::new(0x3f8));
        assert_ne!(COM1, Port::new(0x3f9));
        assert_eq!(format!("{COM1:?}"), "PortGeneric { port: 1016, size: 1, access: ReadWrite }");
        let reads = PortReadOnly::<u32>::new(0xcfc);
        assert_eq!(format!("{reads:?}"), "PortGeneric { port: 3324, size: 4, access: ReadOnly }");
    }
}
