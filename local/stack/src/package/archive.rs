//! The zip file of a package: sorted entries, fixed times, modes as staged.
//!
//! What makes two runs differ elsewhere is left out: the times of files, the order of a directory,
//! entries for folders, extra fields.

use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Effort of the compressor, of 1 to 9. Fixed, because the bytes depend on it.
const COMPRESSION_LEVEL: i64 = 6;

/// Permission bits that an entry carries; the type of the file is not among them.
const PERMISSIONS: u32 = 0o777;

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A staged file cannot be read.
    #[error("{file}: {error}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The archive cannot be made of what was read.
    #[error("no archive can be made: {0}")]
    Write(#[from] zip::result::ZipError),
}

/// The archive of these files of a staged app, as bytes. Names are relative to `directory`, with
/// `/` between folders; they are sorted here.
///
/// # Errors
/// A file cannot be read, or is more than a zip file can hold.
pub fn zip(directory: &Path, files: &[String]) -> Result<Vec<u8>, ArchiveError> {
    let mut names: Vec<&String> = files.iter().collect();
    names.sort();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for name in names {
        let read = |error| ArchiveError::Read { file: name.clone(), error };
        let path = directory.join(name);
        let mode = std::fs::metadata(&path).map_err(read)?.permissions().mode() & PERMISSIONS;
        let content = std::fs::read(&path).map_err(read)?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(COMPRESSION_LEVEL))
            .last_modified_time(DateTime::DEFAULT)
            .unix_permissions(mode);
        writer.start_file(name.as_str(), options)?;
        writer.write_all(&content).map_err(zip::result::ZipError::from)?;
    }
    Ok(writer.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_times_of_files_leave_no_trace() {
        let scratch = tempfile("order");
        let make = |name: &str, files: &[(&str, u32)]| {
            let root = scratch.join(name);
            for (file, mode) in files {
                let path = root.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, format!("content of {file}")).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
            }
            root
        };
        let one = make("one", &[("handler", 0o755), ("f/function.json", 0o644)]);
        let other = make("other", &[("f/function.json", 0o644), ("handler", 0o755)]);
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 30);
        let file = std::fs::File::options().write(true).open(other.join("handler")).unwrap();
        file.set_modified(long_ago).unwrap();
        let names = |names: [&str; 2]| names.map(str::to_owned);
        let first = zip(&one, &names(["handler", "f/function.json"])).unwrap();
        let second = zip(&other, &names(["f/function.json", "handler"])).unwrap();
        assert_eq!(first, second);
        let missing = zip(&one, &["gone".to_owned()]).unwrap_err();
        assert!(missing.to_string().starts_with("gone: "), "{missing}");
        std::fs::remove_dir_all(scratch).unwrap();
    }

    fn tempfile(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("bulkhead-archive-{name}-{}", std::process::id()))
    }
}
