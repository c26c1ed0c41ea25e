//! TLS and logins, right and wrong.

use monmon_stage::StageError;
use monmon_testkit::Tls;
use uuid::Uuid;

use crate::harness::{Run, RunningSink, RunningSource, brokers, env, items, logged, topic};

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

/// The same refusal for a sink and a source: one error, what caused it, what to do, and nothing in the log.
async fn refused(topic: &str, options: &str) -> String {
    let error = Run::new().sink(options).await.err().expect("the sink is refused");
    let told = told(&error);
    let source =
        Run::new().source(&format!("{options}\ngroup \"g\"")).await.err().expect("the source is refused");
    assert_eq!(told, self::told(&source));
    assert_eq!(logged(topic), Vec::<String>::new());
    assert!(!told.contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{told}");
    told
}

fn told(error: &StageError) -> String {
    assert!(!error.is_transient(), "{error:?}");
    let cause = std::error::Error::source(error).map_or(String::new(), |cause| format!("\n{cause}"));
    let told = format!("{error}{cause}\nhelp: {}", error.help_text().expect("a help"));
    ["MONMON_TEST_KAFKA", "MONMON_TEST_KAFKA_TLS", "MONMON_TEST_KAFKA_SASL"]
        .iter()
        .fold(told, |told, port| told.replace(&env(port), "BROKER"))
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
    insta::assert_snapshot!(refused(&topic, &tls(&topic, &ca())).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_of_another_authority_is_refused() {
    let topic = topic(1, &[]).await;
    let foreign = Tls::new("another authority").expect("an authority").client("app").expect("a certificate");
    let options = format!("{} cert={:?} key={:?}", ca(), foreign.certificate_pem, foreign.key_pem);
    insta::assert_snapshot!(refused(&topic, &tls(&topic, &options)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_another_authority_is_refused() {
    let topic = topic(1, &[]).await;
    let folder = tls_folder();
    let certificate = format!("cert=\"{folder}/client.pem\" key=\"{folder}/client.key\"");
    // The client's own certificate is no authority.
    let options = tls(&topic, &format!("ca=\"{folder}/client.pem\" {certificate}"));
    insta::assert_snapshot!(refused(&topic, &options).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_an_authority_that_the_system_does_not_know_is_refused() {
    let topic = topic(1, &[]).await;
    insta::assert_snapshot!(refused(&topic, &tls(&topic, "")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_to_a_port_for_tls_is_refused() {
    let topic = topic(1, &[]).await;
    for port in ["MONMON_TEST_KAFKA_TLS", "MONMON_TEST_KAFKA_SASL"] {
        let options = format!("brokers \"{}\"\ntopic \"{topic}\"", env(port));
        insta::assert_snapshot!("plaintext_to_a_port_for_tls", refused(&topic, &options).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_a_port_for_plaintext_is_refused() {
    let topic = topic(1, &[]).await;
    let options = format!("brokers \"{}\"\ntopic \"{topic}\"\ntls {}", brokers(), ca());
    insta::assert_snapshot!(refused(&topic, &options).await);
}

/// What stands in front of a broker that is down may take connections and end them: that is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_merely_ends_is_no_reason_to_give_up() {
    let topic = topic(1, &[]).await;
    for options in ["".to_owned(), format!("tls {}", ca())] {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = nobody.local_addr().expect("an address");
        let hangs_up = async {
            loop {
                drop(nobody.accept().await);
            }
        };
        let options = format!("brokers \"{address}\"\ntopic \"{topic}\"\n{options}");
        let run = Run::new().fail_fast();
        let error = tokio::select! {
            sink = run.sink(&options) => sink.err().expect("no broker"),
            () = hangs_up => unreachable!("it goes on for ever"),
        };
        assert!(error.is_transient());
        assert_eq!(error.to_string(), "no kafka broker can be reached");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains("Disconnected"), "{cause}");
    }
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
        let told = refused(&topic, &sasl(&topic, mechanism, "hunter2")).await;
        insta::assert_snapshot!(format!("a_wrong_password_by_{mechanism}"), told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_at_a_port_without_logins_is_refused() {
    let topic = topic(1, &[]).await;
    let options = format!(
        "brokers \"{}\"\ntopic \"{topic}\"\nsasl mechanism=\"PLAIN\" user=\"app\" password=\"hunter2\"",
        brokers()
    );
    insta::assert_snapshot!(refused(&topic, &options).await);
}
