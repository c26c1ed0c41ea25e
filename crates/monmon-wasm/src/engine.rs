//! The machine that plugins run on: how code is compiled, where instances live, and the clock that stops them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often calls are looked at for being over their time.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// So many ticks without a call, and the clock stands still until the next one.
const IDLE_TICKS: u32 = 40;
/// Most bytes of a guest's own stack.
const STACK_BYTES_MAX: usize = 512 << 10;
/// How many instances there can be at once: the most that the address space of this machine lets us have.
const POOLS: [u32; 3] = [128, 32, 8];
/// How much of an instance's memory stays with its place in the pool.
const KEPT_BYTES: usize = 256 << 10;
/// Most memory that a plugin can be given; that of `limits memory=`.
const MEMORY_BYTES_MAX: usize = 256 << 20;

/// An engine, and how many instances it has room for.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) instances_max: u32,
    pub(crate) is_metered: bool,
    ticker: Ticker,
}

impl Machine {
    /// `metered`: code counts its instructions, and is slower for it.
    pub(crate) fn new(metered: bool) -> wasmtime::Result<Machine> {
        let mut last = None;
        for count in POOLS {
            match Engine::new(config(metered).allocation_strategy(pool(count))) {
                Ok(engine) => return Ok(Machine::of(engine, count, metered)),
                // As with a bound on address space (`ulimit -v`).
                Err(error) => last = Some(error),
            }
        }
        tracing::debug!(error = ?last, "no pool of instances: each is made by itself");
        Ok(Machine::of(Engine::new(&config(metered))?, POOLS[2], metered))
    }

    fn of(engine: Engine, instances_max: u32, is_metered: bool) -> Machine {
        let ticker = Ticker::start(engine.clone());
        Machine { engine, instances_max, is_metered, ticker }
    }

    /// Makes sure that a call's time is looked at.
    pub(crate) fn wind(&self) -> Wound<'_> {
        self.ticker.wind()
    }
}

/// What only compiles needs no room for instances.
pub(crate) fn compiler(metered: bool) -> wasmtime::Result<Engine> {
    Engine::new(&config(metered))
}

fn config(metered: bool) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(metered)
        .max_wasm_stack(STACK_BYTES_MAX)
        // The same page gives the same answer on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false);
    config
}

fn pool(count: u32) -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    // A component is made of core instances; one of Python has over thirty.
    pool.total_component_instances(count)
        .total_core_instances(count * 64)
        .total_memories(count)
        .total_tables(count * 4)
        .max_core_instances_per_component(64)
        .max_tables_per_component(16)
        .max_memories_per_component(4)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(MEMORY_BYTES_MAX)
        .table_elements(50_000)
        // What a small plugin has touched is written over in place, which is cheaper than giving it back and taking it
        // again page by page.
        .linear_memory_keep_resident(KEPT_BYTES)
        .table_keep_resident(KEPT_BYTES);
    InstanceAllocationStrategy::Pooling(pool)
}

/// What code must have been compiled for to run here.
pub(crate) fn compatibility(engine: &Engine) -> String {
    /// The standard hashers promise nothing between versions.
    struct Stable(Sha256);
    impl Hasher for Stable {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Stable(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex(&hasher.0.finalize()[..8])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The clock of the engine's epochs, on a thread of its own. While nothing is called it stands still.
struct Ticker {
    thread: Thread,
    state: Arc<TickerState>,
}

#[derive(Default)]
struct TickerState {
    /// Calls so far.
    begun: AtomicU64,
    running: AtomicU64,
    is_parked: AtomicBool,
    ended: AtomicBool,
}

/// As long as it is there the clock goes.
pub(crate) struct Wound<'a>(&'a TickerState);

impl Drop for Wound<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticker {
    fn start(engine: Engine) -> Ticker {
        let state = Arc::new(TickerState::default());
        let shared = state.clone();
        let thread = thread::Builder::new()
            .name("plugin-clock".to_owned())
            .spawn(move || tick(&engine, &shared))
            .expect("a process that has just begun can have one more thread");
        Ticker { thread: thread.thread().clone(), state }
    }

    fn wind(&self) -> Wound<'_> {
        self.state.begun.fetch_add(1, Ordering::SeqCst);
        self.state.running.fetch_add(1, Ordering::SeqCst);
        if self.state.is_parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Wound(&self.state)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

fn tick(engine: &Engine, state: &TickerState) {
    let mut seen = 0;
    let mut idle = 0;
    while !state.ended.load(Ordering::SeqCst) {
        thread::sleep(TICK);
        engine.increment_epoch();
        let begun = state.begun.load(Ordering::SeqCst);
        let busy = begun != seen || state.running.load(Ordering::SeqCst) > 0;
        idle = if busy { 0 } else { idle + 1 };
        seen = begun;
        if idle >= IDLE_TICKS {
            state.is_parked.store(true, Ordering::SeqCst);
            // Whoever began between the look and the store has seen no parked clock.
            if state.begun.load(Ordering::SeqCst) == seen && !state.ended.load(Ordering::SeqCst) {
                thread::park();
            }
            state.is_parked.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}
