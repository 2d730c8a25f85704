//! The development certificate: made at the first start, kept beside the topology's data.
//!
//! A certificate authority of one certificate, whose key is thrown away once it has signed: whoever
//! trusts `bus-ca.pem` trusts this broker on this machine and nothing else. Good for `localhost`,
//! `127.0.0.1` and `::1`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::clock;

/// File of the certificate that clients are told to trust.
const AUTHORITY_FILE: &str = "bus-ca.pem";
/// File of the certificate that the broker shows, with the authority's.
const CHAIN_FILE: &str = "bus-chain.pem";
/// File of the key to it.
const KEY_FILE: &str = "bus-key.pem";

/// Names the certificate is good for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Life of a certificate. Systems refuse longer ones of servers (825 days on macOS).
const LIFE_DAYS: i64 = 800;

/// Age at which a new one is made at the next start.
const RENEW_AFTER_DAYS: u64 = 700;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file could not be read or written.
    #[error("the certificate file {path} cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in the files is no certificate, or not for this key.
    #[error("the certificate in {path} is not usable: {problem}; delete the files to get new ones")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The development certificate of a folder.
pub(super) struct Certificate {
    pub(super) acceptor: TlsAcceptor,
    /// What clients are told to trust.
    pub(super) authority: PathBuf,
}

impl Certificate {
    /// Loads the certificate of a folder, made anew if there is none or it is old.
    pub(super) fn of(folder: &Path) -> Result<Certificate, CertificateError> {
        let file = |path: PathBuf| |source: io::Error| CertificateError::File { path, source };
        let unusable =
            |problem: String| CertificateError::Unusable { path: folder.to_owned(), problem };
        let (chain, key) = (folder.join(CHAIN_FILE), folder.join(KEY_FILE));
        let authority = folder.join(AUTHORITY_FILE);
        if [&chain, &key, &authority].iter().any(|path| !is_fresh(path)) {
            std::fs::create_dir_all(folder).map_err(file(folder.to_owned()))?;
            let made = make().map_err(|error| unusable(error.to_string()))?;
            // The authority comes last: without it the files are made again.
            write(&key, &made.key, true).map_err(file(key.clone()))?;
            write(&chain, &made.chain, false).map_err(file(chain.clone()))?;
            write(&authority, &made.authority, false).map_err(file(authority.clone()))?;
            tracing::info!(authority = %authority.display(), "a development certificate was made");
        }
        let certificates = CertificateDer::pem_file_iter(&chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(error.to_string()))?;
        let key =
            PrivateKeyDer::from_pem_file(&key).map_err(|error| unusable(error.to_string()))?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Certificate { acceptor: TlsAcceptor::from(Arc::new(config)), authority })
    }
}

struct Made {
    authority: String,
    chain: String,
    key: String,
}

fn make() -> Result<Made, rcgen::Error> {
    let now = OffsetDateTime::from_unix_timestamp(clock::now().as_millis() / 1_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // A clock that is a little behind must not make the certificate one of the future.
    let (from, until) = (now - Duration::days(1), now + Duration::days(LIFE_DAYS));

    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Bulkhead bus development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    (params.not_before, params.not_after) = (from, until);
    let authority_key = KeyPair::generate()?;
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::new(params, authority_key);

    let mut params = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (from, until);
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &issuer)?;
    Ok(Made {
        authority: authority.pem(),
        chain: leaf.pem() + &authority.pem(),
        key: key.serialize_pem(),
    })
}

fn is_fresh(path: &Path) -> bool {
    let age = std::fs::metadata(path).and_then(|data| data.modified());
    // A file of the future is as good as a new one.
    age.is_ok_and(|at| {
        at.elapsed().is_ok_and(|age| age.as_secs() < RENEW_AFTER_DAYS * 86_400)
            || at.elapsed().is_err()
    })
}

/// Writes a file whole or not at all; a private one for its owner alone.
fn write(path: &Path, text: &str, private: bool) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    io::Write::write_all(&mut options.open(&partial)?, text.as_bytes())?;
    std::fs::rename(partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_its_key_is_private() {
        let folder = std::env::temp_dir().join(format!("bus-certificate-{}", uuid::Uuid::new_v4()));
        let first = Certificate::of(&folder).unwrap();
        let text = std::fs::read_to_string(&first.authority).unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(!text.contains("PRIVATE"));
        Certificate::of(&folder).unwrap();
        assert_eq!(std::fs::read_to_string(&first.authority).unwrap(), text);
        #[cfg(unix)]
        {
            let mode = std::fs::metadata(folder.join(KEY_FILE)).unwrap().permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        }
        std::fs::write(folder.join(CHAIN_FILE), "nonsense").unwrap();
        assert!(matches!(Certificate::of(&folder), Err(CertificateError::Unusable { .. })));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
