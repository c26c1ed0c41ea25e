//! TLS and logins, right and wrong.

use monmon_stage::StageError;
use uuid::Uuid;

use crate::harness::{Run, RunningSink, RunningSource, env, items, topic};

fn tls_folder() -> String {
    env("MONMON_TEST_KAFKA_TLS_DIR")
}

fn ca() -> String {
    format!("ca=\"{}/ca.pem\"", tls_folder())
}

fn tls(topic: &str, options: &str) -> String {
    format!("brokers \"{}\"\ntopic \"{topic}\"\ntls {options}", env("MONMON_TEST_KAFKA_TLS"))
}

fn sasl(topic: &str, mechanism: &str, password: &str) -> String {
    format!(
        "brokers \"{}\"\ntopic \"{topic}\"\ntls {}\nsasl mechanism=\"{mechanism}\" user=\"{}\" password=\"{password}\"",
        env("MONMON_TEST_KAFKA_SASL"),
        ca(),
        env("MONMON_TEST_KAFKA_USER"),
    )
}

async fn there_and_back(options: impl FnOnce(&str) -> String) {
    let options = &options(&topic(1, &[]).await);
    let sink = RunningSink::start(options).await;
    sink.send(items(0..20)).await;
    let (_, book) = sink.finish().await;
    assert_eq!(book.count(true), 20);
    let group = format!("group \"group.{}\"", Uuid::new_v4());
    let mut source = RunningSource::start_as(Run::new().once(), &format!("{options}\n{group}")).await;
    source.take(20).await.into_iter().for_each(|envelope| envelope.ack.deliver());
    source.end().await.expect("a good end");
}

/// The same refusal for a sink and a source, with and without patience.
async fn refused(options: &str) -> StageError {
    let error = Run::new().sink(options).await.err().expect("the sink is refused");
    assert!(!error.is_transient(), "{error:?}");
    let source =
        Run::new().source(&format!("{options}\ngroup \"g\"")).await.err().expect("the source is refused");
    assert_eq!(source.to_string(), error.to_string());
    assert!(error.help_text().is_some());
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_client_certificate() {
    let folder = tls_folder();
    let paths = format!("{} cert=\"{folder}/client.pem\" key=\"{folder}/client.key\"", ca());
    there_and_back(|topic| tls(topic, &paths)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_the_pem_itself() {
    let folder = tls_folder();
    let texts = format!(
        "ca=(file)\"{folder}/ca.pem\" cert=(file)\"{folder}/client.pem\" key=(file)\"{folder}/client.key\""
    );
    there_and_back(|topic| tls(topic, &texts)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_without_a_client_certificate_is_refused() {
    let topic = topic(1, &[]).await;
    let error = refused(&tls(&topic, &ca())).await;
    assert_eq!(error.to_string(), "no TLS connection to the kafka broker can be made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_another_authority_is_refused() {
    let topic = topic(1, &[]).await;
    let folder = tls_folder();
    let certificate = format!("cert=\"{folder}/client.pem\" key=\"{folder}/client.key\"");
    // The client's own certificate is no authority.
    let error = refused(&tls(&topic, &format!("ca=\"{folder}/client.pem\" {certificate}"))).await;
    assert_eq!(error.to_string(), "no TLS connection to the kafka broker can be made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pem_file_that_is_missing_is_named() {
    let error = Run::new().sink(&tls("t", "ca=\"nowhere.pem\"")).await.err().expect("no file");
    let problem = error.problem().expect("a place");
    assert!(problem.message.starts_with("the file `nowhere.pem` cannot be read"), "{}", problem.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins() {
    let password = env("MONMON_TEST_KAFKA_PASSWORD");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        there_and_back(|topic| sasl(topic, mechanism, &password)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused() {
    let topic = topic(1, &[]).await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let error = refused(&sasl(&topic, mechanism, "hunter2")).await;
        assert_eq!(error.to_string(), "the kafka broker refuses the login");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
