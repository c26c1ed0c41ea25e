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
