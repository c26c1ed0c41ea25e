//! Parquet: typed columns, compressed with zstd. Ids are of the logical type UUID, instants microseconds in UTC.

use std::sync::Arc;

use monmon_model::Measurement;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::columns::{COLUMNS, Cell, Column, Kind};
use super::{Output, Writer, unwritten};

/// How many measurements a row group holds: some 20 MB before compression.
const GROUP_ROWS: usize = 50_000;

pub(super) struct Parquet {
    writer: SerializedFileWriter<Output>,
    /// The group to come, by column.
    cells: Vec<Vec<Cell>>,
}

impl Parquet {
    pub(super) fn new(output: Output) -> Result<Parquet, String> {
        let fields = COLUMNS.iter().map(|column| field(column).map(Arc::new)).collect::<Result<Vec<_>, _>>();
        let schema = fields
            .and_then(|fields| Type::group_type_builder("monmon_measurement").with_fields(fields).build())
            .map_err(unwritten)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(format!("monmon {}", env!("CARGO_PKG_VERSION")))
            .build();
        let writer =
            SerializedFileWriter::new(output, Arc::new(schema), Arc::new(properties)).map_err(unwritten)?;
        Ok(Parquet { writer, cells: COLUMNS.iter().map(|_| Vec::new()).collect() })
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        if self.cells.first().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        let mut columns = self.cells.iter_mut();
        while let Some(mut column) = group.next_column()? {
            let cells = columns.next().map(std::mem::take).unwrap_or_default();
            put(column.untyped(), cells)?;
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

impl Writer for Parquet {
    fn write(&mut self, measurements: &[Measurement]) -> Result<(), String> {
        for measurement in measurements {
            for (column, cells) in COLUMNS.iter().zip(&mut self.cells) {
                cells.push((column.pick)(measurement));
            }
            if self.cells[0].len() >= GROUP_ROWS {
                self.flush().map_err(unwritten)?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), String> {
        self.flush().map_err(unwritten)?;
        let mut output = self.writer.into_inner().map_err(unwritten)?;
        output.flush().map_err(unwritten)
    }
}

fn field(column: &Column) -> Result<Type, ParquetError> {
    let (physical, logical) = match column.kind {
        Kind::Id => (PhysicalType::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid)),
        Kind::Instant => (PhysicalType::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        Kind::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Json => (PhysicalType::BYTE_ARRAY, Some(LogicalType::Json)),
        Kind::Long => (PhysicalType::INT64, None),
        Kind::Flag => (PhysicalType::BOOLEAN, None),
    };
    let length = if column.kind == Kind::Id { 16 } else { -1 };
    Type::primitive_type_builder(column.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical)
        .with_length(length)
        .build()
}

/// Writes a column's values, and which rows have one.
fn put(writer: &mut ColumnWriter<'_>, cells: Vec<Cell>) -> Result<(), ParquetError> {
    let levels: Vec<i16> = cells.iter().map(|cell| i16::from(*cell != Cell::Null)).collect();
    let (mut longs, mut flags, mut texts, mut ids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for cell in cells {
        match cell {
            Cell::Null => {}
            Cell::Long(number) => longs.push(number),
            Cell::Instant(at) => longs.push(at.as_microsecond()),
            Cell::Flag(flag) => flags.push(flag),
            Cell::Text(text) => texts.push(ByteArray::from(text.into_bytes())),
            Cell::Id(id) => ids.push(FixedLenByteArray::from(id.as_bytes().to_vec())),
        }
    }
    match writer {
        ColumnWriter::Int64ColumnWriter(writer) => writer.write_batch(&longs, Some(&levels), None),
        ColumnWriter::BoolColumnWriter(writer) => writer.write_batch(&flags, Some(&levels), None),
        ColumnWriter::ByteArrayColumnWriter(writer) => writer.write_batch(&texts, Some(&levels), None),
        ColumnWriter::FixedLenByteArrayColumnWriter(writer) => writer.write_batch(&ids, Some(&levels), None),
        _ => return Err(ParquetError::General("a column of another type than any of ours".to_owned())),
    }?;
    Ok(())
}
