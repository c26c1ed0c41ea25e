use super::*;
use crate::audit::Era;

fn service(check: &str, up: u64, down: u64, known: u64, due: u64) -> Service {
    Service {
        check_id: Uuid::from_u128(7),
        pipeline: "shop".to_owned(),
        source: "sites".to_owned(),
        check: check.to_owned(),
        labels: Labels::default(),
        probers: vec!["berlin".to_owned()],
        eras: vec![Era {
            interval_us: 60_000_000,
            slots_due: due,
            slots_known: known,
            up,
            down,
            ..Era::default()
        }],
        is_measured: known > 0,
        missing: 0,
        died: 0,
        latency_us: [Some(1_500.0), Some(12_000.0), Some(20_000.0), None],
        incidents: vec![Incident {
            began_at: "2026-10-03T10:00:00Z".parse().ok(),
            recovered_at: "2026-10-03T10:20:00Z".parse().ok(),
            reason: "<i>refused</i>".to_owned(),
        }],
    }
}

fn page(checks: &[(&str, u64, u64, u64, u64)]) -> Sla {
    let checks: Vec<Line> = checks
        .iter()
        .map(|(name, up, down, known, due)| line(service(name, *up, *down, *known, *due), 99.9))
        .collect();
    let count = |met| checks.iter().filter(|line| line.met == met).count() as u64;
    Sla {
        version: 1,
        title: "<script>alert(1)</script> & Söhne".to_owned(),
        since: "2026-10-01T00:00:00Z".parse().ok(),
        until: "2026-11-01T00:00:00Z".parse().ok(),
        made_at: "2026-11-01T08:00:00Z".parse().unwrap(),
        sla: 99.9,
        labels: BTreeMap::from([("team".to_owned(), "\"docs\"".to_owned())]),
        audit: Audit { verdict: Verdict::Proven, text: "PROVEN: every slot".to_owned() },
        dropped_before: None,
        is_summed: false,
        met: count(Some(true)),
        missed: count(Some(false)),
        not_known: count(None),
        checks,
    }
}

#[test]
fn unknown_is_no_downtime_and_the_budget_is_of_all_the_time_due() {
    let month = 31 * 24 * 60;
    let sla = page(&[
        ("clean", month, 0, month, month),
        ("half seen", month / 2 - 22, 22, month / 2, month),
        ("missed", month - 100, 100, month, month),
        ("never seen", 0, 0, 0, month),
    ]);
    insta::assert_snapshot!(text::text(&sla), @r##"
    <script>alert(1)</script> & Söhne
    2026-10-01 00:00 UTC to 2026-11-01 00:00 UTC
    promised: 99.9 %; kept by 2 checks, missed by 1, not known of 1
    audit: PROVEN: every slot

     CHECK                  KEPT     UPTIME   COVERAGE         DOWN  BUDGET USED  INCIDENTS      P50    P95  P99 
     shop/sites/clean       yes   100.000 %  100.000 %          0 s          0 %          1  1.50 ms  20 ms    - 
     shop/sites/half seen   yes    99.901 %   50.000 %  22 min 00 s         49 %          1  1.50 ms  20 ms    - 
     shop/sites/missed      NO     99.775 %  100.000 %   1 h 40 min        224 %          1  1.50 ms  20 ms    - 
     shop/sites/never seen  ?             -    0.000 %          0 s          0 %          1  1.50 ms  20 ms    - 

    never seen: not measured in this window
    "##);
    assert!(html::html(&sla).contains("<small>not measured in this window</small>"));
    let json = serde_json::to_value(&sla).unwrap();
    let not_measured = |check: usize| json["checks"][check]["not_measured"].as_bool();
    assert_eq!((not_measured(0), not_measured(3)), (None, Some(true)));
}

#[test]
fn nothing_of_a_name_is_markup() {
    let sla = page(&[("</td><img src=x onerror=alert(1)>'\"\u{202e}", 1, 0, 1, 1)]);
    let html = html::html(&sla);
    assert!(html.contains("20 min 00 s") && html.contains("&lt;i&gt;refused"), "{html}");
    assert!(!html.contains("<script") && !html.contains("<img") && !html.contains('\u{202e}'), "{html}");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; Söhne"));
    assert!(html.contains("default-src 'none'"));
    assert!(!html.contains(" style=") && !html.contains("http://") && !html.contains("https://"));
}

#[test]
fn what_was_promised_exactly_is_kept() {
    for (down, decided, sla, kept) in [
        (1, 1_000, 99.9, true),
        (2, 1_000, 99.9, false),
        (1, 999, 99.9, false),
        (5, 100, 95.0, true),
        (3, 1_000_000, 99.9997, true),
        (4, 1_000_000, 99.9997, false),
        (0, 1, 100.0, true),
        (1, 100_000_000, 100.0, false),
    ] {
        assert_eq!(is_kept(f64::from(down), f64::from(decided), sla), kept, "{down} of {decided} at {sla}");
    }
}

#[test]
fn maintenance_is_told_apart_and_days_without_measurements_are_told() {
    let mut service = service("shop", 950, 50, 1_000, 1_000);
    (service.eras[0].maintenance_up, service.eras[0].maintenance_down) = (10, 45);
    let mut sla = page(&[]);
    sla.checks = vec![line(service, 99.0)];
    sla.dropped_before = "2026-10-11T00:00:00Z".parse().ok();
    let told = text::text(&sla);
    assert!(
        told.contains(
            "\nmeasurements of before 2026-10-11 00:00 UTC are no longer kept and are not in this report\n"
        ),
        "{told}"
    );
    assert!(
        told.ends_with(
            "\nshop: 55 measurements in maintenance, 45 of them down; uptime without them 99.470 %\n"
        ),
        "{told}"
    );
    sla.is_summed = true;
    assert!(text::text(&sla).contains("told by their sums, in whole hours"));
    assert!(html::html(&sla).contains("<small>55 measurements in maintenance"));
}

/// Twenty days at five minutes, all up; ten days at thirty seconds, of which one was down.
#[test]
fn each_interval_weighs_by_its_time() {
    let mut service = service("shop", 5_760, 0, 5_760, 5_760);
    service.eras[0].interval_us = 300_000_000;
    let (slots_due, slots_known) = (28_800, 28_800);
    let (up, down) = (25_920, 2_880);
    service.eras.push(Era { interval_us: 30_000_000, slots_due, slots_known, up, down, ..Era::default() });
    let line = line(service.clone(), 96.0);
    assert_eq!(shown_share(line.uptime.unwrap()), "96.666 %");
    assert_eq!((line.downtime_s, line.met), (86_400.0, Some(true)));
    assert_eq!((line.slots_due, line.budget_s.round()), (34_560, 103_680.0));
    service.eras[0] = Era { slots_known: 0, up: 0, ..service.eras[0].clone() };
    assert_eq!(shown_share(super::line(service, 96.0).coverage), "33.333 %");
}
