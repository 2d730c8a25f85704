//! The development certificate.
//!
//! Made once and kept beside its key, so that clients can be told to trust it: `certificate.pem` is
//! what they need. It names this machine only.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const CERTIFICATE_NAME: &str = "certificate.pem";
const KEY_NAME: &str = "key.pem";

/// There is no usable certificate.
#[derive(Debug, Error)]
#[error("the certificate in {} cannot be used: {reason}", directory.display())]
pub struct CertificateError {
    /// Where it should be.
    pub directory: PathBuf,
    /// Why.
    pub reason: String,
}

/// TLS with the certificate in `directory`, made there if there is none.
///
/// # Errors
/// [`CertificateError`].
pub(crate) fn development(directory: &Path) -> Result<Arc<ServerConfig>, CertificateError> {
    let failed = |reason: String| CertificateError { directory: directory.to_owned(), reason };
    let path = |name: &str| directory.join(name);
    if !path(CERTIFICATE_NAME).exists() {
        make(directory).map_err(|error| failed(error.to_string()))?;
    }
    let chain = CertificateDer::pem_file_iter(path(CERTIFICATE_NAME))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(path(KEY_NAME));
    let key = key.map_err(|error| failed(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| failed(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn make(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    let mut key = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(directory.join(KEY_NAME))?;
    key.write_all(made.signing_key.serialize_pem().as_bytes())?;
    // Last: its being there says that both are.
    std::fs::write(directory.join(CERTIFICATE_NAME), made.cert.pem())
}
