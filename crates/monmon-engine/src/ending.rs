//! How a run is told to end.

use tokio::sync::watch;

/// What brought a run to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was left to do: every source came to its end.
    Finished,
    /// The run had a length, and that was over.
    TimeOver,
    /// Someone asked for it, once.
    Asked,
    /// Someone asked twice: nothing was waited for.
    Interrupted,
    /// A stage could not go on.
    StageFailed,
}

/// The side that asks: once to drain, twice to stop at once.
#[derive(Clone, Debug)]
pub struct StopHandle(watch::Sender<u32>);

/// The side that is asked.
#[derive(Clone, Debug)]
pub struct StopListener(watch::Receiver<u32>);

pub fn stop_pair() -> (StopHandle, StopListener) {
    let (sender, receiver) = watch::channel(0);
    (StopHandle(sender), StopListener(receiver))
}

impl StopHandle {
    /// Asks once more.
    pub fn ask(&self) {
        self.0.send_modify(|asked| *asked += 1);
    }
}

impl StopListener {
    /// Until it was asked at least `times` times; for ever if nobody can ask any more.
    pub(crate) async fn asked(&mut self, times: u32) {
        if self.0.wait_for(|asked| *asked >= times).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
