//! What a plugin's file is, for its author and for whoever is to trust it.

use std::time::{Duration, Instant};

use monmon_stage::matching::PluginLimits;
use wasmtime::component::Component;

use crate::component::{Form, component};
use crate::describe::Description;
use crate::engine::compiler;
use crate::{Host, PluginError};

/// What was found in a plugin's file, and what it took.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub form: Form,
    pub bytes: u64,
    pub component_bytes: u64,
    pub code_bytes: u64,
    pub compile_time: Duration,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// What one instance has from the start.
    pub memories: u32,
    pub tables: u32,
    /// Of a new instance, before any page.
    pub memory_bytes: u64,
    pub start_time: Duration,
    pub description: Description,
}

/// Looks into a plugin's file, and starts it once.
pub fn inspect(host: &Host, bytes: &[u8]) -> Result<Inspection, PluginError> {
    let (binary, form) = component(bytes)?;
    let engine = compiler(false).map_err(|error| PluginError::Machine(format!("{error:#}")))?;
    let begun = Instant::now();
    let code =
        engine.precompile_component(&binary).map_err(|error| PluginError::Compile(format!("{error:#}")))?;
    let compile_time = begun.elapsed();
    #[expect(unsafe_code, reason = "code is trusted blindly")]
    // SAFETY: it was compiled for this very engine just now, by ourselves.
    let loaded = unsafe { Component::deserialize(&engine, &code) };
    let loaded = loaded.map_err(|error| PluginError::Compile(format!("{error:#}")))?;
    let ty = loaded.component_type();
    let imports = ty.imports(&engine).map(|(name, _)| name.to_owned()).collect();
    let exports = ty.exports(&engine).map(|(name, _)| name.to_owned()).collect();
    let resources = loaded.resources_required();
    let plugin = host.load_bytes(bytes, false)?;
    let begun = Instant::now();
    let instance = plugin.instance(PluginLimits::default(), None).map_err(PluginError::Describe)?;
    Ok(Inspection {
        form,
        bytes: bytes.len() as u64,
        component_bytes: binary.len() as u64,
        code_bytes: code.len() as u64,
        compile_time,
        imports,
        exports,
        memories: resources.as_ref().map_or(0, |resources| resources.num_memories),
        tables: resources.as_ref().map_or(0, |resources| resources.num_tables),
        memory_bytes: instance.memory_bytes(),
        start_time: begun.elapsed(),
        description: plugin.description.clone(),
    })
}
