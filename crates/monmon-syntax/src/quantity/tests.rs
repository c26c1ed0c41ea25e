use super::*;

fn duration(text: &str) -> Result<Duration, Option<String>> {
    parse_duration(text).map_err(|error| error.mend)
}

#[test]
fn durations() {
    let good = [
        ("500ms", 500_000),
        ("30s", 30_000_000),
        ("1m30s", 90_000_000),
        ("2h", 7_200_000_000),
        ("90d", 7_776_000_000_000),
        ("1w", 604_800_000_000),
        ("1y1us", 31_536_000_000_001),
        ("0s", 0),
        ("90s", 90_000_000),
    ];
    for (text, micros) in good {
        assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
    }
    let mended = [
        ("30", "30s"),
        ("1m30", "1m30s"),
        ("1h30", "1h30m"),
        ("30 s", "30s"),
        ("30S", "30s"),
        ("5min", "5m"),
        ("2 hours", "2h"),
        ("1 day, 2 hours", "1d2h"),
        ("1.5s", "1s500ms"),
        ("30s1m", "1m30s"),
        ("1s1s", "2s"),
        ("10µs", "10us"),
        ("1_000ms", "1000ms"),
    ];
    for (text, mend) in mended {
        assert_eq!(duration(text), Err(Some(mend.to_owned())), "{text}");
    }
    for text in ["", "s", "-1s", "1x", "abc", "10e30d", "99999999999999999999s", "600000y", "1s ago", "١s"] {
        assert_eq!(duration(text), Err(None), "{text}");
    }
}

#[test]
fn durations_are_written_as_people_write_them() {
    let check = |seconds: u64, text: &str| assert_eq!(format_duration(Duration::from_secs(seconds)), text);
    check(0, "0s");
    check(90, "1m30s");
    check(3_600, "1h");
    check(90 * 86_400, "90d");
    check(5 * 365 * 86_400, "5y");
    check(366 * 86_400, "366d");
    assert_eq!(format_duration(Duration::from_micros(1_001_001)), "1s1ms1us");
}

#[test]
fn sizes() {
    let good =
        [("16MiB", 16 << 20), ("1GiB", 1 << 30), ("64KiB", 64 << 10), ("2MB", 2_000_000), ("100B", 100)];
    for (text, bytes) in
        good.into_iter().chain([("5KB", 5_000), ("5kB", 5_000), ("0B", 0), ("1TiB", 1 << 40)])
    {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    let mended = [
        ("5 MB", "5MB"),
        ("5mb", "5MB"),
        ("5M", "5MiB"),
        ("16", "16B"),
        ("1.5GiB", "1536MiB"),
        ("1,000 bytes", "1000B"),
        ("64kib", "64KiB"),
    ];
    for (text, mend) in mended {
        assert_eq!(parse_size(text).map_err(|error| error.mend), Err(Some(mend.to_owned())), "{text}");
    }
    for text in ["", "MB", "-1B", "99999999999999999999B", "99999999TiB", "5 parsecs", "1.2.3MB"] {
        assert_eq!(parse_size(text).map_err(|error| error.mend), Err(None), "{text}");
    }
}

#[test]
fn ranges() {
    let ranges = parse_ranges("200-299,304").expect("these are ranges");
    assert!(ranges.contains(200) && ranges.contains(299) && ranges.contains(304) && !ranges.contains(300));
    assert_eq!(ranges.to_string(), "200-299,304");
    let mended = [
        ("2xx", "200-299"),
        ("2XX, 304", "200-299,304"),
        ("299-200", "200-299"),
        ("200..299", "200-299"),
        ("200 - 299", "200-299"),
        ("200 204", "200,204"),
        ("200;204", "200,204"),
        ("200,", "200"),
    ];
    for (text, mend) in mended {
        assert_eq!(parse_ranges(text).map_err(|error| error.mend), Err(Some(mend.to_owned())), "{text}");
    }
    for text in ["", ",", "abc", "1-2-3", "70000", "-5"] {
        assert_eq!(parse_ranges(text).map_err(|error| error.mend), Err(None), "{text}");
    }
    assert!(parse_ranges(&["1"; 65].join(",")).is_err());
    assert!(parse_ranges(&["1"; 64].join(",")).is_ok());
}

#[test]
fn upper_bounds() {
    assert_eq!(parse_below("<2s"), Ok(Duration::from_secs(2)));
    for (text, mend) in [("2s", "<2s"), ("< 2s", "<2s"), ("<=2s", "<2s"), ("<2", "<2s"), ("2 sec", "<2s")] {
        assert_eq!(parse_below(text).map_err(|error| error.mend), Err(Some(mend.to_owned())), "{text}");
    }
    for text in ["", "<", ">2s", "<x", ">= 2s"] {
        assert_eq!(parse_below(text).map_err(|error| error.mend), Err(None), "{text}");
    }
}
