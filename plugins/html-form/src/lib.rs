//! A form with the given fields is there, and it posts to the page's own origin: what a login page must have that was
//! neither broken by a release nor rewritten by someone else.

mod forms;
mod origin;

use monmon_matcher::serde::Deserialize;
use monmon_matcher::{Description, Matcher, Parameter, Response, Verdict};

use forms::{Form, forms};
use origin::is_same_origin;

struct HtmlForm(Config);

#[derive(Deserialize)]
#[serde(crate = "monmon_matcher::serde", rename_all = "kebab-case")]
struct Config {
    require: Vec<String>,
    #[serde(default = "post")]
    method: String,
    #[serde(default = "yes")]
    same_origin: bool,
}

fn post() -> String {
    "post".to_owned()
}

fn yes() -> bool {
    true
}

impl Matcher for HtmlForm {
    type Config = Config;

    fn describe() -> Description {
        Description::new(
            "html-form",
            env!("CARGO_PKG_VERSION"),
            "a form with the given fields is there and posts to the page's own origin",
        )
        .needs_body()
        .parameter(Parameter::text("require", "names of the fields that the form must have").many().required())
        .parameter(
            Parameter::text("method", "the form's method").one_of(&["get", "post", "any"]).default("post"),
        )
        .parameter(
            Parameter::boolean("same-origin", "the form's action stays on the page's origin").default("#true"),
        )
    }

    fn new(config: Config) -> Result<HtmlForm, String> {
        if config.require.is_empty() {
            return Err("`require` names no field".to_owned());
        }
        Ok(HtmlForm(config))
    }

    fn check(&mut self, response: &Response) -> Result<Verdict, String> {
        let page = forms(&response.body);
        let missing = |form: &Form| -> Vec<String> {
            self.0.require.iter().filter(|name| !form.fields.contains(*name)).cloned().collect()
        };
        // The form that comes nearest is the one to talk about.
        let Some(form) = page.forms.iter().min_by_key(|form| missing(form).len()) else {
            return not_there(response, "there is no form");
        };
        let missing = missing(form);
        if !missing.is_empty() {
            return not_there(response, &format!("no form has the fields {}", missing.join(", ")));
        }
        let said = |matched: bool| {
            Verdict::new(matched)
                .value("action", form.action.clone())
                .value("method", form.method.clone())
                .metric("forms", page.forms.len() as f64, "")
        };
        if self.0.method != "any" && form.method != self.0.method {
            return Ok(said(false).message(format!("the form's method is {}", form.method)));
        }
        // A base that stays on the origin has no effect on where its links lead, as far as origins go.
        let base = page.base.as_deref().unwrap_or_default();
        let links = [base, &form.action].into_iter().chain(form.elsewhere.iter().map(String::as_str));
        let leaves = links.into_iter().find(|link| !is_same_origin(&response.url, link));
        match leaves.filter(|_| self.0.same_origin) {
            Some(link) => Ok(said(false).message("the form posts to another origin").value("posts-to", link)),
            None => Ok(said(true)),
        }
    }
}

/// In a page that was cut off it may stand in the rest.
fn not_there(response: &Response, why: &str) -> Result<Verdict, String> {
    if response.body_truncated {
        return Err(format!("{why}, but the page was cut off"));
    }
    Ok(Verdict::new(false).message(why))
}

monmon_matcher::export!(HtmlForm);
