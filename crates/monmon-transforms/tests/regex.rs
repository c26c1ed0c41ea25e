//! What matchers say of pages, and what is wrong with patterns.

mod common;

use common::{apply, cut_page, decode, inline, inline_each, measurement, page, told};
use monmon_model::wire;
use monmon_model::{Failure, FailureKind, Match, MatchStatus, Measurement, Outcome, Phase, Reason, check_id};
use monmon_stage::matching::{VALUE_CHARS_MAX, VALUES_BYTES_MAX};
use monmon_transforms::PATTERNS_KEPT_MAX;
use proptest::prelude::*;

async fn matched(matches: &str, body: &[u8]) -> Measurement {
    let (spec, sources, problems) = decode(&format!("regex \"titles\" {{\n{matches}\n}}"));
    assert!(problems.is_empty(), "{:?}", told(&sources, &problems));
    apply(&*spec, measurement("docs"), page(body.to_vec())).await
}

fn only(measurement: &Measurement) -> &Match {
    assert_eq!(measurement.matches.len(), 1);
    &measurement.matches[0]
}

#[tokio::test]
async fn found_where_it_should_be() {
    let page = b"<html><title>Docs &amp; more</title></html>";
    let said = matched(r##"match "title" #"<title>(?<title>[^<]*)</title>"#"##, page).await;
    assert_eq!(said.outcome, Outcome::Up);
    let title = only(&said);
    assert_eq!(
        (title.name.as_str(), title.stage.as_str(), title.kind.as_str()),
        ("title", "titles", "regex")
    );
    assert_eq!((title.status, title.found, &title.message), (MatchStatus::Passed, Some(true), &None));
    assert_eq!(title.values["title"], "Docs &amp; more");
}

#[tokio::test]
async fn not_found_is_down_and_the_reason_names_the_matcher() {
    let said = matched(r#"match "pitch" "open source""#, b"closed").await;
    assert_eq!(said.outcome, Outcome::Down);
    assert_eq!(said.reason, Some(Reason::Match { name: "pitch".into(), message: "not found".into() }));
    assert_eq!((only(&said).status, only(&said).found), (MatchStatus::Failed, Some(false)));
}

#[tokio::test]
async fn what_must_not_be_there() {
    let pattern = r##"match "no-trace" #"Traceback \(most[^\n]*"# present=#false"##;
    let said = matched(pattern, b"all is well").await;
    assert_eq!(said.outcome, Outcome::Up);
    assert_eq!((only(&said).status, only(&said).found), (MatchStatus::Passed, Some(false)));
    let said = matched(pattern, b"oh: Traceback (most recent\tcall\nlast)").await;
    assert_eq!(said.outcome, Outcome::Down);
    let message = "found `Traceback (most recent call`, which must not be there";
    assert_eq!(only(&said).message.as_deref(), Some(message));
}

#[tokio::test]
async fn fancy_features() {
    let said = matched(r##"match "twice" #"(?<word>\w+) \k<word>(?!s)"#"##, b"a big big cat").await;
    assert_eq!(only(&said).values["word"], "big");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_looked_at_all_the_same() {
    let said = matched(r##"match "name" #"name=(?<name>\S+)"#"##, b"\xff\0 name=\xe9t\0 x").await;
    assert_eq!(only(&said).status, MatchStatus::Passed);
    assert_eq!(only(&said).values["name"], "\u{fffd}t\u{fffd}");
}

#[tokio::test]
async fn a_cut_page_decides_only_what_was_found_in_it() {
    let text =
        r#"regex "titles" { match "here" "abc"; match "gone" "xyz"; match "free" "xyz" present=#false; }"#;
    let (spec, _, _) = decode(text);
    let said = apply(&*spec, measurement("docs"), cut_page("abcdef")).await;
    let statuses: Vec<_> = said.matches.iter().map(|one| one.status).collect();
    assert_eq!(statuses, [MatchStatus::Passed, MatchStatus::Error, MatchStatus::Error]);
    assert_eq!(said.matches[1].message.as_deref(), Some("not found, but the page was cut at 6 bytes"));
    assert_eq!(said.matches[1].found, None);
    assert_eq!(said.outcome, Outcome::Unknown);
}

#[tokio::test]
async fn without_a_page_nothing_is_known() {
    let (spec, _, _) = decode(r#"regex "titles" { match "here" "abc"; }"#);
    let said = apply(&*spec, measurement("docs"), None).await;
    assert_eq!((only(&said).status, said.outcome), (MatchStatus::Error, Outcome::Unknown));
    let mut down = measurement("docs");
    down.fail(Failure::new(FailureKind::ConnectRefused, Phase::Connect, "refused"));
    let said = apply(&*spec, down.clone(), None).await;
    assert_eq!(said, down, "a failure says all");
}

#[tokio::test]
async fn a_pattern_that_goes_back_too_often_gives_up() {
    let text = r##"regex "titles" backtrack-limit=1000 { match "evil" #"(x+x+)+\1(?>y)"#; }"##;
    let (spec, sources, problems) = decode(text);
    assert!(problems.is_empty(), "{:?}", told(&sources, &problems));
    let said = apply(&*spec, measurement("docs"), page(format!("y{}", "x".repeat(60)))).await;
    assert_eq!((only(&said).status, said.outcome), (MatchStatus::Error, Outcome::Unknown));
    assert!(only(&said).message.as_deref().expect("a message").contains("backtrack-limit"));
}

#[tokio::test]
async fn values_have_bounds() {
    let long = "\u{1}".repeat(VALUE_CHARS_MAX + 10);
    let said = matched(r##"match "all" #"(?<all>(?s:.)*)"#"##, long.as_bytes()).await;
    assert_eq!(only(&said).values["all"].chars().count(), VALUE_CHARS_MAX);

    let matches: Vec<String> = (0..200).map(|n| format!(r##"match "m{n}" #"(?<all>(?s:.)*)"#"##)).collect();
    let said = matched(&matches.join("\n"), long.as_bytes()).await;
    let bytes: usize = said.matches.iter().flat_map(|one| one.values.values()).map(String::len).sum();
    assert!(bytes <= VALUES_BYTES_MAX, "{bytes}");
    let last = said.matches.last().expect("all of them");
    assert_eq!((last.status, last.values.len()), (MatchStatus::Passed, 0));
    assert!(last.message.as_deref().is_some_and(|message| message.contains("left out")));
    let mut line = Vec::new();
    wire::encode(&said, &mut line);
    assert_eq!(wire::decode(&line).expect("it fits the wire format"), said);
}

#[tokio::test]
async fn matchers_inside_checks_are_their_checks_own() {
    let text = r#"regex "x" { match "pitch" "open"; match "other" "open"; }"#;
    let (spec, problems) = inline(text, check_id("producer", "sites", "docs"));
    assert!(problems.is_empty());
    assert!(spec.needs_page());
    let said = apply(&*spec, measurement("docs"), page("open")).await;
    assert_eq!(said.matches.len(), 2);
    assert_eq!(said.matches[0].stage, "sites");
    let said = apply(&*spec, measurement("home"), page("open")).await;
    assert_eq!(said.matches, []);
}

#[test]
fn patterns_that_cannot_be() {
    let told_of = |matches: &str| {
        let (_, sources, problems) = decode(&format!("regex \"titles\" {{\n{matches}\n}}"));
        told(&sources, &problems)
    };
    let cases = [
        (r##"match "a" #"(abc"#"##, "opening parenthesis without closing parenthesis @ c"),
        (r##"match "a" #"ab[c"#"##, "invalid character class @ c"),
        (r##"match "a" #"a\gb"#"##, "could not parse group name @ b"),
        (r##"match "a" "é[z" "##, "invalid character class @ z"),
        (r##"match "a" "*a""##, "target of repeat operator is invalid @ *"),
        (
            r##"match "a" #"(((a{100}){100}){100})"#"##,
            r##"needs more than 4194304 bytes when compiled @ #"(((a{100}){100}){100})"#"##,
        ),
        // Escapes were taken out of this text, so its places are not those of the file.
        (r##"match "a" "\\w(""##, r##"without closing parenthesis @ "\\w(""##),
        (r##"match "a" "" "##, r##"would match everything @ "" "##.trim()),
    ];
    for (matches, expected) in cases {
        let told = told_of(matches);
        assert_eq!(told.len(), 1, "{matches}: {told:?}");
        assert!(told[0].starts_with("monmon::bad_pattern: ") && told[0].ends_with(expected), "{told:?}");
    }
}

#[test]
fn deep_and_long_patterns_are_refused() {
    for pattern in ["(".repeat(8_000) + &")".repeat(8_000), "a".repeat(20_000), "(?:".repeat(4_000)] {
        let (_, sources, problems) = decode(&format!("regex \"t\" {{ match \"a\" #\"{pattern}\"#; }}"));
        let told = told(&sources, &problems);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("monmon::bad_pattern: "));
    }
}

#[test]
fn there_is_a_bound_on_patterns_and_on_matchers() {
    let matches = |pattern: fn(usize) -> String| {
        let lines: Vec<String> =
            (0..PATTERNS_KEPT_MAX + 50).map(|n| format!("match \"m{n}\" \"{}\"", pattern(n))).collect();
        let (_, sources, problems) = decode(&format!("regex \"t\" {{\n{}\n}}", lines.join("\n")));
        told(&sources, &problems)
    };
    let for_one_page = "monmon::too_many: there can be at most 200 matchers for one page @ \"m200\"";
    assert_eq!(matches(|_| "same".to_owned()), [for_one_page]);
    // The bound on patterns is far beyond that on matchers of one page.
    assert_eq!(matches(|n| format!("x{n}")), [for_one_page]);
}

#[tokio::test]
async fn patterns_beyond_those_that_stay_compiled_are_looked_for_all_the_same() {
    let pattern = |check: usize| format!("x(?<number>{check})y|shared");
    let checks = PATTERNS_KEPT_MAX + 50;
    let of = |check: usize| check_id("producer", "sites", &format!("c{check}"));
    let all = (0..checks).map(|check| (of(check), pattern(check)));
    let (spec, problems) = inline_each(all);
    assert!(problems.is_empty());
    for check in [0, 1, PATTERNS_KEPT_MAX - 1, PATTERNS_KEPT_MAX, checks - 1] {
        for _ in 0..2 {
            let said = apply(&*spec, measurement(&format!("c{check}")), page(format!("x{check}y"))).await;
            assert_eq!(only(&said).values["number"], check.to_string());
        }
        let said = apply(&*spec, measurement(&format!("c{check}")), page("x-y")).await;
        assert_eq!((only(&said).status, said.outcome), (MatchStatus::Failed, Outcome::Down));
    }
    // What is wrong is told, however many there are before it.
    let all = (0..checks)
        .map(|check| (of(check), if check == checks - 1 { "(x".to_owned() } else { pattern(check) }));
    let (_, problems) = inline_each(all);
    let told: Vec<&str> = problems.iter().map(|problem| problem.code.as_str()).collect();
    assert_eq!(told, ["monmon::bad_pattern"]);
}

#[test]
fn equal_names_are_told_with_both_places() {
    let text = r#"regex "t" { match "a" "x"; match "b" "y"; match "a" "z"; }"#;
    let (_, sources, problems) = decode(text);
    assert_eq!(told(&sources, &problems), [r#"monmon::duplicate_name: two matchers are named `a` @ "a""#]);
    let problem = problems.iter().next().expect("one");
    let places = [problem.span.expect("a place").offset, problem.related[0].0.offset];
    assert_eq!(places, [text.rfind(r#""a""#).expect("twice"), text.find(r#""a""#).expect("once")]);
}

#[test]
fn what_a_snapshot_shows() {
    let (spec, _, _) = decode(r#"regex "t" { match "a" "x"; match "b" "y" present=#false; }"#);
    let expected = serde_json::json!({
        "backtrack-limit": 1_000_000,
        "matches": [
            { "name": "a", "pattern": "x", "present": true },
            { "name": "b", "pattern": "y", "present": false },
        ],
    });
    assert_eq!(spec.describe(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands in a pattern: a matcher or problems whose places are inside the text, and no panic.
    #[test]
    fn any_pattern_is_a_matcher_or_a_problem(pattern in r#"[a-c\\()\[\]{}?*+|<>=!.^$0-9,:é -]{1,24}"#) {
        let text = format!("regex \"t\" {{ match \"a\" ##\"{pattern}\"##; }}");
        let (_, sources, problems) = decode(&text);
        for problem in problems.iter() {
            let span = problem.span.expect("a place");
            prop_assert!(sources.text(span).is_some_and(|place| !place.is_empty()), "{problem:?}");
        }
    }
}
