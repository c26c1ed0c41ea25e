//! Whatever the text, reading it ends in a document or in problems; and where nothing is wrong, the document is the one
//! that the KDL parser makes of the text.

mod catalogue;

use std::time::Duration;

use monmon_syntax::{
    FileId, Problems, Ranges, Report, format_duration, format_size, parse, parse_below, parse_duration,
    parse_ranges, parse_size,
};
use proptest::prelude::*;

const VALID: &str = r##"pipeline "producer"
/- include "x.kdl"
sources {
    http "sites" interval="30s" timeout="10s" { // all of them
        check "a" "https://a.example/" /* here */ interval="1m" {
            expect status="200-299" time="<2s"
            match "pitch" #"(?i)open[- ]source"# present=#false
        }
        header \
            "accept" "text/html"
        label team="docs" /-owner="me"
        match "text" """
            <title>
              x\n
            """
    }
}
sinks {
    kafka "events" {
        brokers (env)"MONMON_KAFKA_BROKERS"; topic "monmon.measurements"
        password (file)"secret"
    }
}
"##;

/// Pieces of KDL, right and wrong, from which texts are put together.
const PIECES: &[&str] = &[
    "a",
    "b",
    "check",
    "http",
    "\"x\"",
    "\"",
    "\"\"\"",
    "#\"",
    "\"#",
    "#\"r\"#",
    "##\"r\"##",
    "{",
    "}",
    "{",
    "}",
    "(",
    ")",
    "(env)",
    "=",
    "a=1",
    "a=\"x\"",
    ";",
    "\n",
    "\n",
    "\r\n",
    " ",
    " ",
    " ",
    "\t",
    "\\",
    "\\\n",
    "//",
    "/*",
    "*/",
    "/-",
    "/",
    "*",
    "1",
    "-1",
    "1.5",
    "1e9",
    "0xff",
    "30s",
    "2xx",
    ".5",
    "#true",
    "#false",
    "#null",
    "#inf",
    "#-inf",
    "#nan",
    "#",
    "true",
    "-inf",
    "\\n",
    "\\u{41}",
    "\\x",
    "[",
    "]",
    ",",
    "'",
    "r\"x\"",
    "https://x/",
    "é",
    "\u{2028}",
    "\u{85}",
    "\u{3000}",
    "😀",
    "\u{202e}",
    "\0",
    "\u{feff}",
    "\"\"\"\n x\n \"\"\"",
    "interval=\"30s\"",
    "$",
    "${X}",
    "env(\"X\")",
];

/// Such pieces that our own reading is not stricter about than KDL is.
const PLAIN_PIECES: &[&str] = &[
    "a",
    "b",
    "\"x\"",
    "\"",
    "#\"r\"#",
    "##\"r\"##",
    "{",
    "}",
    " {",
    "}\n",
    "(env)",
    "=",
    "a=1",
    "a=\"x\"",
    "\n",
    "\n",
    "\r\n",
    " ",
    " ",
    " ",
    "\t",
    "\\\n",
    "// c\n",
    "/* c */",
    "/-",
    "1",
    "-1",
    "1.5",
    "1e9",
    "0xff",
    "30s",
    "#true",
    "#null",
    "#inf",
    "true",
    "\"\\n\"",
    "\"\\x\"",
    "é",
    "\u{3000}",
    "\"\"\"\n x\n \"\"\"",
];

