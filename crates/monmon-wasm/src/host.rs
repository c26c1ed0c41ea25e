//! All plugins of the process: their machines, their code, and what was loaded already.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use monmon_stage::matching::PluginLimits;
use monmon_syntax::{FileLoader, LoadError};
use sha2::{Digest, Sha256};
use tracing::debug;
use wasmtime::component::{Component, Linker};

use crate::PluginError;
use crate::bindings::MatcherPre;
use crate::cache::Cache;
use crate::compile::{Compiler, compile};
use crate::component::{EXPORTS, HOST, PACKAGE, PLUGIN_BYTES_MAX};
use crate::describe::Description;
use crate::engine::{Machine, compatibility, hex};
use crate::instance::{Guest, Instance, linker, with_stubs};
use crate::log::{Lines, Logbook};

/// How a host works.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// Where compiled code is kept; without it every start compiles.
    pub cache: Option<PathBuf>,
    pub compiler: Compiler,
}

static SETTINGS: OnceLock<HostOptions> = OnceLock::new();
static HOST_OF_PROCESS: OnceLock<Host> = OnceLock::new();

/// Says how the process's host shall work; before its first use, else it has no effect.
pub fn set_up(options: HostOptions) {
    drop(SETTINGS.set(options));
}

/// The host that pipelines use. There is one for the process: its address space, its clock and its code are shared.
pub fn host() -> &'static Host {
    HOST_OF_PROCESS.get_or_init(|| Host::new(SETTINGS.get().cloned().unwrap_or_default()))
}

/// Loads plugins.
pub struct Host {
    options: HostOptions,
    cache: Option<Cache>,
    plain: OnceLock<Result<Runner, PluginError>>,
    metered: OnceLock<Result<Runner, PluginError>>,
    /// By digest, and whether their code is metered.
    loaded: Mutex<HashMap<(String, bool), Weak<Plugin>>>,
}

/// A machine with what plugins may call on it.
struct Runner {
    machine: Arc<Machine>,
    linker: Linker<Guest>,
    compatibility: String,
    places: Arc<AtomicU32>,
}

/// A plugin that was loaded and says what it is.
pub struct Plugin {
    /// SHA-256 of the file, in hexadecimal digits.
    pub digest: String,
    pub description: Description,
    /// The code came from the cache.
    pub was_cached: bool,
    machine: Arc<Machine>,
    places: Arc<AtomicU32>,
    matcher: MatcherPre<Guest>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("digest", &self.digest)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// A new instance, not configured yet.
    pub fn instance(
        &self,
        limits: PluginLimits,
        book: Option<Arc<Logbook>>,
    ) -> Result<Instance, crate::Fault> {
        Instance::new(&self.machine, &self.places, &self.matcher, limits, Lines::new(book))
    }
}

impl Host {
    pub fn new(options: HostOptions) -> Host {
        let cache = options.cache.as_deref().and_then(|folder| {
            Cache::open(folder)
                .inspect_err(|error| {
                    tracing::info!(folder = %folder.display(), %error, "compiled plugins are not kept");
                })
                .ok()
        });
        Host { options, cache, plain: OnceLock::new(), metered: OnceLock::new(), loaded: Mutex::default() }
    }

    /// Loads a plugin's file. `metered`: its code counts its instructions, for a limit by fuel.
    pub fn load(
        &self,
        path: &Path,
        loader: &dyn FileLoader,
        metered: bool,
    ) -> Result<Arc<Plugin>, PluginError> {
        let of_disk = loader.is_disk();
        let cache = self.cache.as_ref().filter(|_| of_disk);
        if let Some(digest) = cache.and_then(|cache| cache.digest(path))
            && let Some(plugin) = self.known(&digest, metered)?
        {
            return Ok(plugin);
        }
        // Taken before the file is read: a change meanwhile shows.
        let metadata = cache.and_then(|_| fs::metadata(path).ok());
        let bytes = loader.load(path, PLUGIN_BYTES_MAX).map_err(|error| unreadable(&error))?;
        if bytes.len() > PLUGIN_BYTES_MAX {
            return Err(PluginError::TooLarge);
        }
        let digest = hex(&Sha256::digest(&bytes));
        if let Some(cache) = cache {
            cache.note_digest(path, metadata.as_ref(), &digest);
        }
        match self.known(&digest, metered)? {
            Some(plugin) => Ok(plugin),
            None => self.make(&bytes, digest, metered),
        }
    }

    /// The same for a plugin that is no file.
    pub fn load_bytes(&self, bytes: &[u8], metered: bool) -> Result<Arc<Plugin>, PluginError> {
        let digest = hex(&Sha256::digest(bytes));
        match self.known(&digest, metered)? {
            Some(plugin) => Ok(plugin),
            None => self.make(bytes, digest, metered),
        }
    }

    /// One that was loaded already, or whose code is kept.
    fn known(&self, digest: &str, metered: bool) -> Result<Option<Arc<Plugin>>, PluginError> {
        let key = (digest.to_owned(), metered);
        if let Some(plugin) = self.loaded().get(&key).and_then(Weak::upgrade) {
            return Ok(Some(plugin));
        }
        let Some(cache) = &self.cache else { return Ok(None) };
        let runner = self.runner(metered)?;
        let Some(found) = cache.find(&code_name(digest, runner)) else { return Ok(None) };
        #[expect(unsafe_code, reason = "code is trusted blindly; the cache vouches for what it finds")]
        // SAFETY: `find` gives only files of a folder that nobody else may write to, whose content is what we wrote.
        let component = unsafe { Component::deserialize_file(&runner.machine.engine, &found.path) };
        match component {
            Ok(component) => {
                let plugin = runner.plugin(component, digest, Some(found.description))?;
                Ok(Some(self.remember(key, plugin)))
            }
            Err(error) => {
                debug!(%error, "compiled code that cannot be loaded; compiling again");
                Ok(None)
            }
        }
    }

