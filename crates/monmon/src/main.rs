//! The `monmon` program.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use monmon::Exit;
use monmon::cli::Cli;

/// How long threads that are still busy are waited for at the very end.
const LAST_WAIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed, and are no error; everything else is usage.
            drop(error.print());
            return if error.use_stderr() { Exit::Failed.into() } else { Exit::Good.into() };
        }
    };
    // Everything that speaks TLS takes its cryptography from here. Only a second call can fail.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "there is no log yet")]
            {
                eprintln!("monmon: no threads to work with: {error}");
            }
            return Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(cli.execute());
    runtime.shutdown_timeout(LAST_WAIT);
    exit.into()
}
