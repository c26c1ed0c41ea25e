//! Which test holds each of the 115 ways in which a site can go wrong, and which have none.

use monmon_testkit::Behaviour;

/// Where a row is held, with its exact kind and phase.
enum Held {
    /// By these behaviours of the hostile site: `every_hostile_behaviour_has_its_kind_and_phase`.
    Site(&'static [&'static str]),
    /// By these cases of frames as they are sent: `http2_of_every_bad_kind_has_its_kind_and_its_bound`.
    Frames(&'static [&'static str]),
    /// By a test of its own: file and name.
    Test(&'static str, &'static str),
    /// Not at all, and why.
    No(&'static str),
}

use Held::{Frames, No, Site, Test};

const NAMES: Held = Test("asking", "names_come_from_where_the_file_says");

const ROWS: &[(u8, &str, Held)] = &[
    (1, "NXDOMAIN", NAMES),
    (2, "SERVFAIL", NAMES),
    (3, "no answer", NAMES),
    (4, "no record", NAMES),
    (5, "CNAME loop", NAMES),
    (6, "1,000 addresses", NAMES),
    (7, "first address dead", NAMES),
    (8, "private address", Test("asking", "redirects_are_followed_as_far_as_they_may")),
    (9, "rebinding", Test("asking", "a_name_that_changes_its_mind_leads_nowhere_else")),
    (10, "refused", Site(&["connect-refused"])),
    (11, "blackhole", Site(&["connect-blackhole"])),
    (12, "unreachable", Test("failure", "what_the_kernel_says_of_a_connection_has_its_kind")),
    (13, "reset at accept", Site(&["accept-reset"])),
    (14, "accept, then close", Site(&["accept-close"])),
    (15, "accept, then silence", Site(&["accept-silence"])),
    (16, "backlog full", Site(&["connect-blackhole"])),
    (17, "expired", Site(&["tls-expired"])),
    (18, "not yet valid", Site(&["tls-not-yet-valid"])),
    (19, "self-signed", Site(&["tls-self-signed"])),
    (20, "wrong host", Site(&["tls-wrong-name"])),
    (21, "missing intermediate", Site(&["tls-missing-intermediate"])),
    (
        22,
        "SHA-1, RSA-1024",
        No("no library here signs with either; the kind is tried from rustls's own errors"),
    ),
    (23, "TLS 1.0 only", Site(&["tls-old", "tls-version-alert"])),
    (24, "no shared cipher", Site(&["tls-alert"])),
    (25, "alert handshake_failure", Site(&["tls-alert"])),
    (26, "handshake hangs", Site(&["tls-hang"])),
    (27, "handshake drips", Site(&["tls-drip"])),
    (28, "close in the handshake", Site(&["tls-close", "tls-reset"])),
    (29, "plain text on a TLS port", Site(&["tls-plaintext"])),
    (30, "TLS on a plain port", Site(&["tls-asked-plainly"])),
    (31, "10,000 names", Site(&["tls-many-names"])),
    (32, "client certificate demanded", Site(&["tls-client-certificate"])),
    (33, "unknown server name", Test("asking", "certificates_of_both_sides")),
    (34, "revoked", No("revocation is not checked, and the docs say so")),
    (35, "no close_notify", Site(&["tls-no-close-notify", "tls-truncated"])),
    (36, "chain out of order", Site(&["tls-chain-out-of-order"])),
    (37, "ends in three days", Test("asking", "a_certificate_that_ends_soon_is_degraded")),
    (38, "another protocol than was agreed on", Test("h2_tests", "http2_failures_have_their_kinds")),
    (39, "SSH banner", Site(&["ssh-banner"])),
    (40, "HTTP/0.9", Site(&["http-0.9"])),
    (41, "HTTP/2.0 line", Site(&["version-two-line"])),
    (42, "status 99, 1000", Site(&["status-99", "status-1000"])),
    (43, "status 999", Site(&["status-999"])),
    (44, "line feeds only", Site(&["line-feed-only"])),
    (45, "folded header", Site(&["folded-header"])),
    (46, "space before the colon", Site(&["space-before-colon"])),
    (47, "NUL in a header", Site(&["nul-in-header"])),
    (48, "0xFF in a header", Site(&["high-byte-in-header"])),
    (49, "too many headers", Site(&["headers-257"])),
    (50, "endless headers", Site(&["endless-headers"])),
    (51, "endless value", Site(&["endless-header-value"])),
    (52, "endless reason", Site(&["endless-reason"])),
    (53, "head drips", Site(&["head-drip"])),
    (54, "endless 100, 103", Site(&["endless-100", "endless-103"])),
    (55, "only 100", Site(&["only-100"])),
    (56, "101 unasked", Site(&["switching-unasked"])),
    (57, "reply before the request", Site(&["reply-first"])),
    (58, "reset after the request", Site(&["request-reset"])),
    (59, "two lengths", Site(&["lengths-differ"])),
    (60, "length of -1, and too large for a number", Site(&["length-negative", "length-overflow"])),
    (61, "length of 2^64 - 1", Site(&["length-huge"])),
    (62, "one length twice", Site(&["length-twice"])),
    (63, "length and chunks", Site(&["length-and-chunked"])),
    (64, "unknown transfer coding", Site(&["unknown-transfer-coding"])),
    (65, "two replies", Site(&["two-replies"])),
    (66, "short body", Site(&["body-short"])),
    (67, "reset in the body", Site(&["body-reset"])),
    (68, "reset after the body", Site(&["reset-after-end"])),
    (69, "bad chunk size", Site(&["bad-chunk-size"])),
    (70, "chunk size too large for a number", Site(&["chunk-overflow"])),
    (71, "no last chunk", Site(&["no-last-chunk"])),
    (72, "chunk extensions", Site(&["chunk-extension-flood"])),
    (73, "trailers", Site(&["trailer-flood"])),
    (74, "body drips", Site(&["body-drip"])),
    (75, "endless body", Site(&["body-endless", "body-oversize"])),
    (76, "gzip bomb", Site(&["gzip-bomb"])),
    (77, "corrupt gzip", Site(&["gzip-corrupt"])),
    (78, "cut coding", Site(&["gzip-cut", "not-gzip", "not-brotli", "not-zstd"])),
    (79, "unknown coding, coded twice", Site(&["unknown-encoding", "gzip-twice"])),
    (80, "204 with a body", Site(&["no-content-with-body"])),
    (81, "bytes after the end", Site(&["bytes-after-end"])),
    (82, "no UTF-8, NUL", Site(&["bad-utf-8", "nul-in-body"])),
    (83, "stall at the last byte", Site(&["body-stall-at-last", "body-stall"])),
    (84, "slow close", Site(&["slow-close"])),
    (85, "body to the end", Site(&["close-delimited"])),
    (86, "redirect loop", Site(&["redirect-loop"])),
    (87, "long chain", Site(&["redirect-fifty", "redirect-five"])),
    (88, "to file:", Site(&["redirect-file"])),
    (89, "to ftp:", Site(&["redirect-ftp"])),
    (90, "bad or no Location", Site(&["redirect-bad-location", "redirect-no-location"])),
    (91, "redirect with an endless body", Site(&["redirect-endless-body"])),
    (92, "to another origin", Site(&["redirect-other-origin"])),
    (93, "https to http", Test("asking", "from_https_to_http_is_another_origin")),
    (94, "to a metadata address", Test("asking", "a_redirect_leads_out_of_its_zone_only_where_it_may")),
    (95, "relative and odd Locations", Site(&["redirect-relative"])),
    (96, "methods", Test("request", "methods")),
    (97, "REFUSED_STREAM, GOAWAY", Frames(&["goaway at once"])),
    (98, "GOAWAY with an error", Frames(&["goaway with an error"])),
    (99, "GOAWAY in the body", Frames(&["goaway in the body"])),
    (100, "reset in the body", Frames(&["reset in the body"])),
    (101, "SETTINGS, PING", Frames(&["ping flood"])),
    (102, "WINDOW_UPDATE, unknown frames", Frames(&["window flood", "unknown frames"])),
    (103, "interim replies", Frames(&["103 flood"])),
    (104, "CONTINUATION", Frames(&["continuation flood"])),
    (105, "empty DATA", Frames(&["empty data flood"])),
    (106, "HPACK bomb", Frames(&["hpack bomb"])),
    (107, "large headers", Frames(&["80 KiB of headers"])),
    (108, "frame too large", Frames(&["a frame too large"])),
    (109, "window overflow", Frames(&["a window that overflows"])),
    (110, "PUSH", Frames(&["a push"])),
    (111, "no :status", Frames(&["no status"])),
    (112, "header in capitals", Frames(&["a header in capitals"])),
    (113, "length that is not kept", Frames(&["a length that is not kept"])),
    (114, "HTTP/1 reply", Test("h2_tests", "http2_failures_have_their_kinds")),
    (115, "head, then silence", Frames(&["a head, then silence"])),
];

#[test]
fn nearly_every_fault_of_a_site_has_its_test() {
    let text = |file: &str| match file {
        "asking" => include_str!("../../tests/asking.rs"),
        "failure" => include_str!("failure.rs"),
        "h2_tests" => include_str!("h2_tests.rs"),
        "request" => include_str!("request.rs"),
        other => panic!("{other} is no file of tests"),
    };
    let mut held = 0;
    for (at, (number, what, by)) in (1..).zip(ROWS) {
        assert_eq!(*number, at, "{what}");
        let found = match by {
            Site(names) => {
                names.iter().all(|name| Behaviour::ALL.iter().any(|behaviour| behaviour.name() == *name))
            }
            Frames(names) => names.iter().all(|name| text("h2_tests").contains(&format!("\"{name}\","))),
            Test(file, name) => text(file).contains(&format!("fn {name}()")),
            No(why) => why.is_empty(),
        };
        assert!(found || matches!(by, No(_)), "{number} {what}: its test is gone");
        held += usize::from(found);
    }
    assert_eq!((ROWS.len(), held), (115, 113));
}
