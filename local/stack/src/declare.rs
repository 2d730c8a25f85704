//! `stack declare`: creates the topology's databases, containers and queues on services that have
//! no topology of their own (the official emulators), and writes the seed.
//!
//! What is there already stays as it is, so that it may be run again.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::seed;
use crate::serve::COSMOS_KEY;
use crate::topology::Topology;
use crate::workspace::Workspace;

/// How long one request may take; an emulator that has just started is slow.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long the services may take to answer at all.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Pause between two looks whether a service answers.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Version of Cosmos DB's REST API, as in [`seed`].
const COSMOS_VERSION: &str = "2020-07-15";

/// Version of the REST API of Storage.
const STORAGE_VERSION: &str = "2021-12-02";

/// Where the services are.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Endpoint of Cosmos DB; its key is that of the emulator.
    #[arg(long, default_value = "http://127.0.0.1:8081")]
    pub cosmos: String,
    /// Endpoint of the Storage queues, account included; its key is that of the emulator.
    #[arg(long, default_value = "http://127.0.0.1:10001/devstoreaccount1")]
    pub queue: String,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// What was not there before: databases, containers, queues.
    pub created: usize,
    /// Documents of the seed that were not there.
    pub seeded: usize,
}

/// Creates what is missing, documents of the seed included.
///
/// # Errors
/// A service does not answer, or refuses.
pub async fn declare(
    workspace: &Workspace,
    topology: &Topology,
    options: &Options,
) -> Result<Declared, Fault> {
    let client = Client::builder().timeout(ANSWER_WITHIN).build().map_err(|error| {
        Fault::new("No HTTP client can be made.", error.to_string(), "see the reason above")
    })?;
    let services = Services { client, options: options.clone() };
    services.wait_for("Cosmos DB", &options.cosmos).await?;
    services.wait_for("Storage queues", &options.queue).await?;
    let mut done = Declared::default();
    for database in list(&topology.cosmos, "databases") {
        let id = database["id"].as_str().unwrap_or_default();
        done.created += services.cosmos("/dbs", &json!({ "id": id })).await?;
        for container in list(database, "containers") {
            let path = format!("/dbs/{id}/colls");
            done.created += services.cosmos(&path, container).await?;
        }
    }
    done.seeded = seed::seed(&workspace.seed(), &options.cosmos, COSMOS_KEY).await?;
    for queue in list(&topology.storage, "queues").iter().filter_map(Value::as_str) {
        done.created += services.queue(queue).await?;
    }
    Ok(done)
}

struct Services {
    client: Client,
    options: Options,
}

impl Services {
    /// Waits until somebody answers there, whatever the answer.
    async fn wait_for(&self, service: &str, endpoint: &str) -> Result<(), Fault> {
        let attempts = async {
            loop {
                match self.client.get(endpoint).send().await {
                    Ok(_) => return,
                    Err(_) => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        };
        tokio::time::timeout(READY_WITHIN, attempts).await.map_err(|_| {
            let why = format!("nobody answers at {endpoint}");
            let fix = "docker compose -f infra/emulators/compose.yaml up --wait";
            Fault::new(format!("{service} is not there."), why, fix)
        })
    }

    /// Creates one resource of Cosmos DB; how many are new.
    async fn cosmos(&self, path: &str, body: &Value) -> Result<usize, Fault> {
        let date = cosmos::auth::http_date(epoch_ms() / 1000);
        let request = self
            .client
            .request(Method::POST, format!("{}{path}", self.options.cosmos.trim_end_matches('/')))
            .header("authorization", cosmos::auth::sign(COSMOS_KEY, "post", path, &date))
            .header("x-ms-date", &date)
            .header("x-ms-version", COSMOS_VERSION)
            .json(body);
        self.create(request, path).await
    }

    async fn queue(&self, name: &str) -> Result<usize, Fault> {
        let endpoint = self.options.queue.trim_end_matches('/');
        let url = format!("{endpoint}/{name}");
        let unusable = |why: String| {
            Fault::new(format!("{url} is no address of a queue."), why, "see --queue")
        };
        let target = reqwest::Url::parse(&url).map_err(|error| unusable(error.to_string()))?;
        let mut headers = http::HeaderMap::new();
        let date = queue::auth::http_date(epoch_ms());
        for (header, value) in [("x-ms-date", date.as_str()), ("x-ms-version", STORAGE_VERSION)] {
            let value = http::HeaderValue::from_str(value);
            headers.insert(header, value.map_err(|error| unusable(error.to_string()))?);
        }
        let (account, key) = (queue::EMULATOR_ACCOUNT, queue::EMULATOR_KEY);
        let signature = queue::auth::sign(account, key, "PUT", target.path(), &headers, 0);
        let request = self
            .client
            .request(Method::PUT, target.clone())
            .headers(headers)
            .header("content-length", "0")
            .header("authorization", signature);
        self.create(request, target.path()).await
    }

    async fn create(&self, request: reqwest::RequestBuilder, what: &str) -> Result<usize, Fault> {
        let refused = |why: String| {
            let fix = "see the service's log: docker compose -f infra/emulators/compose.yaml logs";
            Fault::new(format!("{what} cannot be created."), why, fix)
        };
        let response = request.send().await.map_err(|error| refused(error.to_string()))?;
        match response.status() {
            StatusCode::CREATED => Ok(1),
            // Storage says 204 for a queue that is there, Cosmos DB 409.
            StatusCode::NO_CONTENT | StatusCode::CONFLICT => Ok(0),
            status => {
                let body = response.text().await.unwrap_or_default();
                Err(refused(format!("{status}: {body}")))
            }
        }
    }
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn epoch_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or_default()
}
