//! Rows as a Parquet file, without Arrow.
//!
//! Every column may be null. Numbers are signed, because few programs read unsigned ones.

use std::io::Write;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde::Serialize;
use serde_json::Value;

use super::columns::{Column, Kind};

/// Number of rows that are kept in memory and written together.
const GROUP: usize = 65_536;

/// Writes rows. Call [`ParquetWriter::finish`] at the end.
pub struct ParquetWriter<W: Write> {
    out: W,
    buffer: Buffer,
    file: SerializedFileWriter<Buffer>,
    columns: Vec<(String, Data)>,
    rows: usize,
}

/// What the library has written and `out` does not have yet. The library wants a writer that can be sent to threads.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<W: Write> ParquetWriter<W> {
    /// Makes a writer of rows with these columns.
    ///
    /// # Errors
    ///
    /// Fails if there is no column.
    pub fn new(out: W, columns: &[Column]) -> Result<ParquetWriter<W>> {
        let fields = columns.iter().map(|column| described(&column.name, &column.kind));
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let schema = Type::group_type_builder("row").with_fields(fields).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let buffer = Buffer::default();
        let file = SerializedFileWriter::new(buffer.clone(), schema.into(), properties.into())?;
        let columns =
            columns.iter().map(|column| (column.name.clone(), Data::of(&column.kind))).collect();
        Ok(ParquetWriter { out, buffer, file, columns, rows: 0 })
    }

    /// Adds a row. Fields that it lacks are null.
    ///
    /// # Errors
    ///
    /// Fails if a number does not fit in 63 bits, or if the output cannot be written.
    pub fn row(&mut self, row: &impl Serialize) -> Result<()> {
        let row = serde_json::to_value(row)?;
        for (name, data) in &mut self.columns {
            data.push(&row[&**name], Levels::default())
                .with_context(|| format!("column {name}"))?;
        }
        self.rows += 1;
        if self.rows == GROUP { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<()> {
        let mut group = self.file.next_row_group()?;
        for (_, data) in &mut self.columns {
            data.write(&mut group)?;
        }
        group.close()?;
        self.rows = 0;
        Ok(self.out.write_all(&self.buffer.take())?)
    }

    /// Writes what is left, and the end of the file.
    ///
    /// # Errors
    ///
    /// Fails if the output cannot be written.
    pub fn finish(mut self) -> Result<()> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.file.close()?;
        self.out.write_all(&self.buffer.take())?;
        Ok(self.out.flush()?)
    }
}

/// Describes a column. A list has the three levels that the format prescribes.
fn described(name: &str, kind: &Kind) -> Result<TypePtr> {
    let primitive = |physical, logical| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()
    };
    let group = |name: &str, repetition, logical, fields| {
        Type::group_type_builder(name)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .with_fields(fields)
            .build()
    };
    let described = match kind {
        Kind::Boolean => primitive(Physical::BOOLEAN, None)?,
        Kind::Integer => primitive(Physical::INT64, None)?,
        Kind::Text => primitive(Physical::BYTE_ARRAY, Some(LogicalType::String))?,
        Kind::List(item) => {
            let items = vec![described("element", item)?];
            let list = group("list", Repetition::REPEATED, None, items)?;
            group(name, Repetition::OPTIONAL, Some(LogicalType::List), vec![list.into()])?
        }
        Kind::Object(fields) => {
            let fields = fields.iter().map(|field| described(&field.name, &field.kind));
            group(name, Repetition::OPTIONAL, None, fields.collect::<Result<_>>()?)?
        }
    };
    Ok(described.into())
}

/// The position of a value in the nested columns, as the format defines it.
#[derive(Clone, Copy, Default)]
struct Levels {
    /// The number of enclosing columns that are there, including lists with items.
    definition: i16,
    /// The innermost list in which the value is not the first item; 0 for the first value of a row.
    repetition: i16,
    /// The number of enclosing lists.
    lists: i16,
}

/// The values of a column since the last group.
enum Data {
    Leaf(Leaf),
    List(Box<Data>),
    Object(Vec<(String, Data)>),
}

