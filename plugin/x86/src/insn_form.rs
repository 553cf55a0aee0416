//! The form of an instruction. If its mode is unknown, it may have two forms.
//!
//! 16-bit code has 16-bit operands where other code has 32-bit ones. So the form is undecided for `in`, `out`, `ins` and
//! `outs` of these two widths. A `rep` may have a known form, but an unknown width of the register with its count.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Decoded, Direction, Mode, PortForm, PortSource, Width, decode, intel_syntax};

/// The form of an instruction, or the two that it may have.
///
/// ```
/// use pvio_x86::{InsnForm, Mode, PortForm, decode};
///
/// let [narrow, wide] = [Mode::Bits16, Mode::Bits32].map(|mode| decode(&[0xef], mode).unwrap());
/// let form = InsnForm::of_either(&narrow, &wide);
/// assert_eq!(form.name(), "out dx,ax|out dx,eax");
/// assert_eq!(form.decided(), None);
/// assert_eq!(InsnForm::from(PortForm::OutDxAl).name(), "out dx,al");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InsnForm(u8);

/// The number of forms that are decided.
const DECIDED: usize = PortForm::ALL.len();

macro_rules! undecided_forms {
    ($($name:literal $narrow:ident $wide:ident,)*) => {
        /// The two forms that an undecided one may be, and their names.
        const UNDECIDED: &[(PortForm, PortForm, &str)] =
            &[$((PortForm::$narrow, PortForm::$wide, $name),)*];
    };
}

undecided_forms! {
    "in ax,imm8|in eax,imm8"   InAxImm  InEaxImm,
    "in ax,dx|in eax,dx"       InAxDx   InEaxDx,
    "out imm8,ax|out imm8,eax" OutImmAx OutImmEax,
    "out dx,ax|out dx,eax"     OutDxAx  OutDxEax,
    "insw|insd"                Insw     Insd,
    "rep insw|rep insd"        RepInsw  RepInsd,
    "outsw|outsd"              Outsw    Outsd,
    "rep outsw|rep outsd"      RepOutsw RepOutsd,
    "rep insb"                 RepInsb  RepInsb,
    "rep outsb"                RepOutsb RepOutsb,
    "rep insw"                 RepInsw  RepInsw,
    "rep outsw"                RepOutsw RepOutsw,
    "rep insd"                 RepInsd  RepInsd,
    "rep outsd"                RepOutsd RepOutsd,
}

/// The names by position.
const NAMES: [&str; InsnForm::COUNT] = {
    let mut names = [""; InsnForm::COUNT];
    let mut index = 0;
    while index < InsnForm::COUNT {
        names[index] = match index < DECIDED {
            true => PortForm::ALL[index].name(),
            false => UNDECIDED[index - DECIDED].2,
        };
        index += 1;
    }
    names
};

/// What each form does.
#[derive(Clone, Copy)]
struct Operation {
    direction: Direction,
    source: PortSource,
    size: AccessSize,
}

/// What the forms do, by position. Looked up at each access that is traced.
static OPERATIONS: [Operation; InsnForm::COUNT] = {
    let mut operations = [InsnForm(0).operation(); InsnForm::COUNT];
    let mut index = 0;
    while index < InsnForm::COUNT {
        operations[index] = InsnForm(index as u8).operation();
        index += 1;
    }
    operations
};

impl InsnForm {
    /// The number of all, decided or not.
    pub const COUNT: usize = DECIDED + UNDECIDED.len();

    /// Returns the form of an instruction that decodes differently in two modes.
    ///
    /// # Panics
    ///
    /// If it decodes to the same form in both and is no `rep`.
    pub fn of_either(one: &Decoded, other: &Decoded) -> InsnForm {
        let (narrow, wide) = (one.form.min(other.form), one.form.max(other.form));
        let index = UNDECIDED.iter().position(|&(a, b, _)| (a, b) == (narrow, wide));
        InsnForm((DECIDED + index.expect("modes differ in these forms only")) as u8)
    }

    /// All that are undecided.
    pub fn all_undecided() -> impl Iterator<Item = InsnForm> {
        (DECIDED..InsnForm::COUNT).map(InsnForm::from_index)
    }

    /// Returns the position: first [`PortForm::ALL`], then those that are undecided.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the form at a position.
    ///
    /// # Panics
    ///
    /// If the position is not below [`InsnForm::COUNT`].
    pub const fn from_index(index: usize) -> InsnForm {
        assert!(index < InsnForm::COUNT);
        InsnForm(index as u8)
    }