    fn make(&self, bytes: &[u8], digest: String, metered: bool) -> Result<Arc<Plugin>, PluginError> {
        let runner = self.runner(metered)?;
        let code = compile(&self.options.compiler, bytes, metered)?;
        #[expect(unsafe_code, reason = "code is trusted blindly")]
        // SAFETY: it was compiled for this very machine just now, by ourselves.
        let component = unsafe { Component::deserialize(&runner.machine.engine, &code) };
        let component = component.map_err(|error| PluginError::Compile(format!("{error:#}")))?;
        let plugin = runner.plugin(component, &digest, None)?;
        if let Some(cache) = &self.cache {
            cache.keep(&code_name(&digest, runner), &code, &plugin.description);
        }
        Ok(self.remember((digest, metered), plugin))
    }

    fn remember(&self, key: (String, bool), plugin: Plugin) -> Arc<Plugin> {
        let plugin = Arc::new(plugin);
        let mut loaded = self.loaded();
        loaded.retain(|_, plugin| plugin.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(&plugin));
        plugin
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, HashMap<(String, bool), Weak<Plugin>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runner(&self, metered: bool) -> Result<&Runner, PluginError> {
        let slot = if metered { &self.metered } else { &self.plain };
        let made = slot
            .get_or_init(|| Runner::new(metered).map_err(|error| PluginError::Machine(format!("{error:#}"))));
        made.as_ref().map_err(Clone::clone)
    }
}

impl Runner {
    fn new(metered: bool) -> wasmtime::Result<Runner> {
        let machine = Arc::new(Machine::new(metered)?);
        let linker = linker(&machine)?;
        let compatibility = compatibility(&machine.engine);
        Ok(Runner { machine, linker, compatibility, places: Arc::default() })
    }

    /// Links a component, holds it against the contract, and asks it what it is unless that is known.
    fn plugin(
        &self,
        component: Component,
        digest: &str,
        description: Option<Description>,
    ) -> Result<Plugin, PluginError> {
        let engine = &self.machine.engine;
        let world = |error: wasmtime::Error| PluginError::World(format!("{error:#}"));
        let asks_for_wasi = check_imports(&component, engine)?;
        check_exports(&component, engine)?;
        let stubbed =
            asks_for_wasi.then(|| with_stubs(&self.linker, &component)).transpose().map_err(world)?;
        let linker = stubbed.as_ref().unwrap_or(&self.linker);
        let matcher = linker.instantiate_pre(&component).and_then(MatcherPre::new).map_err(world)?;
        let was_cached = description.is_some();
        let description = match description {
            Some(description) => description,
            None => {
                let limits = PluginLimits { fuel: self.fuel(), ..PluginLimits::default() };
                let lines = Lines::new(None);
                let mut instance = Instance::new(&self.machine, &self.places, &matcher, limits, lines)
                    .map_err(PluginError::Describe)?;
                Description::read(instance.describe().map_err(PluginError::Describe)?)?
            }
        };
        Ok(Plugin {
            digest: digest.to_owned(),
            description,
            was_cached,
            machine: self.machine.clone(),
            places: self.places.clone(),
            matcher,
        })
    }

    /// Metered code does not run without fuel.
    fn fuel(&self) -> Option<u64> {
        self.machine.is_metered.then_some(crate::instance::START_FUEL)
    }
}

/// Whether it asks for WASI, which is met by stubs; anything that is not ours is refused.
fn check_imports(component: &Component, engine: &wasmtime::Engine) -> Result<bool, PluginError> {
    let ty = component.component_type();
    let mut wasi = false;
    let mut unknown = Vec::new();
    for (name, _) in ty.imports(engine) {
        if name.starts_with("wasi:") {
            wasi = true;
        } else if name.starts_with(PACKAGE) && !is_ours(name) {
            unknown.push(format!("`{name}` (this monmon speaks {HOST})"));
        } else if !is_ours(name) {
            unknown.push(format!("`{name}`"));
        }
    }
    if unknown.is_empty() { Ok(wasi) } else { Err(PluginError::Imports(unknown)) }
}

fn is_ours(name: &str) -> bool {
    name == HOST || name == "monmon:matcher/types@0.1.0"
}

fn check_exports(component: &Component, engine: &wasmtime::Engine) -> Result<(), PluginError> {
    let ty = component.component_type();
    let there: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    let missing: Vec<String> =
        EXPORTS.iter().filter(|name| !there.contains(name)).map(|name| format!("`{name}`")).collect();
    if missing.is_empty() { Ok(()) } else { Err(PluginError::Exports(missing)) }
}

fn code_name(digest: &str, runner: &Runner) -> String {
    format!("{digest}-{}", runner.compatibility)
}

fn unreadable(error: &LoadError) -> PluginError {
    PluginError::Unreadable(error.to_string())
}
