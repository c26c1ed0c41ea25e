//! What is read of sound files, and how files are found.

#![expect(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod catalogue;

use std::path::Path;
use std::time::Duration;

use monmon_syntax::{
    Code, DiskLoader, FileId, LateSource, Loaded, MemoryLoader, Problem, Problems, Report, Severity,
    SourceFile, SourceMap, Span, Spanned, load, parse,
};

const SOUND: &str = r##"
sources {
    http "sites" interval="1m30s" {
        timeout "5s"
        reuse #true
        check "docs" "https://docs.example.org/?q=1" password=(env)"PASSWORD" {
            expect status="200-299,304" time="<2s"
            header "authorization" (file)"token"
            label team="docs" tier=(env)"TIER"
            match "title" #"<title>(?<title>[^<]*)</title>"#
            match "no-trace" "trace" present=#false
        }
    }
}
sinks {
    kafka "events" { brokers "a:9092"; topic events; password "hunter2"; tls ca="ca.pem"; }
}
"##;

#[test]
fn values_are_typed_and_defaults_apply() {
    let (sources, files, problems) = catalogue::read_files(&[("p.kdl", SOUND.as_bytes())]);
    assert!(problems.is_empty(), "{}", Report::new(&problems, &sources).render(&catalogue::handler()));
    let http = files[0].child("sources").and_then(|sources| sources.child("http")).expect("it is there");
    assert!(http.is_sound());
    assert_eq!(http.arg_text(0).map(|name| name.value).as_deref(), Some("sites"));
    assert_eq!(http.duration("interval").map(|value| value.value), Some(Duration::from_secs(90)));
    assert_eq!(http.duration("timeout").map(|value| value.value), Some(Duration::from_secs(5)));
    assert_eq!(http.size("body").map(|value| value.value), Some(1 << 20), "the default");
    assert_eq!(http.integer("concurrency").map(|value| value.value), Some(100), "the default");
    assert_eq!(http.one_of("address").map(|value| value.value).as_deref(), Some("any"), "the default");
    assert!(http.flag("reuse") && http.is_given("reuse") && !http.is_given("body"));

    let text = |span: Span| sources.text(span).unwrap_or("");
    let interval = http.duration("interval").expect("it is given");
    assert_eq!(text(interval.span), "\"1m30s\"");
    assert_eq!(http.option_span("interval").map(text), Some("interval"));
    assert_eq!(text(http.name_span), "http");
    assert!(text(http.span).starts_with("http \"sites\"") && text(http.span).ends_with('}'));
    assert_eq!(
        text(http.size("body").expect("it has a default").span),
        "http",
        "a default stands at the node"
    );

    let check = http.child("check").expect("it is there");
    assert_eq!(
        check.arg_url(1).map(|url| url.value.to_string()).as_deref(),
        Some("https://docs.example.org/?q=1")
    );
    let password = check.late("password").expect("it is given");
    assert_eq!(password.source, LateSource::Env("PASSWORD".to_owned()));
    assert!(password.secret);
    assert_eq!(text(password.span), "(env)\"PASSWORD\"");
    assert_eq!(check.duration("interval"), None);
    let expect = check.child("expect").expect("it is there");
    assert_eq!(
        expect.ranges("status").map(|ranges| ranges.value.to_string()).as_deref(),
        Some("200-299,304")
    );
    assert_eq!(expect.below("time").map(|bound| bound.value), Some(Duration::from_secs(2)));
    let header = check.child("header").and_then(|header| header.arg_late(1)).expect("it is there");
    assert_eq!(header.source, LateSource::File("token".into()));
    let label = check.child("label").expect("it is there");
    assert_eq!(format!("{:?}", label.extra), r#"[("team", Late("docs")), ("tier", Late((env)"TIER"))]"#);
    let matches: Vec<(String, bool)> = check
        .children_named("match")
        .map(|node| (node.arg_text(1).map(|text| text.value).unwrap_or_default(), node.flag("present")))
        .collect();
    assert_eq!(
        matches,
        [("<title>(?<title>[^<]*)</title>".to_owned(), true), ("trace".to_owned(), false)],
        "a raw string is taken as it is, and present is the default"
    );

    let kafka = files[1].child("sinks").and_then(|sinks| sinks.child("kafka")).expect("it is there");
    assert_eq!(
        kafka.text("topic").map(|topic| topic.value).as_deref(),
        Some("events"),
        "a bare word is a text"
    );
    assert!(!format!("{files:?}").contains("hunter2"));
}

#[test]
fn a_wrong_value_gives_its_default_and_leaves_the_others() {
    let text = "sources {\n    http \"s\" interval=\"soon\" timeout=\"3s\" body=30s {\n        check \"\" \"https://a.example/\"\n    }\n}\n";
    let (_, files, problems) = catalogue::read_files(&[("p.kdl", text.as_bytes())]);
    assert_eq!(problems.len(), 3);
    assert!(!files[0].is_sound());
    let http = files[0].child("sources").and_then(|sources| sources.child("http")).expect("it is there");
    assert!(!http.is_sound());
    assert_eq!(http.duration("interval").map(|value| value.value), Some(Duration::from_secs(30)));
    assert_eq!(http.duration("timeout").map(|value| value.value), Some(Duration::from_secs(3)));
    assert_eq!(http.size("body").map(|value| value.value), Some(1 << 20));
    let check = http.child("check").expect("it is there");
    assert_eq!(check.arg_text(0), None, "a wrong argument leaves a gap");
    assert!(check.arg_url(1).is_some(), "and does not move the next one");
}

#[test]
fn problems_are_also_told_as_json() {
    let text = "sources {\n    http \"é\" intervall=\"30s\" interval=30\n}\n";
    let (sources, _, problems) = catalogue::read_files(&[("p.kdl", text.as_bytes())]);
    insta::assert_json_snapshot!(Report::new(&problems, &sources).to_json());
}

#[test]
fn included_nodes_stand_where_the_include_stands() {
    let loader = MemoryLoader::new()
        .with("main/main.kdl", "a\ninclude \"../shared/b.kdl\"\nd\ninclude \"../shared/c.kdl\"\n")
        .with("shared/b.kdl", "b\ninclude \"c.kdl\"\n")
        .with("shared/c.kdl", "c\n");
    let mut problems = Problems::new();
    let loaded = load(Path::new("main/main.kdl"), &loader, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    let names: Vec<(u32, &str)> =
        loaded.nodes.iter().map(|top| (top.file.0, top.node.name().value())).collect();
    assert_eq!(names, [(0, "a"), (1, "b"), (2, "c"), (0, "d")], "the second way to c.kdl brings nothing");
    assert_eq!(loaded.sources.rooted(FileId(2), Path::new("x.pem")), Path::new("main/../shared/x.pem"));
    assert_eq!(loaded.sources.rooted(FileId(2), Path::new("/x.pem")), Path::new("/x.pem"));
}

#[test]
fn files_on_disk_that_are_none_are_refused() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the folder can be written to");
        path
    };
    let codes = |path: &Path| {
        let mut problems = Problems::new();
        let Loaded { nodes, .. } = load(path, &DiskLoader, &mut problems);
        (nodes.len(), problems.iter().map(|problem| problem.code).collect::<Vec<_>>())
    };
    assert_eq!(codes(&file("good.kdl", b"a\nb\n")), (2, vec![]));
    assert_eq!(codes(&file("empty.kdl", b"")), (0, vec![]));
    assert_eq!(codes(&file("latin.kdl", b"a \"\xe9\"")), (0, vec![Code::NotUtf8]));
    assert_eq!(codes(&file("large.kdl", &vec![b' '; (1 << 20) + 1])), (0, vec![Code::TooLarge]));
    assert_eq!(codes(&file("full.kdl", &vec![b' '; 1 << 20])), (0, vec![]));
    assert_eq!(codes(folder.path()), (0, vec![Code::UnreadableFile]));
    assert_eq!(codes(&folder.path().join("none.kdl")), (0, vec![Code::UnreadableFile]));
    assert_eq!(codes(Path::new("/dev/zero")), (0, vec![Code::UnreadableFile]));
}

