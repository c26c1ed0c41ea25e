//! What is taken away is the right to enter: passwords, certificates, grants.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};

use crate::{
    dice::Dice,
    road::{Road, Shape, utf8},
    services::eventually,
    theatre::Theatre,
};

/// How long a certificate is good for.
const CERTIFICATE: SignedDuration = SignedDuration::from_secs(25);

/// Row 11: the password of a login is changed under way.
pub(crate) fn kafka_password(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = over_sasl(theatre, "sasl")?;
    for _ in 0..2 {
        scram(theatre, "another")?;
        theatre.injected();
        stalls(&mut road)?;
        road.wait(dice.millis(500, 2_000))?;
        scram(theatre, "app-secret")?;
        road.flows(100)?;
    }
    road.settle()
}

/// Row 11: a right is taken, and given back.
pub(crate) fn kafka_rights(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = over_sasl(theatre, "acl")?;
    let topic = road.topic.clone();
    let acl = |what: &str| {
        let brokers = theatre.brokers();
        let mut arguments =
            vec!["tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", &brokers, what];
        arguments.extend(["--deny-principal", "User:app", "--operation", "Write", "--topic", &topic]);
        if what == "--remove" {
            arguments.push("--force");
        }
        theatre.services.kafka(&arguments)
    };
    // Where there is a rule at all, it must say who else may.
    let brokers = theatre.brokers();
    theatre.services.kafka(&[
        "tool",
        "org.apache.kafka.tools.AclCommand",
        "--bootstrap-server",
        &brokers,
        "--add",
        "--allow-principal",
        "User:*",
        "--operation",
        "All",
        "--topic",
        &topic,
    ])?;
    for _ in 0..2 {
        acl("--add")?;
        theatre.injected();
        stalls(&mut road)?;
        road.wait(dice.millis(500, 2_000))?;
        acl("--remove")?;
        road.flows(100)?;
    }
    road.settle()
}

/// The producer by SASL over TLS; everything else as always.
fn over_sasl<'a>(theatre: &'a Theatre, name: &'static str) -> Result<Road<'a>> {
    let tls = utf8(&theatre.services.tls_folder());
    let publish = format!(
        r#"request-timeout "5s"; delivery-timeout "10s"
        tls ca="{tls}/ca.pem"
        sasl mechanism="SCRAM-SHA-256" user="app" password="app-secret""#
    );
    let at = |port: u16| format!("127.0.0.1:{port}");
    let ports = theatre.services.ports;
    let brokers = Some([at(ports.kafka_sasl()), at(ports.consumers().1), theatre.brokers()]);
    let mut road = Road::open(theatre, Shape { name, publish, brokers, ..Shape::default() })?;
    theatre.admin.create(&road.topic, road.shape.partitions, &[])?;
    road.start_all()?;
    Ok(road)
}

fn scram(theatre: &Theatre, password: &str) -> Result<()> {
    let brokers = theatre.brokers();
    let secret = format!("SCRAM-SHA-256=[password={password}]");
    theatre.services.kafka(&[
        "tool",
        "kafka.admin.ConfigCommand",
        "--bootstrap-server",
        &brokers,
        "--alter",
        "--add-config",
        &secret,
        "--entity-type",
        "users",
        "--entity-name",
        "app",
    ])?;
    Ok(())
}

/// Until nothing arrives any more: the fault is felt.
fn stalls(road: &mut Road<'_>) -> Result<()> {
    eventually("stall", || {
        road.watch()?;
        road.journal.advance()?;
        let before = road.journal.messages;
        std::thread::sleep(Duration::from_secs(2));
        road.journal.advance()?;
        Ok(road.journal.messages == before)
    })
}

/// Row 11: the client's certificate runs out under way, and a new one is put in its place.
pub(crate) fn kafka_certificate(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let tls = theatre.services.tls_folder();
    let folder = theatre.setting.folder.join("certificates");
    let (authority, (tls, own)) = (tls.clone(), (utf8(&tls), utf8(&folder)));
    let read = format!(r#"tls ca="{tls}/ca.pem" cert="{own}/client.pem" key="{own}/client.key""#);
    let publish = format!(r#"request-timeout "5s"; delivery-timeout "10s"; {read}"#);
    let at = |port: u16| format!("127.0.0.1:{port}");
    let ports = theatre.services.ports;
    let brokers = Some([at(ports.kafka_tls()), at(ports.kafka_tls()), theatre.brokers()]);
    let mut road = Road::open(theatre, Shape { name: "cert", publish, read, brokers, ..Shape::default() })?;
    theatre.admin.create(&road.topic, road.shape.partitions, &[])?;
    // Its life is for the start alone, however long all before that took.
    short_lived(&authority, &folder, "client")?;
    road.start_all()?;
    std::thread::sleep(Duration::try_from(CERTIFICATE)?);
    // A connection that is there lives on; after a restart of the broker each is new.
    theatre.services.kafka(&["stop"])?;
    theatre.services.kafka(&["up", "1"])?;
    theatre.injected();
    stalls(&mut road)?;
    std::fs::copy(format!("{tls}/client.pem"), format!("{own}/client.pem"))?;
    std::fs::copy(format!("{tls}/client.key"), format!("{own}/client.key"))?;
    road.flows(100)?;
    road.settle()
}

/// A certificate of the servers' authority that soon runs out, with its key, as NAME.pem and NAME.key.
fn short_lived(authority: &Path, folder: &Path, name: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let (authority, own) = (utf8(authority), utf8(folder));
    let until = (Timestamp::now() + CERTIFICATE).strftime("%Y%m%d%H%M%SZ").to_string();
    let config = format!(
        "[ca]\ndefault_ca=d\n[d]\ndatabase={own}/index\nserial={own}/serial\nnew_certs_dir={own}\n\
         default_md=sha256\npolicy=p\nunique_subject=no\nx509_extensions=e\n[p]\ncommonName=supplied\n\
         [e]\nextendedKeyUsage=clientAuth\n"
    );
    std::fs::write(format!("{own}/ca.conf"), config)?;
    std::fs::write(format!("{own}/index"), "")?;
    std::fs::write(format!("{own}/serial"), "1000\n")?;
    openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        &format!("/CN={name}"),
        "-keyout",
        &format!("{own}/{name}.key"),
        "-out",
        &format!("{own}/{name}.csr"),
    ])?;
    openssl(&[
        "ca",
        "-batch",
        "-config",
        &format!("{own}/ca.conf"),
        "-cert",
        &format!("{authority}/ca.pem"),
        "-keyfile",
        &format!("{authority}/ca.key"),
        "-in",
        &format!("{own}/{name}.csr"),
        "-out",
        &format!("{own}/{name}.pem"),
        "-notext",
        "-enddate",
        &until,
    ])
}

fn openssl(arguments: &[&str]) -> Result<()> {
    let output = Command::new("openssl").args(arguments).stdin(Stdio::null()).output();
    let output = output.context("starting openssl")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
