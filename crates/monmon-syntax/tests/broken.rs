//! What is said of broken files. Each is a snapshot: the file's text, then the report.

mod catalogue;

fn check(name: &str, text: &str) {
    let report = catalogue::shown(&[("pipeline.kdl", text.as_bytes())]);
    insta::with_settings!({ snapshot_suffix => name, description => text, omit_expression => true }, {
        insta::assert_snapshot!("broken", report);
    });
}

macro_rules! cases {
    ($($name:ident $text:expr;)*) => {
        $(#[test] fn $name() { check(stringify!($name), $text); })*
    };
}

cases! {
    bare_duration "sources {\n    http \"sites\" interval=30s timeout=10s\n}\n";
    stray_equals "sources {\n    http \"sites\" {\n        interval = \"30s\"\n        timeout=10s\n    }\n}\n";
    bare_keyword "sources {\n    http \"sites\" reuse=true\n    http \"more\" reuse=yes body=null\n}\n";
    unterminated_string "sources {\n    http \"sites {\n        check \"a\" \"https://a.example/\"\n    }\n}\n";
    unterminated_in_the_middle "sources {\n    http \"sites\" {\n        check \"a https://a.example/\" interval=\"1m\"\n        check \"b\" \"https://b.example/\" intervall=\"1m\"\n    }\n}\n";
    unterminated_multi_line "pipeline \"x\"\nsources {\n    http \"\"\"\n      abc\n}\n";
    old_raw_string "sources { http \"s\" { check \"a\" \"https://a.example/\" { match \"v\" r\"\\d+\"; match \"w\" r#\"a\"b\"#; }; }; }\n";
    touching "sources {\n    http \"a\"\"b\"\n    http \"c\",\"d\"\n}\n";
    regex_escape "sources {\n    http \"s\" {\n        check \"a\" \"https://a.example/\" {\n            match \"v\" \"version \\d+\"\n        }\n    }\n}\n";
    unquoted_url "sources {\n    http \"s\" {\n        check \"docs\" https://docs.example.org/a?b=c {\n            expect status=200-299\n        }\n    }\n}\n";
    missing_value "sources {\n    http \"s\" interval= timeout=\"1s\"\n    http \"t\" interval=\n}\n";
    stray_brace "sources {\n    http \"s\"\n}\n}\nsinks {\n    kafka \"k\" brokers=\"b\" topic=\"t\"\n}\n";
    unclosed_block "sources {\n    http \"s\" {\n        check \"a\" \"https://a.example/\"\n\nsinks {\n    kafka \"k\" brokers=\"b\" topic=\"t\"\n}\n";
    unclosed_inner "sources {\n    http \"s\" {\n        check \"a\" \"https://a.example/\"\n}\nsinks {\n    kafka \"k\" brokers=\"b\" topic=\"t\"\n}\n";
    unclosed_without_indentation "sources {\nhttp \"s\" {\ncheck \"a\" \"https://a.example/\"\ncheck \"b\" \"https://b.example/\"\n}\n";
    brace_on_its_own_line "sources\n{\n    http \"s\"\n    {\n        check \"a\" \"https://a.example/\" intervall=\"1m\"\n    }\n}\n";
    block_without_a_name "sources {\n    { http \"s\"; }\n}\n";
    comment_never_closed "pipeline \"x\"\n/* sources {\n    http \"s\"\n}\n";
    two_nodes_on_a_line "sources { http \"s\" } sinks { kafka \"k\" brokers=\"b\" topic=\"t\"; }\n";
    foreign_quotes "sources {\n    http 'sites'\n    http “more sites” interval='30s'\n}\n";
    lists "sources {\n    http \"s\" address=[\"ipv4\", \"ipv6\"]\n}\n";
    env_written_otherwise "sinks {\n    kafka \"k\" brokers=env(\"BROKERS\") topic=${TOPIC}\n    kafka \"l\" brokers=(evn)\"B\" topic=(env)\"T\"\n    kafka \"m\" (env)brokers=\"B\" topic=( )\"T\"\n}\n";
    numbers "sources {\n    http \"s\" concurrency=1_0x interval=.5 timeout=99999999999999999999999999999999999999999\n}\n";
    unknown_names "sources {\n    http \"s\" intervall=\"30s\" Timeout=\"1s\" {\n        chekc \"a\" \"https://a.example/\"\n        check \"b\" \"https://b.example/\" expect=\"200\"\n    }\n    htpp \"t\"\n}\nsnks { }\n";
    missing "sources {\n    http\n    kafka \"k\" topic=\"t\"\n    http \"s\" { check \"a\"; }\n    wasm { }\n}\n";
    units "sources {\n    http \"s\" interval=30 timeout=1.5 body=16\n    http \"t\" interval=\"30\" timeout=\"1m30\" body=\"5 MB\"\n    http \"u\" interval=\"30sec\" timeout=\"30s1m\" body=\"1.5GiB\"\n}\n";
    out_of_range "sources {\n    http \"s\" interval=\"0s\" timeout=\"2d\" body=\"1GiB\" concurrency=0\n    http \"t\" interval=\"999999999999999999999y\" concurrency=100000000000000000000\n}\n";
    wrong_types "sources {\n    http \"s\" interval=#true reuse=\"yes\" concurrency=\"12\" body=#nan address=\"ipv5\"\n    http 12 reuse=1 address=#null\n}\n";
    expectations "sources {\n    http \"s\" {\n        check \"a\" \"https://a.example/\" { expect status=\"2xx\" time=\"2s\"; }\n        check \"b\" \"https://b.example/\" { expect status=\"299-200\" time=\"> 1s\"; }\n        check \"c\" \"https://c.example/\" { expect status=\"200, 304\" time=2; expect; }\n        check \"d\" \"https://d.example/\" { expect status=\"42\" time=\"<2\"; }\n    }\n}\n";
    repeated "sources {\n    http \"s\" interval=\"1m\" interval=\"2m\" {\n        interval \"3m\"\n        check \"a\" \"https://a.example/\" { label team=\"x\" team=\"y\"; }\n    }\n}\n";
    arguments "sources {\n    http \"s\" \"t\" {\n        timeout\n        body \"1MiB\" \"2MiB\"\n        reuse #true { x; }\n        (env)address \"any\"\n    }\n}\n(x)pipeline \"p\" \"q\" { r; }\n";
    urls "sources {\n    http \"s\" {\n        check \"a\" \"a.example\"\n        check \"b\" \"ftp://b.example/\"\n        check \"c\" \"https://\"\n        check \"d\" \"https://d.example:99999/\"\n        check \"e\" \"https://user:hunter2@e.example/a b\"\n        check \"f\" \"https://[::1%25lo]/\"\n    }\n}\n";
    urls_nearly_right "sources {\n    http \"s\" {\n        check \"a\" \"htp:/x\"\n        check \"b\" \"http//x\"\n        check \"c\" \"example.com\"\n        check \"d\" \"localhost:8080/x\"\n        check \"e\" \"//x\"\n        check \"f\" \" http://x\"\n        check \"g\" \"htp://user:hunter2@x/\"\n        check \"h\" \"\u{200b}http://x\"\n    }\n}\n";
    late_where_it_cannot_be "sources {\n    http \"s\" interval=(env)\"I\" reuse=(file)\"r\"\n}\nsinks { kafka (env)\"K\" topic=\"t\" brokers=(env)\"1 B\"; }\n";
    names "sources {\n    http \"\" { check \" a\" \"https://a.example/\"; check \"b\\u{202e}c\" \"https://b.example/\"; }\n}\nsinks { kafka \"k\" brokers=\"a\\u{0}b\" topic=\"t\"; }\n";
    empty_pattern "sources {\n    http \"s\" { check \"a\" \"https://a.example/\" { match \"m\" \"\"; match \"n\" 5; }; }\n}\n";
    forbidden_characters "pipeline \"a\u{1b}[31mb\"\n// \u{202e}gnihtyreve\u{202c}\nsources { http \"s\u{0}\"; }\n";
    secrets_stay_hidden "sinks {\n    kafka \"k\" password=\"hunter2\" brokerz=\"b\" url=\"postgres://me:hunter3@h/\" topic=\"t\"\n    kafka \"l\" password=5 url=\"postgres://me:hunter4@\"\n}\n";
    five_mistakes "sources {\n    http \"sites\" interval=30s {\n        check \"a\" \"a.example\"\n        check \"b\" \"https://b.example/\" { expect status=\"2xx\"; matches \"x\"; }\n    }\n}\nsinks {\n    kafka \"k\" brokers=\"b\"\n}\n";
    slashdash_and_friends "sources {\n    /- http \"s\" interval=30s { nothing; }\n    /-\n}\n/- /- sinks\n;\npipeline \"p\" \\ \"q\"\n";
    multi_line_indent "sinks {\n    kafka \"\"\"\n        abc\n      def\n        \"\"\" topic=\"\"\"x\"\"\" brokers=#\"\"\"\n        b\"\"\"#\n}\n";
    raw_string_hashes "sources {\n    http #\"s\" interval=##\"30s\"# timeout=#\"\"\"#\n    http \"t\" address=#ipv4 reuse=#ture\n}\n";
    escapes "sources {\n    http \"C:\\new\\u{110000}\"\n    http \"t\" address=\"any\\\n}\n";
}

#[test]
fn a_mistake_in_an_included_file_points_into_that_file() {
    let report = catalogue::shown(&[
        (
            "main.kdl",
            b"include \"parts/sources.kdl\"\ninclude \"parts/none.kdl\"\ninclude\ninclude \"bad.kdl\"\n",
        ),
        ("parts/sources.kdl", b"sources {\n    http \"s\" interval=\"30\"\n}\ninclude \"../main.kdl\"\n"),
        ("bad.kdl", b"pipeline \"\xff\"\n"),
    ]);
    insta::assert_snapshot!(report);
}
