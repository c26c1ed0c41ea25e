//! Whatever happens in whatever order: every item is acked once, what was acked as delivered arrives, and in order.

mod support;

use std::time::Duration;

use proptest::prelude::*;
use support::{Mode, Rig};

#[derive(Clone, Debug)]
enum Act {
    Push(u64),
    /// Large enough that two of them do not fit into the spool.
    PushLarge,
    Server(Mode),
    Pass(u64),
    /// The run ends as it should, and another begins.
    Stop,
    /// The run ends as when the process is killed, and another begins.
    Kill,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (1u64..40).prop_map(Act::Push),
        1 => Just(Act::PushLarge),
        2 => Just(Act::Server(Mode::Up)),
        2 => Just(Act::Server(Mode::Away)),
        1 => Just(Act::Server(Mode::Refuses)),
        1 => Just(Act::Server(Mode::Breaks)),
        5 => (1u64..3_000).prop_map(Act::Pass),
        1 => Just(Act::Stop),
        1 => Just(Act::Kill),
    ];
    prop::collection::vec(act, 1..30)
}

async fn play(acts: Vec<Act>, word: &str) -> Result<(), TestCaseError> {
    let options = format!("max=\"1MiB\" when-full=\"{word}\"");
    let rig = Rig::new(Mode::Up);
    let mut running = rig.run(&options).await;
    let mut pushed = 0u64;
    let mut in_order = true;
    for act in acts {
        match act {
            Act::Push(count) => {
                running.give(rig.batch(pushed + 1..=pushed + count)).await;
                pushed += count;
            }
            Act::PushLarge => {
                pushed += 1;
                running.give(vec![rig.large(pushed, 100_000)]).await;
            }
            Act::Server(mode) => {
                // What is refused while more is on its way comes later than that.
                in_order &= mode != Mode::Refuses;
                rig.server.set(mode);
            }
            Act::Pass(ms) => support::pass(Duration::from_millis(ms)).await,
            Act::Stop => {
                // A spool that is full and blocks can't come to its end before the server is back.
                if word == "block" {
                    rig.server.set(Mode::Up);
                }
                let ended = running.stop().await;
                prop_assert!(ended.is_ok(), "{ended:?}");
                running = rig.run(&options).await;
            }
            Act::Kill => {
                running.kill().await;
                running = rig.run(&options).await;
            }
        }
    }
    rig.server.set(Mode::Up);
    rig.book.resolved(usize::try_from(pushed).expect("a small number")).await;
    while rig.status().items > 0 {
        support::pass(Duration::from_millis(100)).await;
    }
    let ended = running.stop().await;
    prop_assert!(ended.is_ok(), "{ended:?}");

    let mut seen = std::collections::BTreeSet::new();
    let first_times: Vec<u64> = rig.server.got().into_iter().filter(|number| seen.insert(*number)).collect();
    let dropped: u64 = rig.status().dropped.iter().map(|check| check.count).sum();
    let missing: Vec<u64> =
        rig.book.delivered().into_iter().filter(|number| !seen.contains(number)).collect();
    // Only `oldest` drops what was acked, and it counts what it drops.
    if word == "oldest" {
        prop_assert!(missing.len() as u64 <= dropped, "{missing:?} and {dropped} dropped");
    } else {
        prop_assert_eq!(missing, Vec::<u64>::new());
    }
    if in_order {
        prop_assert!(first_times.is_sorted(), "{first_times:?}");
    }
    if word == "block" {
        prop_assert_eq!(dropped, 0);
    }
    Ok(())
}

fn run(acts: Vec<Act>, word: &str) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(play(acts, word))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_spool_that_blocks(acts in acts()) {
        run(acts, "block")?;
    }

    #[test]
    fn a_spool_that_drops_what_comes(acts in acts()) {
        run(acts, "newest")?;
    }

    #[test]
    fn a_spool_that_drops_the_oldest(acts in acts()) {
        run(acts, "oldest")?;
    }
}
