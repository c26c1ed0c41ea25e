//! How plugins are written, in a stage of their own or inside checks, and how they become a stage.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use monmon_stage::matching::{
    InlineMatch, InlineSpec, PLUGIN_CHILDREN, PLUGIN_OPTIONS, PluginLimits, PluginSpec,
};
use monmon_stage::{
    DecodeContext, FROM, Mode, OpenFuture, OpenStage, STAGE_NAME, Section, StageContext, StageError,
    StageKind, StageSpec,
};
use monmon_syntax::{Code, FileLoader, Node, NodeSpec, Problem, Problems, printable};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::PluginError;
use crate::config::Config;
use crate::host::{Plugin, host};
use crate::matcher::PluginMatcher;
use crate::transform::{Named, PluginTransform, Scope};
use crate::verdict::words;

/// Most plugins of one stage that differ in file, configuration or limits.
pub const PLUGINS_MAX: usize = 200;

/// `wasm`: a plugin over every page that passes.
pub static WASM: StageKind = StageKind { section: Section::Transforms, spec: &NODE, decode };

const OPTIONS: [monmon_syntax::OptionSpec; 4] =
    [FROM, PLUGIN_OPTIONS[0], PLUGIN_OPTIONS[1], PLUGIN_OPTIONS[2]];

static NODE: NodeSpec = NodeSpec {
    name: "wasm",
    help: "asks a plugin about every page that passes",
    example: r#"wasm "login-form" from="sites" plugin="plugins/html-form.wasm" { config { require "username" "password"; }; }"#,
    args: &[STAGE_NAME],
    options: &OPTIONS,
    children: PLUGIN_CHILDREN,
    ..NodeSpec::BLANK
};

/// A plugin that was loaded, with a configuration that it takes as far as that is known yet.
#[derive(Clone, Debug)]
struct Ready {
    plugin: Arc<Plugin>,
    config: Config,
    limits: PluginLimits,
    fresh: bool,
    /// The name of the first that is written so.
    name: Arc<str>,
}

#[derive(Debug)]
struct WasmSpec {
    /// As the matches name it; a stage of its own has its own name.
    stage: Option<Arc<str>>,
    written: Vec<(Option<Uuid>, Arc<PluginSpec>)>,
    ready: Vec<Ready>,
    /// None where something was wrong.
    scope: Option<Scope>,
}

fn decode(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let mut making = Making::new(context.loader);
    let mut spec = WasmSpec { stage: None, written: Vec::new(), ready: Vec::new(), scope: None };
    if let Some(written) = PluginSpec::read(node, context.folder, problems) {
        spec.scope = making.named(&written, problems).map(Scope::All);
        spec.written.push((None, Arc::new(written)));
    }
    spec.ready = making.ready;
    Box::new(spec)
}

/// The stage that the plan puts behind a source with plugins inside its checks.
pub fn inline_stage(
    source_stage: &str,
    matches: &[InlineMatch],
    loader: &dyn FileLoader,
    problems: &mut Problems,
) -> Option<Box<dyn StageSpec>> {
    let mut making = Making::new(loader);
    let mut checks: HashMap<Uuid, Vec<Named>> = HashMap::new();
    let mut written = Vec::new();
    for inline in matches {
        let InlineSpec::Plugin(spec) = &inline.spec else { continue };
        checks.entry(inline.check).or_default().extend(making.named(spec, problems));
        written.push((Some(inline.check), Arc::clone(spec)));
    }
    if written.is_empty() {
        return None;
    }
    let scope = Some(Scope::ByCheck(Arc::new(checks)));
    Some(Box::new(WasmSpec { stage: Some(source_stage.into()), written, ready: making.ready, scope }))
}

/// The plugins of a stage, each combination of file, configuration and limits once.
struct Making<'a> {
    loader: &'a dyn FileLoader,
    ready: Vec<Ready>,
    known: HashMap<String, usize>,
    /// Files that were told to be wrong.
    told: HashMap<std::path::PathBuf, PluginError>,
    told_too_many: bool,
}

