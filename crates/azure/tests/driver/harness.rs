//! A service and a driver that is connected to it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use azure_data_cosmos_driver::models::{
    AccountReference, ContainerReference, ContinuationToken, CosmosOperation, FeedRange,
    ItemReference, MaxItemCountHint, PartitionKey,
};
use azure_data_cosmos_driver::options::{
    BinaryEncodingOptions, ConnectionPoolOptions, ContentResponseOnWrite, OperationOptions,
    OperationOptionsBuilder, PatchStrategy, PlanOptions, ServerCertificateValidation,
    ThrottlingRetryOptionsBuilder,
};
use azure_data_cosmos_driver::{
    CosmosDriver, CosmosDriverRuntime, CosmosError, CosmosResponse, DriverOptions,
};
use cosmos::{Account, EMULATOR_KEY, Options, Server};
use listener::testing::Client;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A service with the container `c` in the database `db`, and a driver that found it.
pub(crate) struct Service {
    pub(crate) driver: Arc<CosmosDriver>,
    pub(crate) container: ContainerReference,
    pub(crate) account: AccountReference,
    address: SocketAddr,
    folder: PathBuf,
    _shutdown: DropGuard,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How a service is reached and cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    pub(crate) https: bool,
    /// More than one partition key range.
    pub(crate) ranges: bool,
    pub(crate) binary: bool,
}

/// Every way that the driver may go.
pub(crate) const WAYS: [Way; 3] = [
    Way { https: false, ranges: false, binary: false },
    Way { https: false, ranges: true, binary: true },
    Way { https: true, ranges: false, binary: true },
];

pub(crate) async fn start(way: Way) -> Service {
    let folder = std::env::temp_dir().join(format!("cosmos-driver-{}", uuid::Uuid::new_v4()));
    let account: Account =
        serde_json::from_value(json!({"databases": [{"id": "db", "containers": [
            {"id": "c", "partitionKey": {"paths": ["/pk"]}, "defaultTtl": -1},
        ]}]}))
        .unwrap();
    let options = Options {
        account,
        faults: true,
        partition_key_ranges: if way.ranges { 4 } else { 1 },
        certificate: way.https.then(|| folder.clone()),
        ..Options::default()
    };
    let server = Server::bind(options).await.unwrap();
    let (address, shutdown) = (server.local_addr(), CancellationToken::new());
    #[expect(clippy::disallowed_methods, reason = "ends with the guard")]
    tokio::spawn(server.run(shutdown.clone()));
    let pool = ConnectionPoolOptions::builder()
        .with_server_certificate_validation(ServerCertificateValidation::RequiredUnlessEmulator)
        .build()
        .unwrap();
    let runtime = CosmosDriverRuntime::builder()
        .with_connection_pool(pool)
        .with_default_operation_options(options_of(way).build())
        .build()
        .await
        .unwrap();
    let scheme = if way.https { "https" } else { "http" };
    let endpoint = format!("{scheme}://{address}/").parse().unwrap();
    let account = AccountReference::with_account_key(endpoint, EMULATOR_KEY);
    let driver = runtime.create_driver(DriverOptions::builder(account.clone()).build()).await;
    let driver = driver.unwrap();
    let container =
        driver.resolve_container_by_name("db", "c", OperationOptions::default()).await.unwrap();
    let _shutdown = shutdown.drop_guard();
    Service { driver, container, account, address, folder, _shutdown }
}

fn options_of(way: Way) -> OperationOptionsBuilder {
    let binary = BinaryEncodingOptions::new().with_enabled(way.binary);
    OperationOptionsBuilder::new()
        .with_binary_encoding(binary.with_request_text_response(true))
        .with_content_response_on_write(ContentResponseOnWrite::Enabled)
        .with_patch_strategy(PatchStrategy::ServerSide)
}

/// Options of an operation that is not repeated when the service is busy.
pub(crate) fn impatient() -> OperationOptions {
    let once = ThrottlingRetryOptionsBuilder::new().with_max_retry_count(0).build();
    OperationOptionsBuilder::new().with_throttling_retry_options(once).build()
}

/// Status and substatus of a refusal.
pub(crate) fn code<T>(result: Result<T, CosmosError>) -> (u16, u32) {
    let error = result.err().expect("this should have been refused");
    let substatus = error.response().and_then(|response| response.headers().substatus);
    let status = u16::from(error.status().status_code());
    (status, substatus.map_or(0, |substatus| u32::from(substatus.value())))
}