#[derive(Default)]
struct Leaf {
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    values: Values,
}

enum Values {
    Booleans(Vec<bool>),
    Integers(Vec<i64>),
    Texts(Vec<ByteArray>),
}

impl Default for Values {
    fn default() -> Values {
        Values::Texts(Vec::new())
    }
}

impl Data {
    fn of(kind: &Kind) -> Data {
        let leaf = |values| Data::Leaf(Leaf { values, ..Leaf::default() });
        match kind {
            Kind::Boolean => leaf(Values::Booleans(Vec::new())),
            Kind::Integer => leaf(Values::Integers(Vec::new())),
            Kind::Text => leaf(Values::Texts(Vec::new())),
            Kind::List(item) => Data::List(Box::new(Data::of(item))),
            Kind::Object(fields) => Data::Object(
                fields.iter().map(|field| (field.name.clone(), Data::of(&field.kind))).collect(),
            ),
        }
    }

    fn push(&mut self, value: &Value, levels: Levels) -> Result<()> {
        if value.is_null() {
            self.push_nothing(levels);
            return Ok(());
        }
        let there = Levels { definition: levels.definition + 1, ..levels };
        match self {
            Data::Leaf(leaf) => {
                leaf.values.push(value)?;
                leaf.place(there);
            }
            Data::Object(fields) => {
                for (name, data) in fields {
                    data.push(&value[&**name], there)?;
                }
            }
            Data::List(data) => {
                let items = value.as_array().context("this is not a list")?;
                if items.is_empty() {
                    data.push_nothing(there);
                }
                let mut at =
                    Levels { definition: there.definition + 1, lists: levels.lists + 1, ..levels };
                for item in items {
                    data.push(item, at)?;
                    at.repetition = at.lists;
                }
            }
        }
        Ok(())
    }

    /// Notes in each leaf that there is no value.
    fn push_nothing(&mut self, levels: Levels) {
        match self {
            Data::Leaf(leaf) => leaf.place(levels),
            Data::List(data) => data.push_nothing(levels),
            Data::Object(fields) => {
                fields.iter_mut().for_each(|(_, data)| data.push_nothing(levels));
            }
        }
    }

    /// Writes the values of each leaf, in the order of the schema, and forgets them.
    fn write(&mut self, group: &mut SerializedRowGroupWriter<'_, Buffer>) -> Result<()> {
        match self {
            Data::Leaf(leaf) => leaf.write(group),
            Data::List(data) => data.write(group),
            Data::Object(fields) => fields.iter_mut().try_for_each(|(_, data)| data.write(group)),
        }
    }
}

impl Leaf {
    fn place(&mut self, levels: Levels) {
        self.definitions.push(levels.definition);
        self.repetitions.push(levels.repetition);
    }

    fn write(&mut self, group: &mut SerializedRowGroupWriter<'_, Buffer>) -> Result<()> {
        let mut column = group.next_column()?.context("the schema has fewer columns")?;
        let levels = (Some(&self.definitions[..]), Some(&self.repetitions[..]));
        match &mut self.values {
            Values::Booleans(values) => {
                column.typed::<BoolType>().write_batch(values, levels.0, levels.1)?;
                values.clear();
            }
            Values::Integers(values) => {
                column.typed::<Int64Type>().write_batch(values, levels.0, levels.1)?;
                values.clear();
            }
            Values::Texts(values) => {
                column.typed::<ByteArrayType>().write_batch(values, levels.0, levels.1)?;
                values.clear();
            }
        }
        column.close()?;
        self.definitions.clear();
        self.repetitions.clear();
        Ok(())
    }
}

impl Values {
    fn push(&mut self, value: &Value) -> Result<()> {
        match self {
            Values::Booleans(values) => values.push(value.as_bool().context("not true or false")?),
            Values::Integers(values) => {
                let number = value.as_i64();
                values.push(number.with_context(|| format!("{value} does not fit in 63 bits"))?);
            }
            Values::Texts(values) => {
                values.push(value.as_str().context("this is not text")?.into())
            }
        }
        Ok(())
    }
}
