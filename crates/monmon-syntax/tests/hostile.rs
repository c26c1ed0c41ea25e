//! Texts that harm the KDL parser when it is handed them as they are: each must come back with a problem or a document,
//! soon and in little memory. They are parsed in a process of its own, so that an abort counts as a failure, and under
//! a limit of its memory and its processor time.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::Path;
use std::process::{Command, Output};

/// What a process may have: 64 MiB for the text's sake, the rest for the program itself, unoptimised.
const ADDRESS_SPACE_KIB: u64 = 160 * 1024;
/// Unoptimised; the bound that users see is a tenth of this.
const CPU_SECONDS: u64 = 20;
const FILE_BYTES: usize = 1 << 20;

/// Parses the text in a process under limits; gives what it printed.
fn parse_limited(text: &[u8]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipeline.kdl");
    std::fs::write(&path, text).unwrap();
    run_limited(&path)
}

fn run_limited(path: &Path) -> Output {
    // The test process is a harness that calls itself: it needs no second program to be built first.
    let limits =
        format!("ulimit -v {ADDRESS_SPACE_KIB}; ulimit -t {CPU_SECONDS}; ulimit -c 0; exec \"$0\" \"$@\"");
    Command::new("sh")
        .args(["-c", &limits])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("MONMON_SYNTAX_TEST_FILE", path)
        .output()
        .unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the parent hands the path to its child by the environment")]
fn child() {
    let Ok(path) = std::env::var("MONMON_SYNTAX_TEST_FILE") else { return };
    let mut problems = monmon_syntax::Problems::new();
    let loaded = monmon_syntax::load(path.as_ref(), &monmon_syntax::DiskLoader, &mut problems);
    let codes: std::collections::BTreeSet<&str> =
        problems.iter().map(|problem| problem.code.as_str()).collect();
    println!("nodes={} problems={} codes={codes:?}", loaded.nodes.len(), problems.len());
    for problem in problems.iter() {
        assert!(problem.span.is_some(), "{problem:?} has no place");
    }
}

/// Asserts that the text is survived and, where a code is named, that it is reported.
fn check(text: impl AsRef<[u8]>, code: &str) {
    let output = parse_limited(text.as_ref());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(code), "expected {code}: {said}");
}

fn filled(unit: &str) -> String {
    unit.repeat(FILE_BYTES / unit.len())
}

#[test]
fn e1_nested_blocks() {
    check(filled("a{"), "monmon::too_deep");
    check(filled("{"), "monmon::too_deep");
    check("a{".repeat(63) + &"}".repeat(63), "codes={}");
}

#[test]
fn e2_nested_slashdashes() {
    check("/-a{".repeat(20), "monmon::too_deep");
    check(filled("/-{"), "monmon::too_deep");
    check(filled("/-"), "monmon::syntax");
    check(filled("a /-{}\n"), "monmon::too_many");
    check("/-a{".repeat(4) + &"}".repeat(4), "codes={}");
}

#[test]
fn e3_nested_comments() {
    check(filled("/*"), "monmon::too_deep");
    check(format!("/*{}*/", filled("* ").split_off(8)), "codes={}");
    check(format!("/*{}*/a", filled("/ ").split_off(16)), "codes={}");
    check("/*".repeat(8) + &"*/".repeat(8), "codes={}");
    check(format!("/*{}", filled("x").split_off(8)), "monmon::unterminated_comment");
}

#[test]
fn e4_broken_lines() {
    check(filled("a=\n"), "monmon::too_many");
    check(filled("30s\n"), "monmon::too_many");
    check(filled("}"), "monmon::too_many");
    check(filled("a \"\n"), "monmon::too_many");
    check(filled("("), "monmon::bad_annotation");
    check(filled("a ("), "monmon::bad_annotation");
    check(filled("="), "monmon::stray_equals");
    check(filled(" b="), "monmon::missing_value");
    check(format!("a {}", filled("[ ").split_off(8)), "monmon::too_many");
    check(format!("a {}", filled("\"b\"").split_off(8)), "monmon::too_many");
}

