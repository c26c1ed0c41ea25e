//! All kinds of stages that a pipeline file can name: plain lists, which the binary writes down.

use monmon_stage::matching::InlineMatch;
use monmon_stage::{Section, StageKind, StageSpec};
use monmon_syntax::Problems;

/// The kinds by section, and the stage that runs matchers written inside checks.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue {
    pub kinds: &'static [&'static StageKind],
    /// Makes the stage that stands right behind a source with inline matches; the first argument is the source's name.
    pub inline_matcher: fn(&str, Vec<InlineMatch>, &mut Problems) -> Box<dyn StageSpec>,
}

impl Catalogue {
    pub fn kind(&self, section: Section, name: &str) -> Option<&'static StageKind> {
        self.of(section).find(|kind| kind.spec.name == name)
    }

    pub fn of(&self, section: Section) -> impl Iterator<Item = &'static StageKind> {
        self.kinds.iter().copied().filter(move |kind| kind.section == section)
    }
}
