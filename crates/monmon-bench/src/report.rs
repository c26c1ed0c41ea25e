//! The table.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use crate::arrivals::Arrivals;

/// What one prober did.
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) length: Duration,
    /// Until the first check.
    pub(crate) ready: Duration,
    pub(crate) cpu: Duration,
    pub(crate) site_cpu: Duration,
    pub(crate) rss_kib: u64,
    pub(crate) rss_peak_kib: u64,
    pub(crate) arrivals: Arrivals,
}

impl Figures {
    pub(crate) fn cpu_us_per_check(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.arrivals.count.max(1) as f64
    }
}

/// One column for each prober.
pub(crate) fn table(all: &[Figures]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(std::iter::once("").chain(all.iter().map(|figures| figures.name.as_str())));
    row(&mut table, all, "checks/s", |f| format!("{:.0}", f.arrivals.count as f64 / f.length.as_secs_f64()));
    row(&mut table, all, "CPU of a check, us", |f| format!("{:.1}", f.cpu_us_per_check()));
    row(&mut table, all, "the site's CPU of a check, us", |f| {
        format!("{:.1}", f.site_cpu.as_secs_f64() * 1e6 / f.arrivals.count.max(1) as f64)
    });
    row(&mut table, all, "RSS at the end / peak, MB", |f| {
        format!("{} / {}", mb(f.rss_kib), mb(f.rss_peak_kib))
    });
    row(&mut table, all, "spacing error p50 / p99 / max, ms", |f| match f.arrivals.spacing {
        Some(s) => format!("{} / {} / {}", ms(s.p50_us), ms(s.p99_us), ms(s.max_us)),
        None => "-".to_owned(),
    });
    row(&mut table, all, "most arrivals in 10 ms / mean", |f| {
        format!("{} / {:.1}", f.arrivals.peak, f.arrivals.mean)
    });
    row(&mut table, all, "slots missed", |f| match f.arrivals.spacing {
        Some(spacing) => spacing.missed.to_string(),
        None => "-".to_owned(),
    });
    row(&mut table, all, "first check after, s", |f| format!("{:.2}", f.ready.as_secs_f64()));
    row(&mut table, all, "pages not read to the end", |f| f.arrivals.cut.to_string());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn row(table: &mut Table, all: &[Figures], name: &str, value: impl Fn(&Figures) -> String) {
    table.add_row(std::iter::once(name.to_owned()).chain(all.iter().map(value)));
}

fn mb(kib: u64) -> String {
    format!("{:.1}", kib as f64 * 1_024.0 / 1e6)
}

fn ms(us: u64) -> String {
    format!("{:.2}", us as f64 / 1e3)
}
