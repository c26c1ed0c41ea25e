//! TLS as managed services demand it, and the refusals.

use std::sync::Arc;

use monmon_postgres::{StoreError, Target, TlsFiles, Verify, migrate};
use monmon_stage::SystemWorld;

use crate::support::{Store, setting, with_schema};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Welcome,
    Login,
    Distrust,
}

/// Tries to migrate a schema of its own, which needs a login and a session that works.
async fn knock(url: &str, tls: Option<&TlsFiles>) -> Said {
    let store = Store::empty().await;
    store
        .client
        .batch_execute(&format!("GRANT ALL ON SCHEMA {} TO PUBLIC", store.schema))
        .await
        .expect("granted");
    let target = Target::parse(&with_schema(url, &store.schema), tls, Arc::new(SystemWorld)).expect("a URL");
    let said = match migrate(&target).await {
        Ok(applied) => {
            assert!(!applied.is_empty());
            Said::Welcome
        }
        Err(StoreError::Credentials { .. }) => Said::Login,
        Err(StoreError::Tls(_)) => Said::Distrust,
        Err(other) => panic!("{url}: {other:?}"),
    };
    store.gone().await;
    said
}

struct Server {
    folder: String,
    port: u16,
}

impl Server {
    fn new() -> Server {
        let url = setting("MONMON_TEST_POSTGRES");
        let port = url.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
        Server { folder: setting("MONMON_TEST_POSTGRES_TLS_DIR"), port: port.expect("a port") }
    }

    fn url(&self, user: &str, host: &str, parameters: &str) -> String {
        let parameters = parameters.replace("DIR", &self.folder);
        format!("postgres://{user}@{host}:{}/test?hostaddr=127.0.0.1&{parameters}", self.port)
    }

    fn pem(&self, name: &str) -> Option<Vec<u8>> {
        Some(std::fs::read(format!("{}/{name}", self.folder)).expect("a certificate"))
    }
}

#[tokio::test]
async fn sslmode_means_what_it_means_to_libpq() {
    let server = Server::new();
    let cases = [
        ("app_tls:secret", "localhost", "sslmode=verify-full&sslrootcert=DIR/ca.pem", Said::Welcome),
        ("app_tls:secret", "wrong.example", "sslmode=verify-full&sslrootcert=DIR/ca.pem", Said::Distrust),
        ("app_tls:secret", "wrong.example", "sslmode=verify-ca&sslrootcert=DIR/ca.pem", Said::Welcome),
        ("app_tls:secret", "localhost", "sslmode=verify-full", Said::Distrust),
        ("app_tls:secret", "localhost", "sslmode=verify-ca", Said::Distrust),
        ("app_tls:secret", "localhost", "sslrootcert=system", Said::Distrust),
        ("app_tls:secret", "localhost", "sslmode=require", Said::Welcome),
        ("app_tls:secret", "localhost", "sslmode=require&sslrootcert=DIR/client.pem", Said::Distrust),
        ("app_tls:secret", "localhost", "sslmode=prefer", Said::Welcome),
        ("app_tls:secret", "localhost", "", Said::Welcome),
        ("app_tls:secret", "localhost", "sslmode=disable", Said::Login),
        ("app_tls:wrong", "localhost", "sslmode=require", Said::Login),
        ("app_cert", "localhost", "sslmode=verify-full&sslrootcert=DIR/ca.pem", Said::Login),
        (
            "app_cert",
            "localhost",
            "sslmode=verify-full&sslrootcert=DIR/ca.pem&sslcert=DIR/client.pem&sslkey=DIR/client.key",
            Said::Welcome,
        ),
    ];
    for (user, host, parameters, expected) in cases {
        let url = server.url(user, host, parameters);
        assert_eq!(knock(&url, None).await, expected, "{user} {host} {parameters}");
    }
}

#[tokio::test]
async fn the_pipelines_tls_goes_before_the_urls() {
    let server = Server::new();
    let files = |verify| TlsFiles {
        ca: server.pem("ca.pem"),
        cert: server.pem("client.pem"),
        key: server.pem("client.key"),
        verify,
    };
    let cases = [
        ("localhost", files(None), Said::Welcome),
        ("wrong.example", files(None), Said::Distrust),
        ("wrong.example", files(Some(Verify::Ca)), Said::Welcome),
        ("wrong.example", files(Some(Verify::None)), Said::Welcome),
        ("localhost", TlsFiles { ca: None, ..files(None) }, Said::Distrust),
    ];
    for (host, tls, expected) in cases {
        let url = server.url("app_cert", host, "");
        assert_eq!(knock(&url, Some(&tls)).await, expected, "{host} {:?}", tls.verify);
    }
    let half = TlsFiles { key: None, ..files(None) };
    let refused = Target::parse(&server.url("app_cert", "localhost", ""), Some(&half), Arc::new(SystemWorld));
    assert!(matches!(refused, Err(StoreError::Tls(_))));
}
