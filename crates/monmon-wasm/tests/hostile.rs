//! Plugins that mean harm, or do it without meaning to. Each call has its answer, and a healthy plugin beside it works on.

#![expect(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

mod common;

use std::fmt::Write as _;
use std::time::Duration;

use common::{Guest, ask, host};
use monmon_stage::matching::PluginLimits;
use monmon_wasm::{Answer, Fault, Host, HostOptions, PluginError, PluginMatcher};

const MIB: u64 = 1 << 20;

fn limits() -> PluginLimits {
    PluginLimits { time: Duration::from_millis(30), memory_bytes: 4 * MIB, ..PluginLimits::default() }
}

/// What a guest's first call comes to, with a healthy one beside it that is asked before and after.
fn fault_of(guest: &Guest, limits: PluginLimits) -> Fault {
    let host = host();
    let mut healthy = Guest::default().matcher(&host, PluginLimits::default());
    let mut hostile = guest.matcher(&host, limits);
    assert!(matches!(ask(&mut healthy, b"page"), Answer::Verdict(_)));
    let answer = ask(&mut hostile, b"page");
    assert!(matches!(ask(&mut healthy, b"page"), Answer::Verdict(_)));
    match answer {
        Answer::Fault(fault) => fault,
        other => panic!("no fault: {other:?}"),
    }
}

fn fault_of_check(check: &str) -> Fault {
    fault_of(&Guest::checking(check), limits())
}

/// A verdict at 1092 with these four words from its values on: values and metrics, each with place and count.
fn verdict(words: [u32; 4]) -> String {
    let mut check = String::new();
    for (at, word) in words.iter().enumerate() {
        write!(check, "(i32.store (i32.const {}) (i32.const {word}))", 1108 + 4 * at).unwrap();
    }
    check + "(i32.const 1088)"
}

const LOOP: &str = "(loop $on (br $on)) (unreachable)";

#[test]
fn loops_end() {
    assert_eq!(fault_of_check(LOOP), Fault::Time(limits().time));
    // Without a loop: each function calls the next one twice.
    let mut calls = String::new();
    for at in 0..60 {
        write!(calls, "(func $f{at} (call $f{next}) (call $f{next}))", next = at + 1).unwrap();
    }
    calls.push_str("(func $f60)");
    let tree = Guest::checking("(call $f0) (i32.const 1088)").with(&calls);
    assert_eq!(fault_of(&tree, limits()), Fault::Time(limits().time));
}

#[test]
fn loops_end_at_every_entry() {
    let host = host();
    let start = Duration::from_secs(1);
    let of_start = Guest::default().with(&format!("(func $run {LOOP}) (start $run)"));
    assert_eq!(of_start.load(&host).unwrap_err(), PluginError::Describe(Fault::Time(start)));
    let of_describe = Guest { describe: LOOP.to_owned(), ..Guest::default() };
    assert_eq!(of_describe.load(&host).unwrap_err(), PluginError::Describe(Fault::Time(start)));
    let of_configure = Guest { configure: LOOP.to_owned(), ..Guest::default() };
    assert_eq!(fault_of(&of_configure, limits()), Fault::Time(start));
    // After an answer, and where room for the page is made.
    let text = Guest::default().text().replace("(global.set $next (i32.const 4096))", LOOP);
    let plugin = host.load_bytes(text.as_bytes(), false).unwrap();
    let mut matcher = PluginMatcher::new(plugin, "{}".into(), limits(), false);
    assert_eq!(ask(&mut matcher, b"page"), Answer::Fault(Fault::Time(limits().time)));
    let text = Guest::default().text().replace("(local.get $at))", &format!("{LOOP})"));
    let plugin = host.load_bytes(text.as_bytes(), false).unwrap();
    let mut matcher = PluginMatcher::new(plugin, "{}".into(), limits(), false);
    assert_eq!(
        ask(&mut matcher, b"page"),
        Answer::Fault(Fault::Time(start)),
        "the configuration needs room first"
    );
}

#[test]
fn fuel_is_the_same_everywhere() {
    let limits = PluginLimits { fuel: Some(10_000), time: Duration::from_secs(10), ..limits() };
    assert_eq!(fault_of(&Guest::checking(LOOP), limits), Fault::Fuel(10_000));
    let count = || {
        let mut matcher = Guest::default().matcher(&host(), limits);
        assert!(matches!(ask(&mut matcher, b"page"), Answer::Verdict(_)));
        matcher.usage().fuel.unwrap()
    };
    let once = count();
    assert!(once > 0 && once < 1000, "{once}");
    assert_eq!(count(), once);
}