    /// Returns the form; `None` if it is undecided.
    #[inline]
    pub fn decided(self) -> Option<PortForm> {
        PortForm::ALL.get(self.index()).copied()
    }

    /// Returns the two forms that it may have, which may be the same.
    const fn either(self) -> (PortForm, PortForm) {
        match self.index() < DECIDED {
            true => (PortForm::ALL[self.index()], PortForm::ALL[self.index()]),
            false => {
                let (narrow, wide, _) = UNDECIDED[self.index() - DECIDED];
                (narrow, wide)
            }
        }
    }

    /// Returns the part of the operation that is the same for both forms that it may have.
    const fn operation(self) -> Operation {
        let (narrow, wide) = self.either();
        let width = narrow.width();
        let size = if width as u8 == wide.width() as u8 { Some(width) } else { None };
        let (direction, source) = (narrow.direction(), narrow.source());
        Operation { direction, source, size: AccessSize(size) }
    }

    /// Returns the form in Intel syntax, or both forms.
    pub fn name(self) -> &'static str {
        NAMES[self.index()]
    }

    /// Returns the direction.
    #[inline]
    pub fn direction(self) -> Direction {
        OPERATIONS[self.index()].direction
    }

    /// Returns where the port comes from, and whether the form repeats.
    #[inline]
    pub fn source(self) -> PortSource {
        OPERATIONS[self.index()].source
    }

    /// Returns the size of one access.
    #[inline]
    pub fn size(self) -> AccessSize {
        OPERATIONS[self.index()].size
    }

    /// Formats an instruction of this form in Intel syntax. `pc` is its address.
    ///
    /// Of a mode that is not known, it has all texts and all registers that the form allows, with `|` between them:
    /// `outsw dx,[si]|outsd dx,[esi|rsi]`.
    pub fn intel_syntax(self, bytes: &[u8], mode: Option<Mode>, pc: u64) -> String {
        if let Some(mode) = mode {
            return intel_syntax(bytes, mode, pc);
        }
        let (narrow, wide) = self.either();
        let is_possible = |mode: &Mode| {
            decode(bytes, *mode).is_some_and(|insn| [narrow, wide].contains(&insn.form))
        };
        let texts = Mode::ALL.into_iter().filter(is_possible);
        alternatives(texts.map(|mode| intel_syntax(bytes, mode, pc)))
    }

    /// Returns true if it moves elements to or from memory.
    #[inline]
    pub fn is_string(self) -> bool {
        matches!(self.source(), PortSource::String | PortSource::RepString)
    }
}

/// Joins texts by `|`. Texts that differ only by what is in brackets become one.
fn alternatives(texts: impl Iterator<Item = String>) -> String {
    let mut found: Vec<(String, String)> = Vec::new();
    for text in texts {
        let (head, rest) = text.split_once('[').unwrap_or((&text, ""));
        let (operand, tail) = rest.split_once(']').unwrap_or(("", ""));
        let around = format!("{head}[{tail}");
        match found.iter_mut().find(|(other, _)| *other == around) {
            None => found.push((around, operand.to_owned())),
            Some((_, operands)) if operands.split('|').all(|other| other != operand) => {
                *operands += &format!("|{operand}");
            }
            Some(_) => {}
        }
    }
    let texts = found.iter().map(|(around, operands)| match operands.is_empty() {
        true => around.replace('[', ""),
        false => around.replace('[', &format!("[{operands}]")),
    });
    texts.collect::<Vec<_>>().join("|")
}

impl From<PortForm> for InsnForm {
    #[inline]
    fn from(form: PortForm) -> InsnForm {
        InsnForm(form as u8)
    }
}

impl fmt::Display for InsnForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for InsnForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for InsnForm {
    /// A `rep` of known form is read as one that is decided.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<InsnForm, D::Error> {
        let name = String::deserialize(deserializer)?;
        let mut all = (0..InsnForm::COUNT).map(InsnForm::from_index);
        all.find(|form| form.name() == name).ok_or_else(|| D::Error::unknown_variant(&name, &NAMES))
    }
}

/// The size of one access, if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessSize(pub Option<Width>);

impl AccessSize {
    /// The number of sizes, with the unknown one.
    pub const COUNT: usize = Width::ALL.len() + 1;

    /// The unknown size.
    pub const UNKNOWN: AccessSize = AccessSize(None);

    /// Returns the size in bytes; `None` if it is not known.
    #[inline]
    pub fn bytes(self) -> Option<u8> {
        self.0.map(Width::bytes)
    }