impl Service {
    pub(crate) fn item(&self, key: &str, id: &str) -> ItemReference {
        ItemReference::from_name(&self.container, key.to_owned().into(), id.to_owned())
    }

    pub(crate) async fn run(&self, operation: CosmosOperation) -> Result<Value, CosmosError> {
        self.run_with(operation, OperationOptions::default()).await.map(body)
    }

    pub(crate) async fn run_with(
        &self,
        operation: CosmosOperation,
        options: OperationOptions,
    ) -> Result<CosmosResponse, CosmosError> {
        self.driver.execute_singleton_operation(operation, options).await
    }

    /// Creates an item; its id and key are in it.
    pub(crate) async fn create(&self, item: Value) -> Result<Value, CosmosError> {
        let reference = self.item(item["pk"].as_str().unwrap(), "");
        self.run(CosmosOperation::create_item(reference).with_body(bytes(&item))).await
    }

    pub(crate) async fn read(&self, key: &str, id: &str) -> Result<Value, CosmosError> {
        self.run(CosmosOperation::read_item(self.item(key, id))).await
    }

    pub(crate) async fn patch(
        &self,
        key: &str,
        id: &str,
        patch: Value,
    ) -> Result<Value, CosmosError> {
        let operation = CosmosOperation::patch_item(self.item(key, id));
        self.run(operation.with_body(bytes(&patch))).await
    }

    /// The results of a batch, as the service words them.
    pub(crate) async fn batch(&self, key: &str, operations: Value) -> Result<Value, CosmosError> {
        let key = PartitionKey::from(key.to_owned());
        let operation = CosmosOperation::batch(self.container.clone(), key);
        self.run(operation.with_body(bytes(&operations))).await
    }

    /// All results of a query over one partition or over all, page by page.
    pub(crate) async fn query(
        &self,
        text: &str,
        key: Option<&str>,
    ) -> Result<Vec<Value>, CosmosError> {
        let range = key.map_or_else(FeedRange::full, |key| self.range_of(key));
        let operation = CosmosOperation::query_items(self.container.clone(), Some(range))
            .with_body(bytes(&json!({"query": text, "parameters": []})))
            .with_max_item_count(MaxItemCountHint::Limit(7.try_into().unwrap()));
        self.drain(operation, None).await.map(|(items, _)| items)
    }

    pub(crate) fn range_of(&self, key: &str) -> FeedRange {
        let definition = self.container.partition_key_definition();
        FeedRange::for_partition(key.to_owned().into(), definition)
    }

    /// Everything that a feed has, and where it left off.
    pub(crate) async fn drain(
        &self,
        operation: CosmosOperation,
        token: Option<ContinuationToken>,
    ) -> Result<(Vec<Value>, ContinuationToken), CosmosError> {
        let (options, feed) = (OperationOptions::default(), operation.is_change_feed());
        let (ways, token) = (PlanOptions::default(), token.as_ref());
        let mut plan = self.driver.plan_operation(operation, &options, token, &ways).await?;
        let mut all = Vec::new();
        // A change feed has no end; it is drained once every range had nothing.
        let mut nothing = 0;
        loop {
            let container = Some(self.container.clone());
            let page = self.driver.execute_plan(&mut plan, container, options.clone()).await?;
            let Some(page) = page else { break };
            let items: Vec<Value> = match page.body().is_empty() {
                true => Vec::new(),
                false => items(page),
            };
            nothing = if items.is_empty() { nothing + 1 } else { 0 };
            all.extend(items);
            if feed && nothing > 4 {
                break;
            }
        }
        let token = plan.to_continuation_token()?;
        Ok((all, token))
    }

    /// Orders faults.
    pub(crate) async fn order(&self, rules: Value) {
        let client = Client::default();
        let sent = client.send(self.address, "PUT", "/admin/faults", &[], rules.to_string());
        let answer = sent.await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The body of an answer; null when there is none.
pub(crate) fn body(response: CosmosResponse) -> Value {
    match response.body().is_empty() {
        true => Value::Null,
        false => response.into_body().into_single().unwrap(),
    }
}

fn items(page: CosmosResponse) -> Vec<Value> {
    let parts = page.into_body().items().unwrap();
    let parse = |part: &bytes::Bytes| serde_json::from_slice::<Value>(part).unwrap();
    let mut all = Vec::new();
    for part in parts.iter().map(parse) {
        match part.get("Documents").and_then(Value::as_array) {
            Some(documents) => all.extend(documents.iter().cloned()),
            None => all.push(part),
        }
    }
    all
}
