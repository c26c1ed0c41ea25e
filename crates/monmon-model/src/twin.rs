//! Two measurements under one id: what the second one is.

/// What makes a measurement's id, by the names of the columns: two that differ in these do not share an id honestly.
const OF_THE_ID: [&str; 4] = ["prober_id", "check_id", "scheduled_at", "attempt"];

/// A measurement whose id is stored already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// The same once more: a message that was delivered twice, a batch of which nobody knew whether it was stored.
    Redelivery,
    /// The same slot of the same prober, measured in another boot: one pipeline runs twice at once, or did for a while.
    SecondRun,
    /// Anything else: two measurements claim one id, and only one can have it.
    Conflict,
}

impl Twin {
    /// By the names of the columns in which it differs from the stored one.
    pub fn of(differing: &[&str]) -> Twin {
        let differs = |name| differing.contains(&name);
        match differs("boot_id") {
            _ if differing.is_empty() => Twin::Redelivery,
            true if !OF_THE_ID.into_iter().any(differs) => Twin::SecondRun,
            _ => Twin::Conflict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_says_what_it_is() {
        for (differing, expected) in [
            (&[][..], Twin::Redelivery),
            (&["boot_id"], Twin::SecondRun),
            (&["boot_id", "seq", "started_at", "outcome", "matches", "definition_id"], Twin::SecondRun),
            (&["seq"], Twin::Conflict),
            (&["matches"], Twin::Conflict),
            (&["definition_id"], Twin::Conflict),
            (&["prober_id"], Twin::Conflict),
            (&["boot_id", "prober_id"], Twin::Conflict),
            (&["boot_id", "check_id"], Twin::Conflict),
            (&["boot_id", "scheduled_at"], Twin::Conflict),
            (&["boot_id", "attempt"], Twin::Conflict),
        ] {
            assert_eq!(Twin::of(differing), expected, "{differing:?}");
        }
    }
}