#[test]
fn memory_has_a_bound() {
    let memory = Fault::Memory(4 * MIB);
    assert_eq!(fault_of_check("(drop (memory.grow (i32.const 65534))) (i32.const 1088)"), memory);
    // Two pages are there from the start; the page that is one too many.
    let grow = |pages: u32| format!("(drop (memory.grow (i32.const {pages}))) (i32.const 1088)");
    assert_eq!(fault_of_check(&grow(63)), memory);
    let mut fits = Guest::checking(&grow(62)).matcher(&host(), limits());
    assert!(matches!(ask(&mut fits, b"page"), Answer::Verdict(_)));

    let table = Guest::checking("(drop (table.grow $t (ref.null func) (i32.const 100000))) (i32.const 1088)")
        .with("(table $t 1 funcref)");
    assert_eq!(fault_of(&table, limits()), Fault::Table(50_000));
    // From the start.
    let host = host();
    for more in [
        "(memory $m 65536)",
        "(table 10000000 funcref)",
        &"(memory 1)".repeat(40),
        &"(table 1 funcref)".repeat(90),
    ] {
        let error = Guest::default().with(more).load(&host).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("memor") || told.contains("table"), "{more:.40}: {told}");
    }
    assert!(Guest::default().load(&host).is_ok());
}

#[test]
fn recursion_ends() {
    let deep = Guest::checking("(call $deep (i32.const 0)) (i32.const 1088)").with(
        "(func $deep (param i32) (call $deep (i32.add (local.get 0) (i32.const 1))) (drop (local.get 0)))",
    );
    assert_eq!(fault_of(&deep, limits()), Fault::Stack);
}

#[test]
fn traps_are_told() {
    for (check, words) in [
        ("(unreachable)", "unreachable"),
        ("(i32.div_s (i32.const 1) (i32.const 0))", "divide by zero"),
        ("(i32.load (i32.const -4))", "out of bounds"),
        ("(i32.trunc_f64_s (f64.const nan))", "conversion to integer"),
    ] {
        match fault_of_check(check) {
            Fault::Trap(told) => assert!(told.contains(words), "{told}"),
            other => panic!("{check}: {other:?}"),
        }
    }
}

#[test]
fn answers_have_bounds() {
    let output = Fault::Output(limits().output_bytes);
    // A million values that are not there; a message of 3 MiB that is.
    let fault = fault_of_check(&verdict([4096, 1_000_000, 0, 0]));
    assert!(matches!(fault, Fault::Malformed(_)), "the list would reach beyond its memory: {fault:?}");
    let message = "(drop (memory.grow (i32.const 50)))
        (i32.store8 (i32.const 1096) (i32.const 1)) (i32.store (i32.const 1100) (i32.const 4096))
        (i32.store (i32.const 1104) (i32.const 3145728)) (i32.const 1088)";
    assert_eq!(fault_of_check(message), output);
    // More than can be kept, within the bound on bytes.
    assert!(matches!(fault_of_check(&verdict([4096, 33, 0, 0])), Fault::Malformed(_)));
    assert!(matches!(fault_of_check(&verdict([0, 0, 4096, 33])), Fault::Malformed(_)));
}

