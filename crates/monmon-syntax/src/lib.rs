//! The text of a pipeline file: spans, problems, quantities, the catalogue's tables and the reader they drive.
//!
//! The way of a file: [`load`] follows the includes and hands each file to [`parse`], which refuses what would harm the
//! KDL parser and explains broken syntax; [`read`] then holds one node against its [`NodeSpec`] and gives a [`Node`],
//! whose values are typed. Everything that is wrong goes into [`Problems`], with its place; [`Report`] shows them.

mod decode;
mod free;
mod late;
mod load;
mod mend;
mod nearest;
mod node;
mod parse;
mod problem;
mod quantity;
mod read;
mod report;
mod span;
mod table;
mod value;

pub use free::{FreeBlock, FreeEntry, FreeValue};
pub use late::{Late, LateSource, Resolved, SECRET_FILE_BYTES_MAX, Secret, World};
pub use load::{
    DiskLoader, FILE_BYTES_MAX, FileLoader, INCLUDE_DEPTH_MAX, INCLUDE_FILES_MAX, LoadError, Loaded,
    MemoryLoader, TopNode, load,
};
pub use mend::mended_url;
pub use nearest::{did_you_mean, nearest};
pub use node::Node;
pub use parse::{node_name_span, node_span, parse};
pub use problem::{Code, PROBLEMS_SHOWN_MAX, Problem, Problems, Severity};
pub use quantity::{
    QuantityError, Ranges, format_duration, format_size, parse_below, parse_duration, parse_ranges,
    parse_size,
};
pub use read::read;
pub use report::{Report, printable};
pub use span::{FileId, SourceFile, SourceMap, Span, Spanned};
pub use table::{ArgSpec, FOREVER, NodeSpec, Occurs, OptionSpec, ValueKind};
pub use value::Value;
