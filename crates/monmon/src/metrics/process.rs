//! What the process takes of its machine, as Linux tells it.

use std::fs;

use monmon_web::{Exposition, Type};

/// Linux counts processor time in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// What cannot be read is left out.
pub(crate) fn write(out: &mut Exposition) {
    if let Some(ticks) = processor_ticks() {
        let help = "User and system time of the process.";
        out.single("process_cpu_seconds_total", Type::Counter, help, ticks as f64 / TICKS_PER_SECOND);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (field, name, help, factor) in [
        ("VmRSS:", "process_resident_memory_bytes", "Memory of the process that is in use.", 1024),
        ("VmSize:", "process_virtual_memory_bytes", "Address space of the process.", 1024),
        ("Threads:", "process_threads", "Threads of the process.", 1),
    ] {
        if let Some(count) = field_of(&status, field) {
            out.single(name, Type::Gauge, help, count * factor);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is for the looking.
        let count = open.count().saturating_sub(1);
        out.single("process_open_fds", Type::Gauge, "Open file descriptors.", count);
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(max) = field_of(&limits, "Max open files") {
        out.single("process_max_fds", Type::Gauge, "Most file descriptors that may be open.", max);
    }
}

/// The first number behind a field's name.
fn field_of(text: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn processor_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(user + system)
}
