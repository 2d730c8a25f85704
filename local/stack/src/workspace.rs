//! Where things lie: the repository, its build output, the staged apps.

use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// The places that the stack reads from and writes to.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The repository.
    pub root: PathBuf,
    /// Build output of this profile; holds `stack` and `handler`.
    pub binaries: PathBuf,
    /// Where apps are staged: `<apps>/<app>`.
    pub apps: PathBuf,
}

impl Workspace {
    /// The workspace around this executable.
    ///
    /// # Errors
    /// The executable was moved out of the build output, or the repository is not where it was
    /// built.
    pub fn locate() -> Result<Self, Fault> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let fix = "run it from a clone of the repository: `cargo stack up`";
        let root = root.canonicalize().map_err(|error| {
            Fault::new(
                "The repository is not where this executable was built.",
                format!("{}: {error}", root.display()),
                fix,
            )
        })?;
        let executable = std::env::current_exe().map_err(|error| {
            Fault::new("The executable's own path is unknown.", error.to_string(), fix)
        })?;
        // <target>/<profile>/stack, or <target>/<profile>/deps/e2e-<hash> for a test.
        let mut binaries = executable.parent().unwrap_or(Path::new(".")).to_owned();
        if binaries.ends_with("deps") {
            binaries.pop();
        }
        let apps = binaries.parent().unwrap_or(Path::new(".")).join("apps");
        Ok(Self { root, binaries, apps })
    }

    /// The stack executable.
    #[must_use]
    pub fn stack(&self) -> PathBuf {
        self.binaries.join("stack")
    }

    /// The handler executable.
    #[must_use]
    pub fn handler(&self) -> PathBuf {
        self.binaries.join("handler")
    }

    /// The build output of all profiles.
    #[must_use]
    pub fn target(&self) -> &Path {
        self.binaries.parent().unwrap_or(Path::new("."))
    }

    /// The handler as it is shipped: the static release build.
    #[must_use]
    pub fn release_handler(&self) -> PathBuf {
        self.target().join(crate::package::elf::TARGET).join("release/handler")
    }

    /// The topology that everything is declared in.
    #[must_use]
    pub fn topology(&self) -> PathBuf {
        self.root.join("infra/topology.json")
    }

    /// The documents that a fresh store starts with.
    #[must_use]
    pub fn seed(&self) -> PathBuf {
        self.root.join("infra/seed.json")
    }
}