#[test]
fn answers_that_are_none_are_malformed() {
    let text = |pointer: u32, length: u32| {
        format!(
            "(i32.store8 (i32.const 1096) (i32.const 1)) (i32.store (i32.const 1100) (i32.const {pointer}))
             (i32.store (i32.const 1104) (i32.const {length})) (i32.const 1088)"
        )
    };
    let metric = |value: &str| {
        format!(
            "(i32.store (i32.const 2048) (i32.const 128)) (i32.store (i32.const 2052) (i32.const 4))
             (f64.store (i32.const 2056) (f64.const {value})) {}",
            verdict([0, 0, 2048, 1])
        )
    };
    for (what, check) in [
        ("a place outside of memory", "(i32.const -8)".to_owned()),
        ("a place that is not aligned", "(i32.const 1089)".to_owned()),
        ("neither result", "(i32.store8 (i32.const 1088) (i32.const 9)) (i32.const 1088)".to_owned()),
        ("a text of 1 GiB that is not there", text(4096, 1 << 30)),
        ("a text that wraps round", text(u32::MAX - 3, 8)),
        (
            "a text that is not UTF-8",
            format!("(i32.store (i32.const 4096) (i32.const -1)) {}", text(4096, 4)),
        ),
        ("not a number", metric("nan")),
        ("infinity", metric("-inf")),
        ("a value without a name", verdict([3000, 1, 0, 0])),
    ] {
        let fault = fault_of_check(&check);
        assert!(matches!(fault, Fault::Malformed(_)), "{what}: {fault:?}");
    }
    let mut sound = Guest::checking(&metric("-0.0")).matcher(&host(), limits());
    let Answer::Verdict(verdict) = ask(&mut sound, b"page") else { panic!("a verdict") };
    assert!(verdict.metrics["test"].value().is_sign_positive());
}

#[test]
fn what_cannot_be_stored_is_not_passed_on() {
    // The message `a NUL b ESC`, and the same as a value.
    let check = format!(
        "(i32.store (i32.const 4096) (i32.const 0x1b620061))
         (i32.store8 (i32.const 1096) (i32.const 1)) (i32.store (i32.const 1100) (i32.const 4096))
         (i32.store (i32.const 1104) (i32.const 4))
         (i32.store (i32.const 2048) (i32.const 128)) (i32.store (i32.const 2052) (i32.const 4))
         (i32.store (i32.const 2056) (i32.const 4096)) (i32.store (i32.const 2060) (i32.const 4)) {}",
        verdict([2048, 1, 0, 0])
    );
    let mut matcher = Guest::checking(&check).matcher(&host(), limits());
    let Answer::Verdict(verdict) = ask(&mut matcher, b"page") else { panic!("a verdict") };
    assert_eq!(verdict.message.as_deref(), Some("a\u{fffd}b "));
    assert_eq!(verdict.values["test"], "a\u{fffd}b\u{1b}");
}

#[test]
fn what_is_no_plugin_is_refused() {
    let host = host();
    let load = |bytes: &[u8]| host.load_bytes(bytes, false).map(drop).unwrap_err();
    assert_eq!(load(b""), PluginError::NotWasm);
    assert_eq!(load(b"<html>"), PluginError::NotWasm);
    assert_eq!(load(b"#!/bin/sh"), PluginError::NotWasm);
    assert!(matches!(load(b"(module"), PluginError::Invalid(_)));
    assert!(matches!(load(b"\0asm"), PluginError::Invalid(_) | PluginError::Core(_)));
    assert!(matches!(load(b"\0asm\x01\0\0\0garbage"), PluginError::Invalid(_) | PluginError::Core(_)));
    assert!(matches!(load(b"\0asm\x0d\0\x01\0garbage"), PluginError::Compile(_) | PluginError::Invalid(_)));
    let core = load(b"(module)");
    assert!(matches!(core, PluginError::Core(_)) && core.to_string().contains("export"), "{core}");
    let component = load(b"(component)");
    assert_eq!(
        component,
        PluginError::Exports(["`describe`", "`configure`", "`check`"].map(str::to_owned).into())
    );
    let whole = wat::parse_str(Guest::default().text()).unwrap();
    for cut in [9, 40, whole.len() / 2, whole.len() - 1] {
        let error = load(&whole[..cut]);
        assert!(matches!(error, PluginError::Invalid(_) | PluginError::Core(_)), "cut at {cut}: {error}");
    }
}

