//! Checks of a pipeline file, with everything that the file says of them.

use std::collections::BTreeSet;

use monmon_plan::{PipelineSpec, StageEntry};
use monmon_stage::Section;
use monmon_syntax::{Spanned, did_you_mean};

use super::collect;

/// Leaves of a pipeline what the named checks pass through, and puts the sink of this command in the place of its own.
pub(super) fn only(mut spec: PipelineSpec, wanted: &[String]) -> Result<PipelineSpec, String> {
    let mut known = BTreeSet::new();
    let mut kept: BTreeSet<String> = BTreeSet::new();
    for stage in spec.stages.iter_mut().filter(|stage| stage.section == Section::Sources) {
        let names = stage.spec.keep_checks(&|name| wanted.iter().any(|wanted| wanted == name));
        if names.iter().any(|name| wanted.contains(name)) {
            kept.insert(stage.name.value.clone());
        }
        known.extend(names);
    }
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(*name)) {
        let near = did_you_mean(unknown, known.iter().map(String::as_str));
        let near = near.map(|near| format!("; {near}")).unwrap_or_default();
        return Err(format!("the file has no check named `{unknown}`{near}"));
    }
    name_inputs(&mut spec.stages);
    // As often as there are stages in a row, since the file may have them in any order.
    while let Some(next) = spec.stages.iter().find(|stage| looks_on(stage, &kept)) {
        kept.insert(next.name.value.clone());
    }
    spec.stages.retain(|stage| kept.contains(&stage.name.value));
    for stage in &mut spec.stages {
        stage.from.retain(|from| kept.contains(&from.value));
    }
    let fed: BTreeSet<String> =
        spec.stages.iter().flat_map(|stage| &stage.from).map(|from| from.value.clone()).collect();
    let ends: Vec<Spanned<String>> = spec
        .stages
        .iter()
        .map(|stage| stage.name.clone())
        .filter(|name| !fed.contains(&name.value))
        .collect();
    // A stage's name has no slash, so nothing else is called so.
    spec.stages.push(StageEntry {
        name: Spanned::new("probe/shown".to_owned(), spec.name.span),
        section: Section::Sinks,
        kind: &collect::SINK,
        kind_span: spec.name.span,
        from: ends,
        spec: collect::spec(),
    });
    Ok(spec)
}

/// Writes down what goes without saying, before stages go and other things would go without it.
fn name_inputs(stages: &mut [StageEntry]) {
    let givers: Vec<Spanned<String>> = stages
        .iter()
        .filter(|stage| stage.section != Section::Sinks)
        .map(|stage| stage.name.clone())
        .collect();
    for stage in stages.iter_mut().filter(|stage| stage.section != Section::Sources && stage.from.is_empty())
    {
        let mut others = givers.iter().filter(|giver| giver.value != stage.name.value);
        if let (Some(only), None) = (others.next(), others.next()) {
            stage.from.push(only.clone());
        }
    }
}

/// Whether a stage is one more that looks at the pages of what is kept.
fn looks_on(stage: &StageEntry, kept: &BTreeSet<String>) -> bool {
    stage.section == Section::Transforms
        && stage.spec.needs_page()
        && !kept.contains(&stage.name.value)
        && stage.from.iter().any(|from| kept.contains(&from.value))
}
