//! Every kind of stage there is. A new kind is one more line here.

use monmon_plan::Catalogue;

pub static CATALOGUE: Catalogue = Catalogue {
    kinds: &[
        &monmon_http::SOURCE,
        &monmon_kafka::SOURCE,
        &monmon_transforms::REGEX,
        &monmon_kafka::SINK,
        &monmon_postgres::SINK,
        &monmon_sqlite::SINK,
        &monmon_stdout::SINK,
    ],
    inline_matcher: monmon_transforms::inline_stage,
};