#[test]
fn what_a_plugin_asks_for_is_named() {
    let host = host();
    let import = |module: &str, name: &str| {
        let text = Guest::default().text().replacen(
            "(module",
            &format!("(module (import \"{module}\" \"{name}\" (func $extra (param i32)))"),
            1,
        );
        host.load_bytes(text.as_bytes(), false).map(drop)
    };
    for (module, name) in [
        ("env", "system"),
        ("wasi_snapshot_preview1", "path_open"),
        ("wasi_snapshot_preview1", "sock_send"),
        ("monmon:matcher/host@0.2.0", "log"),
        ("monmon:matcher/host@0.1.0", "exec"),
    ] {
        let told = import(module, name).unwrap_err().to_string();
        assert!(told.contains(name) || told.contains(module), "{module} {name}: {told}");
    }
    // What every WASI program's runtime asks for is met by a stub that does nothing.
    import("wasi_snapshot_preview1", "proc_exit").unwrap();

    let component = |import: &str| {
        let text =
            format!("(component (import \"{import}\" (instance (export \"now\" (func (result u64))))) )");
        host.load_bytes(text.as_bytes(), false).map(drop).unwrap_err()
    };
    assert!(
        matches!(component("evil:corp/exfiltrate@1.0.0"), PluginError::Imports(names) if names.len() == 1)
    );
    let other = component("monmon:matcher/host@9.0.0").to_string();
    assert!(other.contains("9.0.0") && other.contains("0.1.0"), "{other}");
    // WASI's imports pass; then it is no matcher.
    assert!(matches!(component("wasi:clocks/monotonic-clock@0.2.0"), PluginError::Exports(_)));
}

#[test]
fn wrong_types_are_no_matcher() {
    let text = "(component
        (core module $m (func (export \"f\") (result i32) (i32.const 0)))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i \"f\")))
        (export \"describe\" (func $f)) (export \"configure\" (func $f)) (export \"check\" (func $f)))";
    let error = host().load_bytes(text.as_bytes(), false).unwrap_err();
    assert!(matches!(error, PluginError::World(_)), "{error}");
}

#[test]
fn state_ends_with_the_instance() {
    // Answers yes at its second call.
    let counting = Guest::checking(
        "(i32.store8 (i32.const 1092) (global.get $seen)) (global.set $seen (i32.const 1)) (i32.const 1088)",
    )
    .with("(global $seen (mut i32) (i32.const 0))");
    let matched = |matcher: &mut PluginMatcher| match ask(matcher, b"page") {
        Answer::Verdict(verdict) => verdict.matched,
        other => panic!("{other:?}"),
    };
    let host = host();
    let mut reused = counting.matcher(&host, limits());
    assert_eq!([matched(&mut reused), matched(&mut reused)], [false, true]);
    let plugin = counting.load(&host).unwrap();
    let mut fresh = PluginMatcher::new(plugin, "{}".into(), limits(), true);
    assert_eq!([matched(&mut fresh), matched(&mut fresh)], [false, false]);

    // After a fault the next page has a new one.
    let failing = Guest::checking(
        "(if (global.get $seen) (then (unreachable))) (global.set $seen (i32.const 1)) (i32.const 1088)",
    )
    .with("(global $seen (mut i32) (i32.const 0))");
    let mut matcher = failing.matcher(&host, limits());
    let answers = [ask(&mut matcher, b"1"), ask(&mut matcher, b"2"), ask(&mut matcher, b"3")];
    assert!(
        matches!(answers, [Answer::Verdict(_), Answer::Fault(Fault::Trap(_)), Answer::Verdict(_)]),
        "{answers:?}"
    );
}

#[test]
fn chance_has_no_source() {
    // Says what number it was given: the same in every instance, as WASI's stub gives it.
    let text = Guest::checking(
        "(drop (call $random (i32.const 3000) (i32.const 1)))
         (i32.store8 (i32.const 1092) (i32.and (i32.load8_u (i32.const 3000)) (i32.const 1))) (i32.const 1088)",
    )
    .text()
    .replacen(
        "(module",
        "(module (import \"wasi_snapshot_preview1\" \"random_get\" (func $random (param i32 i32) (result i32)))",
        1,
    );
    let plugin = host().load_bytes(text.as_bytes(), false).unwrap();
    let mut matcher = PluginMatcher::new(plugin, "{}".into(), limits(), true);
    let first = ask(&mut matcher, b"page");
    assert!(matches!(first, Answer::Verdict(_)), "{first:?}");
    for _ in 0..50 {
        assert_eq!(ask(&mut matcher, b"page"), first);
    }
}

#[test]
fn who_fails_time_after_time_is_left_alone() {
    let mut matcher = Guest::checking("(unreachable)").matcher(&host(), limits());
    for _ in 0..monmon_wasm::FAULTS_MAX {
        assert!(matches!(ask(&mut matcher, b"page"), Answer::Fault(_)));
    }
    let Answer::NotAsked(why) = ask(&mut matcher, b"page") else { panic!("not asked any more") };
    assert!(why.contains("left alone") && why.contains("unreachable"), "{why}");
    let counts = matcher.counts();
    assert_eq!((counts.calls, counts.faults, counts.not_asked), (5, 5, 1));
}

#[test]
fn who_is_slow_on_every_page_is_asked_less() {
    // Each call takes some 10 ms and ends well.
    let slow = Guest::checking(
        "(local $left i64) (local.set $left (i64.const 40000000))
         (loop $on (local.set $left (i64.sub (local.get $left) (i64.const 1)))
           (br_if $on (i64.ne (local.get $left) (i64.const 0))))
         (i32.const 1088)",
    );
    let mut limits = limits();
    limits.time = Duration::from_secs(5);
    let mut matcher = slow.matcher(&host(), limits);
    matcher.behind(true);
    let answers: Vec<Answer> = (0..2000).map(|_| ask(&mut matcher, b"page")).collect();
    let asked = answers.iter().filter(|answer| matches!(answer, Answer::Verdict(_))).count();
    assert!(asked > 0 && asked < answers.len(), "{asked}");
    let Some(Answer::NotAsked(why)) = answers.last() else { panic!("the last are not asked") };
    assert!(why.contains("too slow"), "{why}");
}

#[test]
fn code_that_was_tampered_with_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("plugins");
    let host = || Host::new(HostOptions { cache: Some(cache.clone()), ..HostOptions::default() });
    let text = Guest::default().text();
    assert!(!host().load_bytes(text.as_bytes(), false).unwrap().was_cached);
    assert!(host().load_bytes(text.as_bytes(), false).unwrap().was_cached);
    let code = std::fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "code"))
        .unwrap();
    for spoil in [
        |code: &mut Vec<u8>| *code.last_mut().unwrap() ^= 1,
        |code: &mut Vec<u8>| code.truncate(code.len() / 2),
        |code: &mut Vec<u8>| code.clear(),
    ] {
        let mut bytes = std::fs::read(&code).unwrap();
        spoil(&mut bytes);
        std::fs::remove_file(&code).unwrap();
        std::fs::write(&code, bytes).unwrap();
        let plugin = host().load_bytes(text.as_bytes(), false).unwrap();
        assert!(!plugin.was_cached, "compiled again");
        let mut matcher = PluginMatcher::new(plugin, "{}".into(), limits(), false);
        assert!(matches!(ask(&mut matcher, b"page"), Answer::Verdict(_)));
    }
    // Many at once, with nothing kept yet: each comes to a plugin.
    std::fs::remove_dir_all(&cache).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(host().load_bytes(text.as_bytes(), false).is_ok()));
        }
    });
    assert!(host().load_bytes(text.as_bytes(), false).unwrap().was_cached);
}

