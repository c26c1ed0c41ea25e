//! Rows out of a file that SQLite can no longer make sense of. Every leaf of a table is a page by itself, and every row of
//! ours has a checksum: what is found by looking at each page, and has the right one, is a row, whatever has become of the
//! pages that lead to it. (The format is that of <https://sqlite.org/fileformat2.html>.)
//!
//! A page that was given up keeps its rows until it is used again, so rows may come up that were delivered before. They
//! are stored once all the same: ids are made, not drawn.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::file::{PAGE_BYTES, journal};
use crate::record::{Kind, Record};

const PAGE: usize = PAGE_BYTES as usize;
/// The file's header stands before that of its first page.
const FILE_HEADER_BYTES: usize = 100;
const TABLE_LEAF: u8 = 0x0d;
/// What a row keeps in its own page, at most, and at least when the rest is elsewhere.
const LOCAL_MAX: usize = PAGE - 35;
const LOCAL_MIN: usize = (PAGE - 12) * 32 / 255 - 23;
/// Largest row that is followed through its pages.
const ROW_BYTES_MAX: usize = 64 << 20;
const COLUMNS: usize = 6;
/// A journal begins with this if it is of a transaction that did not come to its end.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
const JOURNAL_HEADER_BYTES: u64 = 512;
/// A page in a journal has its number before it and a checksum behind it.
const JOURNAL_PAGE_BYTES: u64 = PAGE_BYTES + 8;

/// Gives every row that can be found in the file, and in its journal, to `each`. A row may come twice.
pub(crate) fn rows<E>(path: &Path, mut each: impl FnMut(Record) -> Result<(), E>) -> Result<(), E>
where
    E: From<io::Error>,
{
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut page = vec![0; PAGE];
    for at in (0..bytes).step_by(PAGE) {
        if !read_page(&mut file, at, &mut page)? {
            break;
        }
        let header = if at == 0 { FILE_HEADER_BYTES } else { 0 };
        for record in rows_of(&page, header, &mut file) {
            each(record)?;
        }
    }
    let Ok(mut journal) = File::open(journal(path)) else { return Ok(()) };
    let mut magic = [0; JOURNAL_MAGIC.len()];
    if journal.read_exact(&mut magic).is_err() || magic != JOURNAL_MAGIC {
        return Ok(());
    }
    let bytes = journal.metadata()?.len();
    let mut at = JOURNAL_HEADER_BYTES + 4;
    while at < bytes && read_page(&mut journal, at, &mut page)? {
        for record in rows_of(&page, 0, &mut file) {
            each(record)?;
        }
        at += JOURNAL_PAGE_BYTES;
    }
    Ok(())
}

/// Whether a whole page was there.
fn read_page(file: &mut File, at: u64, page: &mut [u8]) -> io::Result<bool> {
    file.seek(SeekFrom::Start(at))?;
    match file.read_exact(page) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn rows_of(page: &[u8], header: usize, file: &mut File) -> Vec<Record> {
    if page[header] != TABLE_LEAF {
        return Vec::new();
    }
    let pointers = header + 8;
    let count = usize::from(u16::from_be_bytes([page[header + 3], page[header + 4]]));
    let cells = page[pointers..].chunks_exact(2).take(count);
    cells
        .filter_map(|pointer| {
            let at = usize::from(u16::from_be_bytes([pointer[0], pointer[1]]));
            row(page.get(at..)?, file)
        })
        .collect()
}

/// The row of one cell: nothing unless it is one of ours, whole and right.
fn row(mut cell: &[u8], file: &mut File) -> Option<Record> {
    let bytes = usize::try_from(varint(&mut cell)?).ok().filter(|bytes| *bytes <= ROW_BYTES_MAX)?;
    let position = varint(&mut cell)?;
    if bytes <= LOCAL_MAX {
        return parse(position, cell.get(..bytes)?);
    }
    let most = LOCAL_MIN + (bytes - LOCAL_MIN) % (PAGE - 4);
    let local = if most <= LOCAL_MAX { most } else { LOCAL_MIN };
    let mut payload = cell.get(..local)?.to_vec();
    let mut next = number(cell.get(local..local + 4)?);
    let mut page = vec![0; PAGE];
    while payload.len() < bytes && next != 0 {
        if !read_page(file, (next - 1).checked_mul(PAGE_BYTES)?, &mut page).ok()? {
            return None;
        }
        next = number(&page[..4]);
        let more = (bytes - payload.len()).min(PAGE - 4);
        payload.extend_from_slice(&page[4..4 + more]);
    }
    parse(position, payload.get(..bytes)?)
}

fn parse(position: i64, payload: &[u8]) -> Option<Record> {
    let mut rest = payload;
    let header_bytes = usize::try_from(varint(&mut rest)?).ok()?;
    let mut types = payload.get(payload.len() - rest.len()..header_bytes)?;
    let mut values = payload.get(header_bytes..)?;
    let mut columns: Vec<(i64, &[u8])> = Vec::with_capacity(COLUMNS);
    while !types.is_empty() && columns.len() < COLUMNS {
        let kind = varint(&mut types)?;
        let (value, more) = values.split_at_checked(value_bytes(kind)?)?;
        values = more;
        columns.push((kind, value));
    }
    // The position stands as the row's key, and its column is empty.
    let [(0, _), kind, at, (body_type, body), (origin_type, origin), checksum] = columns.as_slice() else {
        return None;
    };
    let is_blob = |kind: i64| kind >= 12 && kind % 2 == 0;
    let is_text = |kind: i64| kind >= 13 && kind % 2 == 1;
    if !types.is_empty() || !is_blob(*body_type) || !(*origin_type == 0 || is_text(*origin_type)) {
        return None;
    }
    let record = Record {
        position,
        kind: Kind::of_number(integer(*kind)?)?,
        at: integer(*at)?,
        body: body.to_vec(),
        origin: match origin_type {
            0 => None,
            _ => Some(String::from_utf8(origin.to_vec()).ok()?),
        },
    };
    (record.checksum() == integer(*checksum)?).then_some(record)
}

fn value_bytes(kind: i64) -> Option<usize> {
    match kind {
        0 | 8 | 9 => Some(0),
        1..=4 => usize::try_from(kind).ok(),
        5 => Some(6),
        6 | 7 => Some(8),
        12.. => usize::try_from((kind - 12) / 2).ok(),
        _ => None,
    }
}

fn integer((kind, value): (i64, &[u8])) -> Option<i64> {
    match kind {
        8 => Some(0),
        9 => Some(1),
        1..=6 => {
            let negative = value.first()? & 0x80 != 0;
            let start = if negative { -1 } else { 0 };
            Some(value.iter().fold(start, |sum: i64, byte| (sum << 8) | i64::from(*byte)))
        }
        _ => None,
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// Seven bits a byte, the highest first; a ninth byte has eight.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for place in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if place == 8 {
            return Some(((value << 8) | u64::from(*byte)).cast_signed());
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value.cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_format() {
        for (bytes, value) in [
            (&[0x05][..], Some(5)),
            (&[0x81, 0x00], Some(128)),
            (&[0xff; 9], Some(-1)),
            (&[0x81], None),
            (&[], None),
        ] {
            assert_eq!(varint(&mut { bytes }), value, "{bytes:?}");
        }
        assert_eq!(integer((2, &[0xff, 0xfe])), Some(-2));
        assert_eq!(integer((1, &[0x7f])), Some(127));
        assert_eq!(integer((9, &[])), Some(1));
        assert_eq!(integer((12, &[])), None);
    }
}
