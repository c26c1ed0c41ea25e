//! What an audit found, in a closed list. Each kind is counted in full; of each only so many are kept one by one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// Kept of each kind, at most.
pub(super) const KEPT_MAX: usize = 1_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All that was due is there, or says why not.
    Proven,
    /// Nothing is known to be missing, and not everything can be shown to be there.
    NotProvable,
    /// Something is missing, there twice, or there without reason.
    Broken,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident $word:literal $verdict:ident $text:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum Kind {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Kind {
            /// The word in JSON.
            pub(super) fn word(self) -> &'static str {
                match self { $(Kind::$variant => $word,)* }
            }

            pub(super) fn verdict(self) -> Verdict {
                match self { $(Kind::$variant => Verdict::$verdict,)* }
            }

            /// For people.
            pub(super) fn text(self) -> &'static str {
                match self { $(Kind::$variant => $text,)* }
            }
        }
    };
}

kinds! {
    /// A slot was due, its prober says that it is accounted for, and no row tells of it.
    MissingSlot "missing_slot" Broken "slots without a row, which their prober has accounted for";
    /// A row for an instant at which nothing was due.
    OffSlot "off_slot" Broken "rows for instants at which nothing was due";
    /// A slot has a second row under another id.
    Doubled "doubled" Broken "slots with a second row";
    /// A row whose id is not the one made of its prober, check, slot and attempt.
    ForeignId "foreign_id" Broken "rows whose id is not made of what they tell";
    /// Numbers of a boot that no row has.
    SeqHole "seq_hole" Broken "measurements that were numbered and are not stored";
    /// A number of a boot that two rows have.
    SeqDoubled "seq_doubled" Broken "numbers that two measurements have";
    /// A number behind the last that the boot gave.
    SeqBeyond "seq_beyond" Broken "numbers behind the last that their boot gave";
    /// The rows are as many as the receipt says, and are not the same.
    ReceiptDiffers "receipt_differs" Broken "receipts whose measurements are not those that are stored";
    /// Numbers that no receipt is about, with receipts before and behind them.
    ReceiptMissing "receipt_missing" Broken "receipts that are missing";
    /// Offsets that no batch has, with batches before and behind them.
    OffsetHole "offset_hole" Broken "offsets that no stored batch has";
    /// The group has committed offsets of which nothing is stored.
    CommittedNotStored "committed_not_stored" Broken "offsets that were committed and are not stored";
    /// The log has let go of offsets before they were stored.
    NotStoredInTime "not_stored_in_time" Broken "offsets that Kafka let go of before they were stored";
    /// Two processes made measurements under one prober's id at the same time.
    SharedProber "shared_prober" Broken "probers that two processes were at once";
    /// A row refers to what is not there.
    UnknownReference "unknown_reference" Broken "rows that refer to a boot or a definition that is not stored";
    /// Sums that are not those of the rows.
    RollupDiffers "rollup_differs" Broken "sums that are not those of the rows";
    /// A slot that its prober has accounted for has no row, and nothing newer of its check is stored.
    AwaitedSlot "awaited_slot" NotProvable "slots without a row that are lost, or still on their way: nothing newer of their checks is stored";
    /// Numbers of a boot that no row has, where some of its checks have nothing newer.
    AwaitedSeq "awaited_seq" NotProvable "measurements that were numbered and are not stored: lost, or still on their way";
    /// Slots that came due about when their prober died, and whose measurements it took with it.
    DiedSlot "died_slot" NotProvable "slots that their prober took with it when it died";
    /// A boot that ended without its last receipt.
    NotProvable "not_provable" NotProvable "boots without their last receipt: not provable after the instant given";
    /// A boot whose first receipts are not stored: the store knows it from then on only.
    NotProvableBefore "not_provable_before" NotProvable "boots whose first receipts are not stored: not provable before the instant given";
    /// Offsets that this reader's batches leave out, where another reader has them or the log seems to have begun anew.
    OffsetsNotProvable "offsets_not_provable" NotProvable "offsets that another reader stored, or that lie behind a newer beginning of their log";
    /// The group has committed offsets of a partition of which nothing was ever stored.
    CommittedNothingStored "committed_nothing_stored" NotProvable "partitions with committed offsets of which nothing is stored";
    /// Boots of one prober that lived at the same time by its clock, and of which nothing else says so.
    BootsOverlap "boots_overlap" NotProvable "boots of one prober that overlap: two processes at once, or a clock that was set back between them";
    /// A boot that gave no receipt.
    NoReceipts "no_receipts" NotProvable "boots that gave no receipt";
    /// Nothing is stored in the window.
    NothingStored "nothing_stored" NotProvable "nothing is stored in the window";
}

/// One thing that was found, or several that follow one another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Finding {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pipeline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) check: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) check_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prober: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) boot: Option<Uuid>,
    /// The slot, or another instant that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<Timestamp>,
    /// The row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partition: Option<i32>,
    /// Numbers or offsets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

/// All of one kind.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Found {
    /// How many slots, numbers, rows or boots.
    pub(super) count: u64,
    /// The first of them.
    pub(super) shown: Vec<Finding>,
}

#[derive(Debug, Default)]
pub(super) struct Findings {
    by_kind: BTreeMap<Kind, Found>,
}

impl Findings {
    pub(super) fn add(&mut self, kind: Kind, count: u64, finding: impl FnOnce() -> Finding) {
        let found = self.by_kind.entry(kind).or_default();
        found.count += count;
        if found.shown.len() < KEPT_MAX {
            found.shown.push(finding());
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.by_kind.keys().map(|kind| kind.verdict()).max().unwrap_or(Verdict::Proven)
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.by_kind.contains_key(&kind)
    }

    /// The worst first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Kind, &Found)> {
        self.by_kind.iter().map(|(kind, found)| (*kind, found))
    }
}
