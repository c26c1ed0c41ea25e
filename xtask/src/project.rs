//! Where things are: the checkout, the target folder, the services' data. The environment is read here and nowhere else.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use crate::failure::Failure;

pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) services: PathBuf,
    cargo: OsString,
    /// Of the first broker's plaintext listener; the others follow from it (`kafka.sh`).
    pub(crate) kafka_port: u16,
    pub(crate) postgres_port: u16,
    /// The folder of the java that the services run, where the user names one.
    pub(crate) java_home: Option<PathBuf>,
    /// The folder of PostgreSQL's server programs, where the user names one.
    pub(crate) postgres_bin: Option<PathBuf>,
}

impl Project {
    pub(crate) fn from_environment() -> Result<Self, Failure> {
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // `cargo run` tells the folder of the package; a copy of the program that is run by itself stays in its checkout.
        let package = path("CARGO_MANIFEST_DIR").unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = package.parent().map(Path::to_path_buf).unwrap_or(package);
        let here = env::current_dir().map_err(Failure::io("finding the current folder"))?;
        let target = path("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| here.join(target));
        let services =
            path("MONMON_SERVICES_DIR").map_or_else(|| target.join("services"), |dir| here.join(dir));
        let port = |name: &str, default: u16| match env::var_os(name) {
            None => Ok(default),
            Some(value) => match value.to_str().and_then(|value| value.parse().ok()) {
                // Nine brokers take ten ports each from here on.
                Some(port @ 1..=65_000) => Ok(port),
                _ => Err(Failure::Usage(format!("{name} must be a port from 1 to 65000, not {value:?}"))),
            },
        };
        Ok(Self {
            kafka_port: port("KAFKA_PORT", 19092)?,
            postgres_port: port("PG_PORT", 15432)?,
            root,
            target,
            services,
            cargo: env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
            java_home: path("JAVA_HOME"),
            postgres_bin: path("PG_BIN"),
        })
    }

    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// A script of `tests/services`.
    pub(crate) fn script(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.scripts().join(name));
        command.args(arguments).current_dir(&self.root).env("MONMON_SERVICES_DIR", &self.services);
        command
    }

    pub(crate) fn scripts(&self) -> PathBuf {
        self.root.join("tests/services")
    }

    /// A program of ours, built with the profile `light`.
    pub(crate) fn light_binary(&self, name: &str) -> PathBuf {
        self.target.join("light").join(name)
    }
}