    /// Returns the low bytes of a register that an access moves; `None` if the size is not known.
    #[inline]
    pub fn low_bytes(self, register: u32) -> Option<u32> {
        self.0.map(|width| width.low_bytes(register))
    }

    /// Returns the position among all: by width, the unknown size last.
    #[inline]
    pub const fn index(self) -> usize {
        match self.0 {
            Some(width) => width as usize,
            None => Width::ALL.len(),
        }
    }

    /// Returns the size at a position below [`AccessSize::COUNT`].
    pub fn from_index(index: usize) -> AccessSize {
        AccessSize(Width::ALL.get(index).copied())
    }
}

impl From<Width> for AccessSize {
    #[inline]
    fn from(width: Width) -> AccessSize {
        AccessSize(Some(width))
    }
}

impl fmt::Display for AccessSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            Some(bytes) => bytes.fmt(f),
            None => f.pad("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_unknown_mode_has_the_registers_of_all_modes() {
        let text = |bytes: &[u8], form: &str| {
            let mut forms = (0..InsnForm::COUNT).map(InsnForm::from_index);
            forms.find(|known| known.name() == form).unwrap().intel_syntax(bytes, None, 0)
        };
        assert_eq!(text(&[0xee], "out dx,al"), "out dx,al");
        assert_eq!(text(&[0xef], "out dx,eax"), "out dx,eax");
        assert_eq!(text(&[0xef], "out dx,ax|out dx,eax"), "out dx,ax|out dx,eax");
        assert_eq!(text(&[0x6e], "outsb"), "outsb dx,[si|esi|rsi]");
        assert_eq!(text(&[0x6d], "insd"), "insd [edi|rdi],dx");
        assert_eq!(text(&[0x67, 0x6e], "outsb"), "outsb dx,[esi|si]");
        let both = "rep outsw dx,[si]|rep outsd dx,[esi|rsi]";
        assert_eq!(text(&[0xf3, 0x6f], "rep outsw|rep outsd"), both);
        assert_eq!(
            InsnForm::from(PortForm::Outsb).intel_syntax(&[0x6e], Some(Mode::Bits64), 0),
            "outsb dx,[rsi]"
        );
    }

    #[test]
    fn every_form_that_modes_decide_is_among_the_undecided() {
        let mut found = [false; InsnForm::COUNT];
        for opcode in (0x6c..=0x6f).chain(0xe4..=0xe7).chain(0xec..=0xef) {
            for prefix in [&[][..], &[0x66], &[0x67], &[0xf3], &[0xf3, 0x66]] {
                let mut bytes = prefix.to_vec();
                bytes.push(opcode);
                bytes.extend((0xe4..=0xe7).contains(&opcode).then_some(0x71));
                for (one, other) in [(Mode::Bits16, Mode::Bits64), (Mode::Bits32, Mode::Bits64)] {
                    let (narrow, wide) =
                        (decode(&bytes, one).unwrap(), decode(&bytes, other).unwrap());
                    if narrow.form == wide.form && narrow.form.source() != PortSource::RepString {
                        continue;
                    }
                    let form = InsnForm::of_either(&narrow, &wide);
                    assert_eq!(form, InsnForm::of_either(&wide, &narrow));
                    assert_eq!(form.decided(), None);
                    assert_eq!(form.direction(), narrow.form.direction());
                    assert_eq!(form.source(), narrow.form.source());
                    let same = narrow.form == wide.form;
                    assert_eq!(form.size(), AccessSize(same.then(|| narrow.form.width())));
                    found[form.index()] = true;
                }
            }
        }
        assert!(InsnForm::all_undecided().all(|form| found[form.index()]));
        for form in PortForm::ALL.map(InsnForm::from) {
            assert_eq!(InsnForm::from_index(form.index()), form);
        }
    }

    #[test]
    fn a_form_is_serialized_as_its_name_and_a_size_as_its_bytes() {
        for form in (0..InsnForm::COUNT).map(InsnForm::from_index) {
            let json = serde_json::to_string(&form).unwrap();
            let read: InsnForm = serde_json::from_str(&json).unwrap();
            assert_eq!(read.name(), form.name());
        }
        assert!(serde_json::from_str::<InsnForm>("\"inb\"").is_err());
        let sizes: Vec<_> = (0..AccessSize::COUNT).map(AccessSize::from_index).collect();
        assert_eq!(serde_json::to_string(&sizes).unwrap(), "[1,2,4,null]");
        assert_eq!(sizes.iter().map(|size| size.index()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