#[test]
fn the_first_hundred_problems_are_kept_and_errors_go_before_warnings() {
    let problem = |code, offset| Problem::new(code, Span::new(FileId(0), offset, 1), "x");
    let mut problems = Problems::new();
    for offset in (0..100).rev() {
        problems.push(problem(Code::NotApplied, offset));
    }
    assert!(!problems.has_errors());
    problems.push(problem(Code::Cycle, 5));
    problems.push(Problem::new(Code::EmptyPipeline, None, "x"));
    assert!(problems.has_errors());
    assert_eq!((problems.len(), problems.dropped(), problems.error_count()), (102, 2, 2));
    assert_eq!(
        problems.iter().next().map(|first| first.code),
        Some(Code::EmptyPipeline),
        "what has no place is first"
    );
    let places: Vec<usize> =
        problems.iter().filter_map(|problem| problem.span).map(|span| span.offset).collect();
    assert!(places.is_sorted());
    let mut all = Problems::new();
    all.extend(problems);
    assert_eq!((all.len(), all.dropped(), all.error_count()), (102, 2, 2));
    let shown = Report::new(&all, &SourceMap::new()).render(&catalogue::handler());
    assert!(shown.ends_with("... and 2 more\n"), "{shown}");
}

#[test]
fn codes_are_unlike_and_explained() {
    let mut names: Vec<&str> = Code::all().iter().map(|code| code.as_str()).collect();
    assert!(names.iter().all(|name| name.starts_with("monmon::")));
    assert!(Code::all().iter().all(|code| code.about().ends_with('.')));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert_eq!(Code::NotApplied.severity(), Severity::Warning);
}

#[test]
fn places_count_characters() {
    let mut sources = SourceMap::new();
    let file = sources.add(SourceFile::new("p.kdl", "é\nxé😀y"));
    assert_eq!(sources.place(file, 0), Some((1, 1)));
    assert_eq!(sources.place(file, 3), Some((2, 1)));
    assert_eq!(sources.place(file, 10), Some((2, 4)));
    assert_eq!(sources.place(file, 1000), Some((2, 5)));
    assert_eq!(sources.place(FileId(9), 0), None);
    assert_eq!(format!("{:?}", Spanned::new(5, Span::new(file, 0, 1))), "5");
}

#[test]
fn long_lines_are_cut_and_still_point_right() {
    let text = format!("pipeline \"{}\" wrong=\"{}\"\n", "x".repeat(90_000), "y".repeat(90_000));
    let shown = catalogue::shown(&[("p.kdl", text.as_bytes())]);
    assert!(shown.len() < 4_000, "{} bytes", shown.len());
    assert!(shown.contains("wrong"), "{shown}");
}

#[test]
fn the_shared_examples_are_sound() {
    let producer = r##"
pipeline "producer"
sources {
    http "sites" interval="30s" timeout="10s" {
        check "aiven" "https://aiven.io/" {
            expect status="200-299" time="<2s"
            match "pitch" #"(?i)open[- ]source"#
        }
        checks-from "sites.csv"
    }
}
transforms {
    regex "titles" from="sites" {
        match "title" #"<title>(?<title>[^<]*)</title>"#
    }
}
"##;
    let mut problems = Problems::new();
    let document = parse(FileId(0), producer, &mut problems).expect("it is KDL");
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(document.nodes().len(), 3);
}