impl<'a> Making<'a> {
    fn new(loader: &'a dyn FileLoader) -> Making<'a> {
        Making {
            loader,
            ready: Vec::new(),
            known: HashMap::new(),
            told: HashMap::new(),
            told_too_many: false,
        }
    }

    fn named(&mut self, spec: &PluginSpec, problems: &mut Problems) -> Option<Named> {
        let named = |matcher| Named { name: spec.name.value.clone(), present: spec.present, matcher };
        let mut key = spec.describe();
        (key["name"], key["present"], key["plugin"]) = (Value::Null, Value::Null, json!(spec.path));
        let key = key.to_string();
        if let Some(known) = self.known.get(&key) {
            return Some(named(*known));
        }
        // Before the file is looked at: compiling takes its time.
        if self.ready.len() == PLUGINS_MAX {
            if !self.told_too_many {
                let message = format!(
                    "a stage has at most {PLUGINS_MAX} plugins that differ in file, configuration or limits"
                );
                problems.push(Problem::new(Code::TooMany, spec.name.span, message).label("one too many"));
            }
            self.told_too_many = true;
            return None;
        }
        let plugin = self.load(spec, problems)?;
        let config = Config::read(spec, &plugin.description, problems)?;
        if let Some(json) = config.ready() {
            try_config(&plugin, &json, spec, problems)?;
        }
        let ready = Ready {
            plugin,
            config,
            limits: spec.limits,
            fresh: spec.fresh,
            name: spec.name.value.as_str().into(),
        };
        self.ready.push(ready);
        self.known.insert(key, self.ready.len() - 1);
        Some(named(self.ready.len() - 1))
    }

    fn load(&mut self, spec: &PluginSpec, problems: &mut Problems) -> Option<Arc<Plugin>> {
        let error = match self.told.get(&spec.path) {
            // Once a place is enough for a file that is wrong in a thousand.
            Some(_) => return None,
            None => match host().load(&spec.path, self.loader, spec.limits.fuel.is_some()) {
                Ok(plugin) => return Some(plugin),
                Err(error) => error,
            },
        };
        let code = match error {
            PluginError::Unreadable(_) => Code::UnreadableFile,
            PluginError::TooLarge => Code::TooLarge,
            _ => Code::BadPlugin,
        };
        let message =
            format!("the plugin `{}` cannot be used: {}", spec.plugin.value, printable(&error.to_string()));
        problems.push(Problem::new(code, spec.plugin.span, message).label("this file").help(error.help()));
        self.told.insert(spec.path.clone(), error);
        None
    }
}

/// Gives the configuration to an instance, which may refuse it.
fn try_config(plugin: &Plugin, json: &str, spec: &PluginSpec, problems: &mut Problems) -> Option<()> {
    let problem = |message: String| {
        let label = format!("`{}` of the plugin `{}`", spec.name.value, plugin.description.name);
        Problem::new(Code::BadPlugin, spec.config_span, message).label(label)
    };
    let configured = plugin.instance(spec.limits, None).and_then(|mut instance| instance.configure(json));
    match configured {
        Ok(Ok(())) => Some(()),
        Ok(Err(why)) => {
            problems.push(problem(format!("the plugin refuses its configuration: {}", words(&why))));
            None
        }
        Err(fault) => {
            problems.push(problem(format!("the plugin {fault} when it was given its configuration")).help(
                "`limits` may be too narrow for it, or it is broken: `monmon plugin test` tries it by itself",
            ));
            None
        }
    }
}

impl StageSpec for WasmSpec {
    fn needs_page(&self) -> bool {
        self.ready.iter().any(|ready| {
            let description = &ready.plugin.description;
            description.needs_body || description.needs_headers
        })
    }

    fn needs_own_thread(&self) -> bool {
        true
    }

    fn describe(&self) -> Value {
        let plugin = |(check, spec): &(Option<Uuid>, Arc<PluginSpec>)| {
            let mut value = spec.describe();
            if let Some(check) = check {
                value["check"] = json!(check);
            }
            value
        };
        json!({ "plugins": self.written.iter().map(plugin).collect::<Vec<_>>() })
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move {
            let transform = self.transform(context)?;
            Ok(OpenStage::Transform(Box::new(transform)))
        })
    }
}

impl WasmSpec {
    fn transform(&self, context: StageContext) -> Result<PluginTransform, StageError> {
        let scope = self.scope.clone().expect("a pipeline with a plugin that is wrong has no plan");
        let stage = self.stage.clone().unwrap_or_else(|| context.stage.clone());
        let mut matchers = Vec::new();
        for (at, ready) in self.ready.iter().enumerate() {
            let json = ready.config.resolve(&*context.world).map_err(StageError::from)?;
            if ready.config.ready().is_none() {
                try_late_config(ready, &json)?;
            }
            let seed = context.prober.id.as_u128() as u64 ^ at as u64;
            let matcher = PluginMatcher::new(ready.plugin.clone(), json.into(), ready.limits, ready.fresh)
                .logged(context.pipeline.clone(), stage.clone(), ready.name.clone(), seed);
            matchers.push(matcher);
        }
        let counters = context.counters.clone();
        // A run that does everything once takes the time that it takes.
        let sheds = context.mode == Mode::Continuous;
        Ok(PluginTransform { stage, scope, matchers, live: VecDeque::new(), counters, sheds })
    }
}

fn try_late_config(ready: &Ready, json: &str) -> Result<(), StageError> {
    let configured =
        ready.plugin.instance(ready.limits, None).and_then(|mut instance| instance.configure(json));
    let name = &ready.name;
    match configured {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => {
            Err(StageError::permanent(format!("the plugin of `{name}` refuses its configuration"))
                .caused_by(words(&why)))
        }
        Err(fault) => Err(StageError::permanent(format!("the plugin of `{name}` cannot be configured"))
            .caused_by(fault.to_string())),
    }
}