#[test]
fn e5_much_text() {
    check(vec![b'a'; 100 << 20], "monmon::too_large");
    check(filled("a\n"), "monmon::too_many");
    check(filled("a;"), "monmon::too_many");
    check(filled("check \"x\" \"y\"\n"), "monmon::too_many");
    check(format!("a{}", filled(" b")).split_off(2), "monmon::too_many");
    check(format!("a{}", filled(" b=1")).split_off(4), "monmon::too_many");
}

#[test]
fn e6_odd_characters() {
    check(b"a \"\xff\"", "monmon::not_utf8");
    check(b"\xff\xfea\x00", "monmon::not_utf8");
    check("\u{feff}a", "codes={}");
    check("a \u{feff}", "monmon::forbidden_character");
    check("a\r\nb\rc\u{85}d\u{b}e\u{2028}f", "nodes=6");
    check("a\tb\u{3000}c", "nodes=1");
    check(filled("\0"), "monmon::forbidden_character");
    check(filled("\u{202e}"), "monmon::forbidden_character");
}

#[test]
fn long_pieces_take_no_more_than_their_length() {
    let long = filled("x").split_off(64);
    check(format!("a \"{long}\""), "codes={}");
    check(format!("a #\"{long}\"#"), "codes={}");
    check(format!("a {long}"), "codes={}");
    check(&long, "codes={}");
    check(format!("a \"\"\"\n{}\n\"\"\"", filled("x\n").split_off(64)), "codes={}");
    check(format!("a #\"\"\"\n{}\n\"\"\"#", filled("x\n").split_off(64)), "codes={}");
    check(format!("a \"{}\"", filled("\\\\").split_off(64)), "codes={}");
    check(format!("a \"{}\"", filled("\\u{41}").split_off(66)), "codes={}");
    check(format!("a {}", filled("9").split_off(64)), "monmon::bad_number");
    check(filled(" "), "nodes=0");
    check(filled("\n"), "nodes=0");
    check(filled("\\\n"), "nodes=0");
    check(filled("\\"), "monmon::bare_value");
    check(filled("#"), "monmon::bare_keyword");
    check(filled("//"), "nodes=0");
    check(format!("{}\"", filled("#").split_off(8)), "monmon::unterminated_string");
    check(filled("\"\"\"\n"), "problems=");
    check(filled("a \"\"\"\n b\n \"\"\"\n"), "monmon::too_many");
    check(filled("a{}"), "monmon::");
}

#[test]
fn e7_includes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let check = |entry: &str, code: &str| {
        let output = run_limited(&path(entry));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(code), "{entry}: expected {code}: {said}");
    };
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();

    write("self.kdl", "include \"self.kdl\"\n");
    check("self.kdl", "monmon::include_loop");
    write("one.kdl", "include \"./two.kdl\"\n");
    write("two.kdl", "include \"one.kdl\"\n");
    check("one.kdl", "monmon::include_loop");
    for level in 0..30 {
        let next = level + 1;
        write(&format!("diamond{level}.kdl"), &format!("include \"diamond{next}.kdl\"\n").repeat(2));
    }
    write("diamond30.kdl", "a\n");
    check("diamond20.kdl", "nodes=1 problems=0");
    check("diamond0.kdl", "monmon::too_deep");
    for file in 0..70 {
        write(&format!("part{file}.kdl"), "a\n");
    }
    write("many.kdl", &(0..70).map(|file| format!("include \"part{file}.kdl\"\n")).collect::<String>());
    check("many.kdl", "monmon::too_many");
    write(
        "folder.kdl",
        "include \".\"\ninclude \"/dev/zero\"\ninclude \"pipe.kdl\"\ninclude \"none\"\ninclude \"loop.kdl\"\n",
    );
    assert!(Command::new("mkfifo").arg(path("pipe.kdl")).status().unwrap().success());
    std::os::unix::fs::symlink("loop.kdl", path("loop.kdl")).unwrap();
    check("folder.kdl", "problems=5 codes={\"monmon::bad_include\", \"monmon::unreadable_file\"}");
    // What is shown of a broken file must be a pipeline's.
    write("shadow", "root:secret:\n");
    std::os::unix::fs::symlink("shadow", path("shadow.kdl")).unwrap();
    write("curious.kdl", "include \"shadow\"\ninclude \"shadow.kdl\"\n");
    check("curious.kdl", "problems=2 codes={\"monmon::bad_include\"}");
}
