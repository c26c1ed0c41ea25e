//! From a component to code. Neither fuel nor epochs bound this, so it has a process of its own, with a bound on its time
//! and its memory; without one (in tests) it is done in place.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::PluginError;
use crate::component::{PLUGIN_BYTES_MAX, component};
use crate::engine::compiler;

/// Longest time of one compilation. Python's runtime, the largest that there is reason for, takes 5 s.
pub const COMPILE_TIME: Duration = Duration::from_secs(60);
/// Most memory of one compilation.
const COMPILE_BYTES_MAX: u64 = 4 << 30;
/// Most code that may come of it.
const CODE_BYTES_MAX: u64 = 512 << 20;
/// Most words of a failure.
const WORDS_BYTES_MAX: u64 = 4096;
/// How often the process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The exit code by which a worker says that the plugin is not sound; its words stand on standard error.
const REFUSED: i32 = 3;

/// How to compile.
#[derive(Clone, Debug, Default)]
pub enum Compiler {
    /// Here and now, without a bound.
    #[default]
    InPlace,
    /// By a program that calls [`work`].
    Process { program: PathBuf, arguments: Vec<String>, time: Duration },
}

/// Code of a plugin's file.
pub(crate) fn compile(compiler: &Compiler, plugin: &[u8], metered: bool) -> Result<Vec<u8>, PluginError> {
    match compiler {
        Compiler::InPlace => compile_here(plugin, metered),
        Compiler::Process { program, arguments, time } => {
            let mut command = Command::new(program);
            command.args(arguments);
            if metered {
                command.arg("--metered");
            }
            compile_there(command, plugin, *time)
        }
    }
}

fn compile_here(plugin: &[u8], metered: bool) -> Result<Vec<u8>, PluginError> {
    let (component, _) = component(plugin)?;
    let engine = compiler(metered).map_err(|error| PluginError::Machine(format!("{error:#}")))?;
    engine.precompile_component(&component).map_err(|error| PluginError::Compile(format!("{error:#}")))
}

fn compile_there(mut command: Command, plugin: &[u8], time: Duration) -> Result<Vec<u8>, PluginError> {
    let failed = |error: std::io::Error| PluginError::Machine(format!("the compiler does not run: {error}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (input, output, words) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // A worker that does not read to the end has said why.
        scope.spawn(|| input.map(|mut input| input.write_all(plugin)));
        let code = scope.spawn(|| read(output, CODE_BYTES_MAX));
        let words = scope.spawn(|| read(words, WORDS_BYTES_MAX));
        let ended = wait(&mut child, time).map_err(failed)?;
        let panicked = || PluginError::Machine("the compiler's output cannot be read".to_owned());
        let code = code.join().map_err(|_| panicked())?;
        let words = words.join().map_err(|_| panicked())?;
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        match ended {
            None => Err(PluginError::CompileTime(time)),
            Some(status) if status.success() => Ok(code),
            // In the worker's words, which are those of an error of ours.
            Some(status) if status.code() == Some(REFUSED) => {
                Err(serde_json::from_str(&words).unwrap_or(PluginError::Compile(words)))
            }
            Some(_) if words.contains("memory allocation") => Err(PluginError::Compile(format!(
                "it needs more than {} of memory",
                monmon_syntax::format_size(COMPILE_BYTES_MAX)
            ))),
            Some(status) => Err(PluginError::Compile(format!("the compiler ended with {status}: {words}"))),
        }
    })
}

fn read(from: Option<impl Read>, max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What came until a failure; how the worker ended says the rest.
        drop(from.by_ref().take(max).read_to_end(&mut bytes));
        drop(std::io::copy(&mut from, &mut std::io::sink()));
    }
    bytes
}

fn wait(child: &mut Child, time: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + time;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The work of a compiling process: a plugin on standard input, code on standard output. The exit code.
pub fn work(metered: bool) -> i32 {
    let limit = Rlimit { current: Some(COMPILE_BYTES_MAX), maximum: Some(COMPILE_BYTES_MAX) };
    // Where it cannot be set there is still the bound on time.
    setrlimit(Resource::As, limit).ok();
    // Whoever measures beside us goes first.
    rustix::process::setpriority_process(None, 10).ok();
    let mut plugin = Vec::new();
    let mut input = std::io::stdin().lock().take(PLUGIN_BYTES_MAX as u64 + 1);
    let outcome = match input.read_to_end(&mut plugin) {
        Ok(_) if plugin.len() > PLUGIN_BYTES_MAX => Err(PluginError::TooLarge),
        Ok(_) => compile_here(&plugin, metered),
        Err(error) => Err(PluginError::Unreadable(error.to_string())),
    };
    let written = match &outcome {
        Ok(code) => std::io::stdout().lock().write_all(code),
        Err(error) => {
            let words = serde_json::to_string(error).unwrap_or_else(|_| error.to_string());
            std::io::stderr().lock().write_all(words.as_bytes())
        }
    };
    match (outcome, written) {
        (Ok(_), Ok(())) => 0,
        (Err(_), Ok(())) => REFUSED,
        (_, Err(_)) => 2,
    }
}