fn soup(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

fn mutated() -> impl Strategy<Value = String> {
    let places: Vec<usize> = VALID.char_indices().map(|(at, _)| at).collect();
    let change = (proptest::sample::select(places), 0_usize..6, proptest::sample::select(PIECES));
    proptest::collection::vec(change, 1..5).prop_map(|mut changes| {
        changes.sort();
        let mut text = VALID.to_owned();
        for (at, removed, inserted) in changes.into_iter().rev() {
            let at = text.floor_char_boundary(at);
            let end = text.ceil_char_boundary((at + removed).min(text.len()));
            text.replace_range(at..end, inserted);
        }
        text
    })
}

/// Loads, reads and shows the text; every place must lie in it.
fn survive(text: &str) {
    let (sources, nodes, problems) = catalogue::read_files(&[("p.kdl", text.as_bytes())]);
    for problem in problems.iter() {
        let span = problem.span.expect("every problem of a file has a place");
        let shown = sources.text(span);
        assert!(shown.is_some(), "{problem:?} lies outside of the text, or cuts a character");
        assert!(!problem.message.is_empty());
    }
    let report = Report::new(&problems, &sources);
    let drawn = report.render(&catalogue::handler());
    assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'), "a control character is drawn: {drawn:?}");
    assert!(!drawn.contains("Failed to read"), "{drawn}");
    let json = report.to_json();
    assert_eq!(json.as_array().map(Vec::len), Some(problems.iter().count()));
    if !problems.has_errors() {
        assert!(nodes.iter().all(|node| node.is_sound()));
    }
}

fn outline(document: &kdl::KdlDocument) -> String {
    let mut text = String::new();
    for node in document.nodes() {
        text.push_str(&format!("{:?} {:?}", node.ty().map(|ty| ty.value()), node.name().value()));
        for entry in node.entries() {
            let name = entry.name().map(|name| name.value());
            text.push_str(&format!(" {:?}:{name:?}={:?}", entry.ty().map(|ty| ty.value()), entry.value()));
        }
        if let Some(children) = node.children() {
            text.push_str(&format!(" {{\n{}}}", outline(children)));
        }
        text.push('\n');
    }
    text
}

fn ours(text: &str) -> (String, Problems) {
    let mut problems = Problems::new();
    let document =
        parse(FileId(0), text, &mut problems).map(|document| outline(&document)).unwrap_or_default();
    (document, problems)
}

/// Where we find nothing wrong, KDL finds nothing wrong and reads the same.
fn agree(text: &str) {
    // kdl 6.7.1 does not end a node that is commented out at a `;`, as the grammar has it.
    let known = text.lines().any(|line| line.split_once("/-").is_some_and(|(_, rest)| rest.contains(';')));
    let (document, problems) = ours(text);
    if problems.is_empty() && !known {
        match kdl::KdlDocument::parse_v2(text) {
            Ok(theirs) => assert_eq!(document, outline(&theirs), "{text:?}"),
            Err(error) => {
                let messages: Vec<_> =
                    error.diagnostics.iter().map(|found| (&found.message, found.span)).collect();
                panic!("KDL finds {messages:?} in {text:?}")
            }
        }
    }
}

#[test]
fn the_valid_file_is_valid() {
    let (_, problems) = ours(VALID);
    assert!(problems.is_empty(), "{problems:?}");
    agree(VALID);
}

/// More of them for a longer search: MONMON_SYNTAX_CASES=100000.
#[expect(clippy::disallowed_methods, reason = "the number of cases is a matter of who runs the tests")]
fn cases() -> u32 {
    std::env::var("MONMON_SYNTAX_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(512)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_survived(text in "\\PC{0,200}") {
        survive(&text);
    }

    #[test]
    fn arbitrary_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        catalogue::shown(&[("p.kdl", &bytes)]);
    }

    #[test]
    fn soup_is_survived(text in soup(PIECES)) {
        survive(&text);
    }

    #[test]
    fn mutated_files_are_survived(text in mutated()) {
        survive(&text);
    }

    #[test]
    fn kdl_agrees_with_what_is_accepted(text in soup(PLAIN_PIECES)) {
        agree(&text);
    }

    #[test]
    fn kdl_agrees_with_mutated_files(text in mutated()) {
        agree(&text);
    }

    #[test]
    fn durations_round_trip(micros in any::<u64>()) {
        let duration = Duration::from_micros(micros);
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }

    #[test]
    fn sizes_round_trip(bytes in any::<u64>()) {
        prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
    }

    #[test]
    fn ranges_round_trip(ranges in proptest::collection::vec((0_u16..1000, 0_u16..1000), 1..20)) {
        let text = ranges.iter().map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))).collect::<Vec<_>>().join(",");
        let parsed = parse_ranges(&text).unwrap_or_else(|error| panic!("{error}"));
        prop_assert_eq!(parse_ranges(&parsed.to_string()), Ok(parsed.clone()));
        prop_assert!(ranges.iter().all(|(a, _)| parsed.contains(*a)));
    }

    #[test]
    fn quantities_survive_arbitrary_text(text in "[-0-9a-zA-Zµ.,<>= ]{0,24}|\\PC{0,24}") {
        for mend in [parse_duration(&text).err().and_then(|error| error.mend)].into_iter().flatten() {
            prop_assert!(parse_duration(&mend).is_ok(), "{} -> {}", text, mend);
        }
        for mend in [parse_size(&text).err().and_then(|error| error.mend)].into_iter().flatten() {
            prop_assert!(parse_size(&mend).is_ok(), "{} -> {}", text, mend);
        }
        for mend in [parse_ranges(&text).err().and_then(|error| error.mend)].into_iter().flatten() {
            prop_assert!(parse_ranges(&mend).is_ok(), "{} -> {}", text, mend);
        }
        for mend in [parse_below(&text).err().and_then(|error| error.mend)].into_iter().flatten() {
            prop_assert!(parse_below(&mend).is_ok(), "{} -> {}", text, mend);
        }
        prop_assert_eq!(Ranges::default().to_string(), "");
    }
}
