//! The mistakes that the harness of faults is tried with are not in this program.

#[test]
fn the_program_makes_no_mistakes_on_purpose() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_monmon")).expect("the program");
    let switch = b"MONMON_SABOTAGE";
    assert!(!program.windows(switch.len()).any(|bytes| bytes == switch), "built with the feature `sabotage`");
}
