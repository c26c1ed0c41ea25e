//! Every kind of stage there is. A new kind is one more line here.

use monmon_plan::{Catalogue, InlineKind};

pub static CATALOGUE: Catalogue = Catalogue {
    kinds: &[
        &monmon_http::SOURCE,
        &monmon_kafka::SOURCE,
        &monmon_sqlite::SOURCE,
        &monmon_postgres::SOURCE,
        &monmon_transforms::REGEX,
        &monmon_detect::DETECT,
        &monmon_wasm::WASM,
        &monmon_kafka::SINK,
        &monmon_postgres::SINK,
        &monmon_sqlite::SINK,
        &monmon_stdout::SINK,
        &monmon_webhook::SINK,
    ],
    inline_kinds: &[
        InlineKind { name: "match", stage: monmon_transforms::inline_stage },
        InlineKind { name: "wasm", stage: monmon_wasm::inline_stage },
    ],
};
