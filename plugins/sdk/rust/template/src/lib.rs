//! Looks for words in the body of a page.

use monmon_matcher::serde::Deserialize;
use monmon_matcher::{Description, Matcher, Parameter, Response, Verdict};

struct Words(Vec<String>);

/// What `config { }` in the pipeline file gives.
#[derive(Deserialize)]
#[serde(crate = "monmon_matcher::serde")]
struct Config {
    words: Vec<String>,
}

impl Matcher for Words {
    type Config = Config;

    fn describe() -> Description {
        Description::new("plugin-name", env!("CARGO_PKG_VERSION"), "looks for words in the body")
            .needs_body()
            .parameter(Parameter::text("words", "words that the body must have").many().required())
    }

    fn new(config: Config) -> Result<Words, String> {
        Ok(Words(config.words))
    }

    fn check(&mut self, response: &Response) -> Result<Verdict, String> {
        let text = response.text();
        let missing: Vec<&str> =
            self.0.iter().map(String::as_str).filter(|word| !text.contains(word)).collect();
        let verdict = Verdict::new(missing.is_empty()).metric("size", response.body.len() as f64, "bytes");
        Ok(match missing.first() {
            Some(word) => verdict.message(format!("`{word}` is missing")),
            None => verdict,
        })
    }
}

monmon_matcher::export!(Words);
