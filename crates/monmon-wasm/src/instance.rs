//! A running plugin: its store with its bounds, and the calls into it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use monmon_stage::matching::PluginLimits;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{ResourceLimiter, Store, Trap, UpdateDeadline};

use crate::Fault;
use crate::bindings::monmon::matcher::host;
use crate::bindings::monmon::matcher::types;
use crate::bindings::{Matcher, MatcherPre};
use crate::engine::Machine;
use crate::log::Lines;

/// What making an instance and configuring it may take.
pub(crate) const START_TIME: Duration = Duration::from_secs(1);
/// Fuel of the same.
pub(crate) const START_FUEL: u64 = 1_000_000_000;

/// What belongs to one instance, as the runtime's callbacks see it.
pub(crate) struct Guest {
    bounds: Bounds,
    deadline: Instant,
    is_late: bool,
    lines: Lines,
}

impl types::Host for Guest {}

impl host::Host for Guest {
    fn log(&mut self, level: host::Level, message: String) {
        self.lines.write(level, &message);
    }
}

/// Links what a plugin may call.
pub(crate) fn linker(machine: &Machine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(&machine.engine);
    Matcher::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
    Ok(linker)
}

/// The same for a component that asks for WASI: what it calls of it is a trap that says so.
pub(crate) fn with_stubs(linker: &Linker<Guest>, component: &Component) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = linker.clone();
    linker.define_unknown_imports_as_traps(component)?;
    Ok(linker)
}

/// How much an instance has taken of what it may take.
struct Bounds {
    memory_max: u64,
    memory: u64,
    table_max: u32,
    table: u64,
    instances_max: u32,
    exceeded: Option<Fault>,
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let memory = self.memory.saturating_add((desired - current) as u64);
        if memory > self.memory_max {
            let fault = Fault::Memory(self.memory_max);
            self.exceeded = Some(fault.clone());
            // The plugin is not told that there is no more: its answer would be that of another plugin.
            return Err(wasmtime::Error::msg(fault));
        }
        self.memory = memory;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let table = self.table.saturating_add((desired - current) as u64);
        if table > u64::from(self.table_max) {
            let fault = Fault::Table(self.table_max);
            self.exceeded = Some(fault.clone());
            return Err(wasmtime::Error::msg(fault));
        }
        self.table = table;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances_max as usize
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        16
    }
}

/// One place among the instances that there can be at once.
struct Place(Arc<AtomicU32>);

impl Place {
    fn take(taken: &Arc<AtomicU32>, max: u32) -> Option<Place> {
        let more = |count: u32| (count < max).then_some(count + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What calls took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub time: Duration,
    /// Only where code is metered.
    pub fuel: Option<u64>,
    /// Of the instance, after the call.
    pub memory_bytes: u64,
}

/// One instance of a plugin. After a fault it must not be called again.
pub struct Instance {
    machine: Arc<Machine>,
    store: Store<Guest>,
    matcher: Matcher,
    limits: PluginLimits,
    _place: Place,
}

impl Instance {
    pub(crate) fn new(
        machine: &Arc<Machine>,
        places: &Arc<AtomicU32>,
        plugin: &MatcherPre<Guest>,
        limits: PluginLimits,
        lines: Lines,
    ) -> Result<Instance, Fault> {
        let Some(place) = Place::take(places, machine.instances_max) else {
            return Err(Fault::Start(format!("{} plugins are at work already", machine.instances_max)));
        };
        let guest = Guest {
            bounds: Bounds {
                memory_max: limits.memory_bytes,
                memory: 0,
                table_max: limits.table_elements,
                table: 0,
                instances_max: limits.instances,
                exceeded: None,
            },
            deadline: Instant::now() + START_TIME,
            is_late: false,
            lines,
        };
        let mut store = Store::new(&machine.engine, guest);
        store.limiter(|guest| &mut guest.bounds);
        store.set_hostcall_fuel(usize::try_from(limits.output_bytes).unwrap_or(usize::MAX));
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let guest = store.data_mut();
            if Instant::now() < guest.deadline {
                return Ok(UpdateDeadline::Continue(1));
            }
            guest.is_late = true;
            Ok(UpdateDeadline::Interrupt)
        });
        if limits.fuel.is_some() {
            store.set_fuel(START_FUEL).map_err(|error| Fault::Start(error.to_string()))?;
        }
        let wound = machine.wind();
        let made = plugin.instantiate(&mut store);
        drop(wound);
        let matcher = made.map_err(|error| explain(&error, store.data(), &limits, START_TIME))?;
        Ok(Instance { machine: machine.clone(), store, matcher, limits, _place: place })
    }

    pub(crate) fn describe(&mut self) -> Result<types::Description, Fault> {
        self.call(START_TIME, START_FUEL, |matcher, store| matcher.call_describe(store))
    }

    /// An `Err` within is the plugin's own word on the configuration.
    pub fn configure(&mut self, config: &str) -> Result<Result<(), String>, Fault> {
        self.call(START_TIME, START_FUEL, |matcher, store| matcher.call_configure(store, config))
    }

    /// An `Err` within is the plugin's own word that it could not decide.
    pub(crate) fn check(
        &mut self,
        check: &Arc<str>,
        response: types::Response<'_>,
    ) -> Result<Result<types::Verdict, String>, Fault> {
        self.store.data_mut().lines.of_check(check);
        let (time, fuel) = (self.limits.time, self.limits.fuel.unwrap_or(START_FUEL));
        self.call(time, fuel, |matcher, store| matcher.call_check(store, response))
    }

    fn call<T>(
        &mut self,
        time: Duration,
        fuel: u64,
        call: impl FnOnce(&Matcher, &mut Store<Guest>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        let wound = self.machine.wind();
        if self.limits.fuel.is_some() {
            self.store.set_fuel(fuel).map_err(|error| Fault::Start(error.to_string()))?;
        }
        self.store.data_mut().deadline = Instant::now() + time;
        self.store.set_epoch_deadline(1);
        let answer = call(&self.matcher, &mut self.store);
        drop(wound);
        answer.map_err(|error| explain(&error, self.store.data(), &self.limits, time))
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.store.data().bounds.memory
    }

    /// What is left of the last call's fuel, where code is metered.
    pub(crate) fn fuel_left(&self) -> Option<u64> {
        self.limits.fuel.and_then(|_| self.store.get_fuel().ok())
    }
}

/// What a failed call was stopped by.
fn explain(error: &wasmtime::Error, guest: &Guest, limits: &PluginLimits, time: Duration) -> Fault {
    tracing::debug!(error = format!("{error:?}"), "a plugin's call failed");
    if let Some(fault) = &guest.bounds.exceeded {
        return fault.clone();
    }
    if guest.is_late {
        return Fault::Time(time);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => return Fault::Stack,
        Some(Trap::OutOfFuel) => return Fault::Fuel(limits.fuel.unwrap_or(START_FUEL)),
        Some(trap) => return Fault::Trap(trap.to_string()),
        None => {}
    }
    let cause = error.root_cause().to_string();
    // The runtime has no types for these.
    if cause.contains("fuel allocated for hostcalls") {
        return Fault::Output(limits.output_bytes);
    }
    if let Some(import) = cause.strip_prefix("unknown import: ") {
        let name = import.split('`').nth(1).unwrap_or(import);
        return Fault::Import(name.to_owned());
    }
    if cause.contains("instance count too high") {
        return Fault::Instances(limits.instances);
    }
    Fault::Malformed(cause)
}
