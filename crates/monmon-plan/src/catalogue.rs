//! All kinds of stages that a pipeline file can name: plain lists, which the binary writes down.

use monmon_stage::matching::InlineMatch;
use monmon_stage::{Section, StageKind, StageSpec};
use monmon_syntax::{FileLoader, Problems};

/// The kinds by section, and the stage that runs matchers written inside checks.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue {
    pub kinds: &'static [&'static StageKind],
    /// For matches that stand inside checks: they become stages right behind their source, in this order.
    pub inline_kinds: &'static [InlineKind],
}

/// A kind of match that can stand inside a check.
#[derive(Clone, Copy, Debug)]
pub struct InlineKind {
    /// Its node's name.
    pub name: &'static str,
    /// Makes one stage of those of the matches that are of this kind; the first argument is the source's name.
    pub stage: InlineStage,
}

pub type InlineStage = fn(&str, &[InlineMatch], &dyn FileLoader, &mut Problems) -> Option<Box<dyn StageSpec>>;

impl Catalogue {
    pub fn kind(&self, section: Section, name: &str) -> Option<&'static StageKind> {
        self.of(section).find(|kind| kind.spec.name == name)
    }

    pub fn of(&self, section: Section) -> impl Iterator<Item = &'static StageKind> {
        self.kinds.iter().copied().filter(move |kind| kind.section == section)
    }
}
