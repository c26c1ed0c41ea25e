//! "Did you mean": the nearest right word.

/// The candidate nearest to `word`, if it is near enough to be what was meant.
///
/// Near enough is a third of the word's length in slips (a swap of neighbours counts as one), at least one; case and
/// `_` for `-` cost nothing.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A word longer than any candidate could be is not compared: the distance costs the product of the lengths.
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let wanted = plain(word);
    let slips_max = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.chars().count())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// The help line for an unknown word: the nearest right one, else all of them.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const LISTED_MAX: usize = 24;
    let mut candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(near) = nearest(word, candidates.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    candidates.truncate(LISTED_MAX);
    match candidates.as_slice() {
        [] => None,
        [only] => Some(format!("the only one there is: `{only}`")),
        all => Some(format!(
            "one of {}",
            all.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        )),
    }
}
