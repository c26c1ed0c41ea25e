//! From a plugin's file to a component, and what is in it.

use wasmparser::{Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use crate::PluginError;

/// Largest plugin file. One of Python, the largest that there is reason for, has 18 MB.
pub const PLUGIN_BYTES_MAX: usize = 64 << 20;
/// The contract, as plugins' authors get it.
pub const WIT: &str = include_str!("../../../plugins/wit/matcher.wit");
/// The package, as the names of a plugin's imports have it.
pub(crate) const PACKAGE: &str = "monmon:matcher";
/// The interface that a plugin may import.
pub(crate) const HOST: &str = "monmon:matcher/host@0.1.0";
/// What a plugin exports.
pub(crate) const EXPORTS: [&str; 3] = ["describe", "configure", "check"];

/// What languages whose runtime is made for WASI ask for. There are no files, arguments or variables behind it; the
/// clock counts how often it is asked, the random numbers are the same in every instance, and output is thrown away.
const WASI_STUB: &str = include_str!("wasi_stub.wat");
const WASI: &str = "wasi_snapshot_preview1";

/// The first bytes of all that is binary WebAssembly.
const MAGIC: &[u8] = b"\0asm";

/// What a plugin's file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Component,
    /// Made into a component when it was loaded.
    CoreModule,
    /// WebAssembly's text format; for tests.
    Text,
}

/// The component that a plugin's file is or can be made into.
pub(crate) fn component(bytes: &[u8]) -> Result<(Vec<u8>, Form), PluginError> {
    if !bytes.starts_with(MAGIC) {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.trim_start().starts_with(['(', ';']));
        let text = text.ok_or(PluginError::NotWasm)?;
        let binary = wat::parse_str(text).map_err(|error| PluginError::Invalid(error.to_string()))?;
        let (component, _) = component(&binary)?;
        return Ok((component, Form::Text));
    }
    if Parser::is_component(bytes) {
        return Ok((bytes.to_vec(), Form::Component));
    }
    let component = from_core(bytes)?;
    Ok((component, Form::CoreModule))
}

fn from_core(bytes: &[u8]) -> Result<Vec<u8>, PluginError> {
    let mut module = bytes.to_vec();
    let Core { is_typed, wants_wasi } = Core::of(bytes)?;
    if !is_typed {
        let mut resolve = Resolve::default();
        let world = resolve
            .push_str("matcher.wit", WIT)
            .and_then(|package| resolve.select_world(&[package], Some("matcher")))
            .expect("our own contract is sound");
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .expect("our own contract can be embedded");
    }
    // The text that the encoder has for what is missing or too much names it.
    let misfit = |error: anyhow::Error| PluginError::Core(format!("{error:#}"));
    let mut encoder = ComponentEncoder::default().validate(true).module(&module).map_err(misfit)?;
    if wants_wasi {
        let stub = wat::parse_str(WASI_STUB).expect("our own stub is sound");
        encoder = encoder.adapter(WASI, &stub).map_err(misfit)?;
    }
    encoder.encode().map_err(misfit)
}

struct Core {
    /// It says itself which world it is made for.
    is_typed: bool,
    wants_wasi: bool,
}

impl Core {
    fn of(bytes: &[u8]) -> Result<Core, PluginError> {
        let invalid = |error: wasmparser::BinaryReaderError| PluginError::Invalid(error.to_string());
        let mut core = Core { is_typed: false, wants_wasi: false };
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::Version { encoding: Encoding::Component, .. } => {
                    return Err(PluginError::Invalid("a component within a module".to_owned()));
                }
                Payload::CustomSection(section) => {
                    core.is_typed |= section.name().starts_with("component-type");
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        core.wants_wasi |= import.map_err(invalid)?.module == WASI;
                    }
                }
                _ => {}
            }
        }
        Ok(core)
    }
}
