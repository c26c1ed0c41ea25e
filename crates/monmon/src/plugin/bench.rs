//! `monmon plugin bench`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use monmon_model::Timings;
use monmon_stage::matching::PluginLimits;
use monmon_wasm::{Answer, Host, HostOptions, Plugin, PluginMatcher, Response};
use serde_json::json;

use super::{BenchArgs, Format, Trouble, read_plugin, refused, show};
use crate::Exit;

/// Sizes of the pages, in bytes.
const SIZES: [usize; 4] = [1 << 10, 10 << 10, 100 << 10, 1 << 20];
/// One page is tried no longer than this.
const SIZE_TIME: Duration = Duration::from_secs(3);

/// When what was written is no longer new.
const SETTLED: Duration = Duration::from_millis(4_100);

struct Row {
    bytes: usize,
    reused: Duration,
    fresh: Duration,
    regex: Duration,
}

pub(crate) fn bench(args: &BenchArgs) -> Result<Exit, Trouble> {
    let bytes = read_plugin(&args.file)?;
    let refused = |error| refused(&args.file, &error);
    let folder =
        tempfile::tempdir().map_err(|error| Trouble::new(format!("no folder to work in: {error}")))?;
    let options = || HostOptions { cache: Some(folder.path().join("plugins")), ..HostOptions::default() };
    let begun = Instant::now();
    Host::new(options()).load_bytes(&bytes, false).map_err(refused)?;
    let compiled = begun.elapsed();
    let path = folder.path().join("plugin.wasm");
    std::fs::write(&path, &bytes).map_err(Trouble::file(&path))?;
    let plugin = Host::new(options()).load_bytes(&bytes, false).map_err(refused)?;
    let written = Instant::now();
    let instance = per_call(args.calls, || {
        let made = plugin.instance(PluginLimits::default(), None);
        made.map(drop).map_err(|fault| Trouble::new(format!("the plugin {fault}")))
    })?;
    let mut rows = Vec::new();
    for size in SIZES {
        rows.push(row(&plugin, args, size)?);
    }
    // What a start has to do that is not the first: once for the machine, and once for each plugin. Files that were
    // written a moment ago are not trusted, nor taken for what was noted of them at the first start after.
    std::thread::sleep(SETTLED.saturating_sub(written.elapsed()));
    let load = |host: &Host| host.load(&path, &monmon_syntax::DiskLoader, false).map(drop).map_err(refused);
    load(&Host::new(options()))?;
    let host = Host::new(options());
    let begun = Instant::now();
    host.load_bytes(b"(component)", false).expect_err("an empty component is no plugin");
    let machine = begun.elapsed();
    let begun = Instant::now();
    load(&host)?;
    let cached = begun.elapsed();
    match args.format {
        Format::Text => show(&text(&rows, instance, compiled, machine, cached)),
        Format::Json => show(&format!("{:#}\n", value(&rows, instance, compiled, cached))),
    }
    Ok(Exit::Good)
}

fn row(plugin: &Arc<Plugin>, args: &BenchArgs, size: usize) -> Result<Row, Trouble> {
    let page = page(size);
    let time = |fresh| {
        let limits = PluginLimits { time: Duration::from_secs(10), ..PluginLimits::default() };
        let mut matcher = PluginMatcher::new(plugin.clone(), args.config.as_str().into(), limits, fresh);
        per_call(args.calls, || match look(&mut matcher, &page) {
            Answer::Fault(fault) => Err(Trouble::new(format!("the plugin {fault}"))),
            _ => Ok(()),
        })
    };
    let pattern = fancy_regex::Regex::new("needle[0-9]+|(?i)out of stock").expect("a pattern of ours");
    let regex = per_call(args.calls, || {
        let text = String::from_utf8_lossy(&page);
        std::hint::black_box(pattern.is_match(&*text).ok());
        Ok(())
    })?;
    Ok(Row { bytes: size, reused: time(false)?, fresh: time(true)?, regex })
}

/// The mean of many calls, after one that is not counted.
fn per_call(calls: u32, mut call: impl FnMut() -> Result<(), Trouble>) -> Result<Duration, Trouble> {
    call()?;
    let begun = Instant::now();
    let mut made = 0;
    while made < calls.max(1) && begun.elapsed() < SIZE_TIME {
        call()?;
        made += 1;
    }
    Ok(begun.elapsed() / made.max(1))
}

fn look(matcher: &mut PluginMatcher, page: &[u8]) -> Answer {
    let phases = Timings { total_us: 12_345, ..Timings::default() };
    let mut headers = http::HeaderMap::new();
    for (name, value) in
        [("content-type", "text/html; charset=utf-8"), ("server", "bench"), ("cache-control", "no-store")]
    {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    let response = Response {
        url: "https://example.org/",
        status: 200,
        headers: Some(&headers),
        body: page,
        body_truncated: false,
        phases: &phases,
    };
    matcher.look(&"bench".into(), &response)
}

/// HTML of so many bytes.
fn page(size: usize) -> Vec<u8> {
    let mut page = b"<!doctype html><html><head><title>Bench</title></head><body>".to_vec();
    let mut at = 0_u32;
    while page.len() < size {
        page.extend(format!("<p class=\"item\">Item {at} of a page of <b>some</b> length</p>\n").bytes());
        at += 1;
    }
    page.truncate(size);
    page
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn text(rows: &[Row], instance: Duration, compiled: Duration, machine: Duration, cached: Duration) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["page", "reused us", "fresh us", "regex us"]);
    for row in rows {
        let of = |time| format!("{:.1}", micros(time));
        table.add_row([
            monmon_syntax::format_size(row.bytes as u64),
            of(row.reused),
            of(row.fresh),
            of(row.regex),
        ]);
    }
    format!(
        "{}\na new instance in {instance:.1?}, not configured yet\ncompiled and first started in {compiled:.1?}; from the cache in {cached:.1?}, after {machine:.1?} for the first plugin of a process\n",
        table.trim_fmt()
    )
}

fn value(rows: &[Row], instance: Duration, compiled: Duration, cached: Duration) -> serde_json::Value {
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            json!({
                "bytes": row.bytes,
                "reused_us": micros(row.reused),
                "fresh_us": micros(row.fresh),
                "regex_us": micros(row.regex),
            })
        })
        .collect();
    json!({ "pages": rows, "instance_us": micros(instance), "compiled_us": micros(compiled), "cached_us": micros(cached) })
}