#[test]
fn a_plugin_that_is_replaced_while_it_runs_runs_on() {
    use monmon_syntax::DiskLoader;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wat");
    let host =
        Host::new(HostOptions { cache: Some(folder.path().join("plugins")), ..HostOptions::default() });
    std::fs::write(&path, Guest::default().text()).unwrap();
    let first = host.load(&path, &DiskLoader, false).unwrap();
    let mut matcher = PluginMatcher::new(first.clone(), "{}".into(), limits(), true);
    std::fs::write(&path, Guest::checking("(unreachable)").text()).unwrap();
    assert!(matches!(ask(&mut matcher, b"page"), Answer::Verdict(_)));
    let second = host.load(&path, &DiskLoader, false).unwrap();
    assert_ne!(first.digest, second.digest);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(ask(&mut matcher, b"page"), Answer::Verdict(_)));
    assert!(matches!(host.load(&path, &DiskLoader, false), Err(PluginError::Unreadable(_))));
}

#[test]
fn there_is_room_for_so_many_instances() {
    let host = host();
    let plugin = Guest::default().load(&host).unwrap();
    let mut held = Vec::new();
    let full = loop {
        match plugin.instance(limits(), None) {
            Ok(instance) => held.push(instance),
            Err(fault) => break fault,
        }
        assert!(held.len() <= 1000);
    };
    assert!(matches!(full, Fault::Start(_)) && held.len() >= 8, "{full}");
    held.pop();
    assert!(plugin.instance(limits(), None).is_ok());
}
