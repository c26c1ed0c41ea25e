//! Mistakes made on purpose, to show that the harness of faults sees them. They exist only in a build with the feature
//! `sabotage`, which nothing that ships has; there one of them is chosen with `MONMON_SABOTAGE=NAME`.

/// Whether this mistake is to be made. Always false without the feature, so that the branch behind it is not built.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn is_sabotaged(_mistake: &str) -> bool {
    false
}

/// Whether this mistake is to be made.
#[cfg(feature = "sabotage")]
pub fn is_sabotaged(mistake: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "a build for tests only, chosen from outside of all pipelines"
    )]
    let chosen = CHOSEN.get_or_init(|| std::env::var("MONMON_SABOTAGE").ok());
    chosen.as_deref() == Some(mistake)
}
