//! `monmon probe` as its users run it.

mod support;

use monmon_model::{Outcome, wire};
use monmon_testkit::{Answer, Site, Tls};
use support::Place;

#[test]
fn one_check_now_and_its_outcome_is_the_exit_code() {
    let place = Place::new();
    let tls = Tls::new("an authority").expect("an authority");
    let files = tls.write(place.folder.path(), "monmon").expect("files");
    let (plain, secure) = (Site::start().expect("a site"), Site::start_tls(&tls).expect("a site"));
    plain.set("/", Answer::redirect(&secure.url("/page")));
    secure.set("/page", Answer::html("Title \u{1b}[31m", 2_000).header("x-own", "1"));
    let ca = files.ca.to_str().expect("a path");
    let url = plain.url("/");
    let run = |words: &[&str]| {
        let output = place.output(&[&["probe"], words].concat());
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        (output.status.code(), text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text, log) = run(&[&url, "--ca", ca, "-m", "<title>(?<title>[^<]*)"]);
    assert_eq!(code, Some(0), "{text}{log}");
    for expected in
        ["  UP  200  ", "302 http://", "  tls ", "transfer", "days left", "match 1: passed", "title = Title"]
    {
        assert!(text.contains(expected), "`{expected}` in {text}");
    }
    assert!(!text.contains('\u{1b}'), "what a site says is no command to the terminal: {text:?}");

    let (code, text, _) = run(&[&url]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("DOWN") && text.contains("tls_untrusted (tls)"), "{text}");

    let gone = format!("http://{}/", Site::start().expect("a site").addr());
    let (code, text, _) = run(&[&url, &gone, "--ca", ca, "--format", "json"]);
    assert_eq!(code, Some(1));
    let read: Vec<_> =
        text.lines().map(|line| wire::decode(line.as_bytes()).expect("a measurement")).collect();
    assert_eq!(read.iter().map(|one| one.outcome).collect::<Vec<_>>(), [Outcome::Up, Outcome::Down]);
    assert_eq!((read[0].redirects.len(), read[1].check.url.as_str()), (1, gone.as_str()));

    // The prober's own trouble is no verdict on the site.
    let (code, text, _) = run(&[&url, "--ca", ca, "-x", gone.trim_end_matches('/')]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("UNKNOWN") && text.contains("proxy_failed"), "{text}");

    // What cannot be asked is told with its place.
    let (code, _, log) = run(&[&url, "--ask", "expect tine=\"<1s\""]);
    assert_eq!(code, Some(2));
    assert!(log.contains("tine") && log.contains("time"), "{log}");
    let (code, _, log) = run(&["ftp://example.org/"]);
    assert_eq!(code, Some(2));
    assert!(log.contains("ftp"), "{log}");
}

#[test]
fn a_check_of_a_pipeline_file_is_asked_as_the_file_says() {
    let place = Place::new();
    let site = Site::start().expect("a site");
    site.set("/", Answer::html("home", 2_000));
    site.set("/other", Answer::status(500));
    let file = place.folder.path().join("p.kdl");
    let text = format!(
        r##"pipeline "p"
        sources {{
            http "sites" {{
                retry attempts=3 wait="10ms"
                check "home" "{0}" {{
                    header "x-key" (env)"MONMON_TEST_ANY_KEY"
                    match "nowhere" "not on this page"
                }}
                check "other" "{1}" {{ header "x-key" (env)"MONMON_TEST_UNSET" }}
            }}
            http "more" {{ check "third" "{1}" }}
        }}
        transforms {{
            regex "titles" from="sites" {{ match "title" #"<title>(?<title>[^<]*)"# }}
            regex "unlike" from="more" {{ match "any" "x" }}
        }}
        sinks {{ sqlite "store" from="titles,unlike" path="p.db" }}"##,
        site.url("/"),
        site.url("/other"),
    );
    std::fs::write(&file, text).expect("a file");
    let file = file.to_str().expect("a path");
    let run = |name: &str| {
        let words = ["probe", "--file", file, name, "--format", "json"];
        let output =
            place.monmon(&words).env("MONMON_TEST_ANY_KEY", "k").output().expect("the program starts");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("UTF-8"),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, text, log) = run("home");
    assert_eq!(code, Some(1), "{text}{log}");
    let read: Vec<_> =
        text.lines().map(|line| wire::decode(line.as_bytes()).expect("a measurement")).collect();
    // What a matcher inside the check finds has the slot tried again, as often as the file says.
    assert_eq!(read.iter().map(|one| one.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    for one in &read {
        assert_eq!((one.check.name.as_str(), one.outcome), ("home", Outcome::Down));
        let found: Vec<&str> = one.matches.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(found, ["nowhere", "title"]);
        assert_eq!(one.matches[1].values["title"], "home");
    }
    assert!(site.hits().iter().all(|hit| hit.header("x-key") == Some("k")));
    assert_eq!(site.hits_of("/other").len(), 0, "nobody asked for the others");
    assert!(!place.folder.path().join("p.db").exists(), "nothing is stored");

    let (code, _, log) = run("hone");
    assert_eq!(code, Some(2));
    assert!(log.contains("no check named `hone`; did you mean `home`?"), "{log}");
}
