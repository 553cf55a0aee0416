//! The option `device=KIND@PORT[-PORT][:KEY=VALUE...]`.

use super::OptionError;
use crate::access_filter::split_at_single_colons;
use crate::devices::{DeviceRequest, Kind};
use crate::x86::PortRange;

/// Parses the option's value. A colon within a setting is doubled.
pub(super) fn parse(text: &str, kinds: &[Kind]) -> Result<DeviceRequest<Kind>, OptionError> {
    let syntax = || OptionError::DeviceSyntax(text.to_owned());
    let mut parts = split_at_single_colons(text).into_iter();
    let kind_and_ports = parts.next().ok_or_else(syntax)?;
    let (name, range) = kind_and_ports.split_once('@').ok_or_else(syntax)?;
    let kind = kinds.iter().find(|kind| kind.name() == name);
    let kind = *kind.ok_or_else(|| OptionError::DeviceKind {
        option: text.to_owned(),
        kind: name.to_owned(),
        known: kinds.iter().map(Kind::name).collect(),
    })?;
    let range = PortRange::parse(range, kind.ports())
        .map_err(|source| OptionError::DeviceRange { option: text.to_owned(), source })?;
    let mut settings: Vec<(String, String)> = Vec::new();
    for part in parts {
        let (key, value) = match part.split_once('=') {
            Some(setting) => setting,
            None if part.is_empty() => return Err(syntax()),
            // A setting without a value, such as `strict`.
            None => (&*part, ""),
        };
        if settings.iter().any(|(other, _)| other == key) {
            let (option, key) = (text.to_owned(), key.to_owned());
            return Err(OptionError::DeviceSettingTwice { option, key });
        }
        settings.push((key.to_owned(), value.to_owned()));
    }
    Ok(DeviceRequest { kind, range, kind_and_ports, settings })
}
