//! From `customHandler.description` to a command that can be run, checked before it is run.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use uuid::Uuid;

use crate::config::{HandlerConfig, Settings};
use crate::error::Problem;

/// Everything needed to start the handler, any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    environment: BTreeMap<String, String>,
    /// Where the handler has to listen.
    pub(crate) port: u16,
}

impl Launch {
    /// Resolves program, directory, arguments and environment. Problems are those a start would
    /// meet: a missing program, a missing execute permission, a missing directory.
    pub(crate) fn prepare(
        root: &Path,
        config: &HandlerConfig,
        settings: &Settings,
        port: u16,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut environment: BTreeMap<String, String> =
            settings.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let worker = Uuid::new_v4().to_string();
        let own = BTreeMap::from([
            ("FUNCTIONS_CUSTOMHANDLER_PORT".to_owned(), port.to_string()),
            ("FUNCTIONS_CUSTOMHANDLER_WORKER_ID".to_owned(), worker.clone()),
            ("FUNCTIONS_HTTPWORKER_PORT".to_owned(), port.to_string()),
            ("FUNCTIONS_HTTPWORKER_ID".to_owned(), worker),
            ("FUNCTIONS_APP_ROOT_PATH".to_owned(), root.display().to_string()),
        ]);
        environment.extend(own.clone());

        let expand = |text: &String| settings.expand(text, &own);
        let directory = root.join(expand(&config.working_directory));
        if !directory.is_dir() {
            problems.push(Problem::new(
                format!("the handler's working directory {} does not exist", directory.display()),
                "customHandler.description.workingDirectory is where the handler is started",
                "create it, or leave workingDirectory empty to use the app directory",
            ));
        }
        let executable = expand(&config.executable);
        let worker_directory = root.join(expand(&config.worker_directory));
        let program = program(&worker_directory, &executable, settings, problems);
        let mut words: Vec<String> = config.arguments.iter().map(expand).collect();
        if !config.worker_path.is_empty() {
            words.push(expand(&config.worker_path));
        }
        words.extend(config.worker_arguments.iter().map(expand));
        // The host joins with single spaces and lets the platform split again.
        let worker_path = expand(&config.worker_path);
        let arguments = words
            .iter()
            .flat_map(|word| match *word == worker_path {
                true => vec![word.clone()],
                false => word.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect(),
            })
            .collect();
        Self { program, arguments, directory, environment, port }
    }

    /// For messages.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// A command in a process group of its own, so that Ctrl-C in a terminal reaches the host
    /// alone, which then decides. No stdin: a background process that reads a terminal is stopped.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.directory)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

fn program(
    directory: &Path,
    executable: &str,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> PathBuf {
    if executable.is_empty() {
        return PathBuf::new();
    }
    let beside = directory.join(executable);
    if beside.is_file() {
        let mode = beside.metadata().map(|data| data.permissions().mode()).unwrap_or_default();
        if mode & 0o111 == 0 {
            problems.push(Problem::new(
                format!("{} is not executable", beside.display()),
                "its mode has no execute bit; in Azure the host would log one line and hang",
                format!("run: chmod 755 {}", beside.display()),
            ));
        }
        return beside;
    }
    let on_path = settings.get("PATH").is_some_and(|path| {
        !executable.contains('/')
            && std::env::split_paths(path).any(|folder| folder.join(executable).is_file())
    });
    if !on_path {
        problems.push(Problem::new(
            format!("the handler {} does not exist", beside.display()),
            "customHandler.description.defaultExecutablePath names it, and it is neither in the \
             app directory nor on PATH",
            "build it and copy it there",
        ));
    }
    PathBuf::from(executable)
}
