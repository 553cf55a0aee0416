//! The plugin API of the running QEMU: all functions that pvio calls, with the types of its version.

use std::ffi::CStr;

use super::symbols::{
    AccessPlaces, AddressTranslation, CallbacksById, CallbacksByUserdata, DiscontinuityById,
    GlibFunctions, PluginFunctions, ReadRegisterLength, ReadRegisterSuccess, RegisterList,
    ScoreboardFunctions, WriteRegisterLength, WriteRegisterSuccess,
};
use crate::symbol::NotExported;
use crate::version::ApiLevel;

/// A function that this QEMU's plugin API should have, and that it does not export.
#[derive(Debug, thiserror::Error)]
#[error("this QEMU does not export {0:?}, which its plugin API {1} should have")]
pub struct MissingFunction(&'static CStr, ApiLevel);

impl MissingFunction {
    pub(super) fn in_api(level: ApiLevel) -> impl Fn(NotExported) -> MissingFunction {
        move |NotExported(symbol)| MissingFunction(symbol, level)
    }
}

/// The functions that register callbacks, by API version.
pub(super) enum Registration {
    /// API 4 to 6: every callback gets the plugin's id. API 6 reports discontinuities.
    ById(CallbacksById, Option<DiscontinuityById>),
    /// API 7: every callback gets its user data.
    ByUserdata(CallbacksByUserdata),
}

/// The function that reads a register, by API version.
pub(super) enum ReadRegister {
    /// API 4 and 5.
    Length(ReadRegisterLength),
    /// From API 6 on.
    Success(ReadRegisterSuccess),
}

/// The function that writes a register, by API version.
pub(super) enum WriteRegister {
    /// API 5.
    Length(WriteRegisterLength),
    /// From API 6 on.
    Success(WriteRegisterSuccess),
}

/// The functions that pvio calls.
pub(super) struct Api {
    pub plugin: PluginFunctions,
    pub scoreboard: ScoreboardFunctions,
    pub places: AccessPlaces,
    /// `None` below API 5.
    pub translation: Option<AddressTranslation>,
    pub glib: GlibFunctions,
    pub registration: Registration,
    pub register_list: RegisterList,
    pub read_register: ReadRegister,
    /// `None` below API 5.
    pub write_register: Option<WriteRegister>,
}

impl Api {
    /// Looks up all functions. `level` is the version in QEMU's `qemu_info_t`.
    pub fn load(level: ApiLevel) -> Result<Api, MissingFunction> {
        Api::find(level).map_err(MissingFunction::in_api(level))
    }

    fn find(level: ApiLevel) -> Result<Api, NotExported> {
        let registration = if level >= ApiLevel::USERDATA {
            Registration::ByUserdata(CallbacksByUserdata::find()?)
        } else if level >= ApiLevel::DISCONTINUITIES {
            Registration::ById(CallbacksById::find()?, Some(DiscontinuityById::find()?))
        } else {
            Registration::ById(CallbacksById::find()?, None)
        };
        let (read_register, write_register) = if level >= ApiLevel::DISCONTINUITIES {
            let write = WriteRegister::Success(WriteRegisterSuccess::find()?);
            (ReadRegister::Success(ReadRegisterSuccess::find()?), Some(write))
        } else if level >= ApiLevel::WRITES {
            let write = WriteRegister::Length(WriteRegisterLength::find()?);
            (ReadRegister::Length(ReadRegisterLength::find()?), Some(write))
        } else {
            (ReadRegister::Length(ReadRegisterLength::find()?), None)
        };
        Ok(Api {
            plugin: PluginFunctions::find()?,
            scoreboard: ScoreboardFunctions::find()?,
            places: AccessPlaces::find()?,
            translation: AddressTranslation::find().ok(),
            glib: GlibFunctions::find()?,
            registration,
            register_list: RegisterList::find()?,
            read_register,
            write_register,
        })
    }
}
