//! Documents of one container.
//!
//! Every method is one HTTP request once the container has been used: the first use looks up its
//! partition key and ranges. Documents are addressed by partition key and id; bodies are whatever
//! the caller's types serialise to.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use azure_data_cosmos_driver::{
    CosmosResponse, ResponseBody,
    models::{
        ContainerReference, ContinuationToken, CosmosOperation, ItemReference, PartitionKey,
        Precondition,
    },
    options::{ContentResponseOnWrite, OperationOptions, PlanOptions},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    batch::{self, BatchOperation, BatchOutcome},
    error::StoreError,
    patch::{Patch, PatchOutcome},
    query::{Page, Query, Scope, page_size},
    store::{Repeat, Store, operation_options, plain_options},
};

/// Version of a document, as the service spells it (a quoted string).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// The text, quotes included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ETag {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for ETag {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A document and its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Document<T> {
    /// The document. System properties (`_etag`, `_ts`, …) are offered to `T` like any other.
    pub value: T,
    /// Its version.
    pub etag: ETag,
}

/// A container of documents. Cheap to clone.
#[derive(Clone)]
pub struct Container(Arc<Inner>);

struct Inner {
    store: Store,
    name: String,
    /// `database/container`, for errors.
    resource: String,
    /// Set by the first look-up that succeeds. When the container is deleted and made again, the
    /// driver notices by itself.
    reference: OnceLock<ContainerReference>,
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Container").field(&self.0.resource).finish()
    }
}

impl Container {
    pub(crate) fn new(store: Store, name: &str) -> Self {
        let resource = format!("{}/{name}", store.database());
        let reference = OnceLock::new();
        Self(Arc::new(Inner { store, name: name.to_owned(), resource, reference }))
    }

    /// Connects and looks the container up, so that the first real operation need not. Worth
    /// calling at start-up, in the background.
    ///
    /// # Errors
    ///
    /// As for any read; [`StoreError::NotFound`] when the container does not exist.
    pub async fn warm_up(&self) -> Result<(), StoreError> {
        self.0.store.run(Repeat::Harmless, || async { self.reference().await.map(drop) }).await
    }

    /// Reads a document; `None` when there is none.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but `ItemNotFound`.
    pub async fn read<T: DeserializeOwned>(
        &self,
        partition_key: &str,
        id: &str,
    ) -> Result<Option<Document<T>>, StoreError> {
        let response = self
            .execute(Repeat::Harmless, plain_options(), |container| {
                CosmosOperation::read_item(item(container, partition_key, id))
            })
            .await;
        match response {
            Ok(response) => document(response).map(Some),
            Err(StoreError::ItemNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a document. Its `id` and partition key are taken from `value`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when the id exists, and any other [`StoreError`].
    pub async fn create<T: Serialize + ?Sized>(
        &self,
        partition_key: &str,
        value: &T,
    ) -> Result<ETag, StoreError> {
        let body = encode(value)?;
        self.execute(Repeat::OnlyIfNotApplied, quiet(), |container| {
            CosmosOperation::create_item(new_item(container, partition_key)).with_body(body.clone())
        })
        .await
        .map(|response| etag(&response))
    }

    /// Creates or replaces a document. With `if_match`, an existing document is replaced only when
    /// it is that version.
    ///
    /// # Errors
    ///
    /// [`StoreError::PreconditionFailed`] when it is another version, and any other
    /// [`StoreError`].
    pub async fn upsert<T: Serialize + ?Sized>(
        &self,
        partition_key: &str,
        value: &T,
        if_match: Option<&ETag>,
    ) -> Result<ETag, StoreError> {
        let body = encode(value)?;
        self.execute(Repeat::OnlyIfNotApplied, quiet(), |container| {
            let operation = CosmosOperation::upsert_item(new_item(container, partition_key));
            conditional(operation.with_body(body.clone()), if_match)
        })
        .await
        .map(|response| etag(&response))
    }

    /// Replaces a document, with `if_match` only when it is that version.
    ///
    /// # Errors
    ///
    /// [`StoreError::ItemNotFound`], [`StoreError::PreconditionFailed`], and any other
    /// [`StoreError`].
    pub async fn replace<T: Serialize + ?Sized>(
        &self,
        partition_key: &str,
        id: &str,
        value: &T,
        if_match: Option<&ETag>,
    ) -> Result<ETag, StoreError> {
        let body = encode(value)?;
        self.execute(Repeat::OnlyIfNotApplied, quiet(), |container| {
            let operation = CosmosOperation::replace_item(item(container, partition_key, id));
            conditional(operation.with_body(body.clone()), if_match)
        })
        .await
        .map(|response| etag(&response))
    }

    /// Deletes a document, with `if_match` only when it is that version.
    ///
    /// # Errors
    ///
    /// [`StoreError::ItemNotFound`], [`StoreError::PreconditionFailed`], and any other
    /// [`StoreError`].
    pub async fn delete(
        &self,
        partition_key: &str,
        id: &str,
        if_match: Option<&ETag>,
    ) -> Result<(), StoreError> {
        self.execute(Repeat::OnlyIfNotApplied, plain_options(), |container| {
            let operation = CosmosOperation::delete_item(item(container, partition_key, id));
            conditional(operation, if_match)
        })
        .await
        .map(drop)
    }

    /// Patches a document in one request, carried out by the service.
    ///
    /// A request whose outcome is unknown is not repeated, so [`PatchOutcome::ConditionFailed`]
    /// never stems from an own earlier success. After an error of which
    /// [`StoreError::may_have_been_applied`] is true, read before concluding anything.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadRequest`] when a path does not lead anywhere or the condition does not
    /// parse, and any other [`StoreError`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        partition_key: &str,
        id: &str,
        patch: &Patch,
    ) -> Result<PatchOutcome<T>, StoreError> {
        patch.check()?;
        let body = encode(patch)?;
        let options = operation_options()
            .with_content_response_on_write(ContentResponseOnWrite::Enabled)
            .build();
        let response = self
            .execute(Repeat::OnlyIfNotApplied, options, |container| {
                let operation = CosmosOperation::patch_item(item(container, partition_key, id));
                operation.with_body(body.clone())
            })
            .await;
        match response {
            Ok(response) => document(response).map(PatchOutcome::Applied),
            Err(StoreError::PreconditionFailed) => Ok(PatchOutcome::ConditionFailed),
            Err(StoreError::ItemNotFound) => Ok(PatchOutcome::NotFound),
            Err(error) => Err(error),
        }
    }

    /// Carries out all operations or none, in one request. All documents have this partition key.
    ///
    /// A rejection is an outcome, not an error. As with [`Self::patch`], it never stems from an own
    /// earlier success.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] that concerns the batch as a whole.
    pub async fn batch(
        &self,
        partition_key: &str,
        operations: Vec<BatchOperation>,
    ) -> Result<BatchOutcome, StoreError> {
        let body = batch::encode(&operations)?;
        let response = self
            .execute(Repeat::OnlyIfNotApplied, quiet(), |container| {
                let key = PartitionKey::from(partition_key.to_owned());
                CosmosOperation::batch(container.clone(), key).with_body(body.clone())
            })
            .await?;
        batch::decode(&single(response)?)
    }

    /// The first `limit` results of a query.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadRequest`] when the query does not parse or cannot be planned across
    /// partitions, [`StoreError::Decode`] when a result is not a `T`, and any other
    /// [`StoreError`].
    pub async fn query<T: DeserializeOwned>(
        &self,
        query: &Query,
        scope: Scope,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        let (mut items, _) = self.results(query, &scope, limit, None, Until::Limit).await?;
        items.truncate(limit);
        Ok(items)
    }

    /// One page of at most `limit` results, and where the next one starts.
    ///
    /// # Errors
    ///
    /// As [`Self::query`]; [`StoreError::BadRequest`] also for a continuation that is not one.
    pub async fn query_page<T: DeserializeOwned>(
        &self,
        query: &Query,
        scope: Scope,
        limit: usize,
        continuation: Option<&str>,
    ) -> Result<Page<T>, StoreError> {
        let (items, continuation) =
            self.results(query, &scope, limit, continuation, Until::OnePage).await?;
        Ok(Page { items, continuation })
    }

    async fn results<T: DeserializeOwned>(
        &self,
        query: &Query,
        scope: &Scope,
        limit: usize,
        continuation: Option<&str>,
        until: Until,
    ) -> Result<(Vec<T>, Option<String>), StoreError> {
        let store = &self.0.store;
        let body = encode(query)?;
        store
            .run(Repeat::Harmless, || async {
                let driver = store.driver().await?;
                let container = self.reference().await?;
                let range = scope.feed_range(container.partition_key_definition());
                let operation = CosmosOperation::query_items(container.clone(), Some(range))
                    .with_body(body.clone())
                    .with_max_item_count(page_size(limit));
                let token = continuation.map(|t| ContinuationToken::from_string(t.to_owned()));
                let options = plain_options();
                let plan = driver
                    .plan_operation(operation, &options, token.as_ref(), &PlanOptions::default())
                    .await;
                let mut plan = self.interpret(plan)?;
                let mut items = Vec::new();
                loop {
                    let page = driver
                        .execute_plan(&mut plan, Some(container.clone()), options.clone())
                        .await;
                    let Some(page) = self.interpret(page)? else { return Ok((items, None)) };
                    store.account_for(page.diagnostics_ref());
                    // Within one partition the service says whether there is more; across
                    // partitions only the next page tells.
                    let last = matches!(scope, Scope::Partition(_))
                        && page.headers().continuation.is_none();
                    append_page(page, &mut items)?;
                    if last {
                        return Ok((items, None));
                    }
                    match until {
                        Until::Limit if items.len() >= limit => return Ok((items, None)),
                        Until::OnePage if !items.is_empty() => {
                            let token = self.interpret(plan.to_continuation_token())?;
                            return Ok((items, Some(token.as_str().to_owned())));
                        }
                        Until::Limit | Until::OnePage => {}
                    }
                }
            })
            .await
    }

    async fn execute(
        &self,
        repeat: Repeat,
        options: OperationOptions,
        build: impl Fn(&ContainerReference) -> CosmosOperation,
    ) -> Result<CosmosResponse, StoreError> {
        let store = &self.0.store;
        store
            .run(repeat, || async {
                let driver = store.driver().await?;
                let operation = build(self.reference().await?);
                let response = driver
                    .execute_singleton_operation(operation, options.clone())
                    .await
                    .map_err(|error| store.interpret(error, &self.0.resource))?;
                store.account_for(response.diagnostics_ref());
                Ok(response)
            })
            .await
    }

    async fn reference(&self) -> Result<&ContainerReference, StoreError> {
        if let Some(reference) = self.0.reference.get() {
            return Ok(reference);
        }
        let driver = self.0.store.driver().await?;
        let found = driver
            .resolve_container_by_name(self.0.store.database(), &self.0.name, plain_options())
            .await
            .map_err(|error| {
                // A missing container is reported by a plain 404, as a missing document would be.
                if error.status().is_not_found() {
                    let resource = self.0.resource.clone();
                    return StoreError::NotFound { resource, source: error };
                }
                self.0.store.interpret(error, &self.0.resource)
            })?;
        Ok(self.0.reference.get_or_init(|| found))
    }

    fn interpret<T>(&self, result: azure_data_cosmos_driver::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| self.0.store.interpret(error, &self.0.resource))
    }
}

/// When to stop reading pages.
#[derive(Clone, Copy)]
enum Until {
    /// When there are enough results.
    Limit,
    /// After the first page that is not empty.
    OnePage,
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(StoreError::Encode)
}

fn item(container: &ContainerReference, partition_key: &str, id: &str) -> ItemReference {
    ItemReference::from_name(container, partition_key.to_owned().into(), id.to_owned())
}

/// A document that is posted to the container: its id is in the body, not in the path.
fn new_item(container: &ContainerReference, partition_key: &str) -> ItemReference {
    ItemReference::from_name(container, partition_key.to_owned().into(), "")
}

fn conditional(operation: CosmosOperation, if_match: Option<&ETag>) -> CosmosOperation {
    match if_match {
        Some(etag) => operation.with_precondition(Precondition::if_match(etag.as_str().to_owned())),
        None => operation,
    }
}

/// Options of writes whose caller has the document already.
fn quiet() -> OperationOptions {
    operation_options().with_content_response_on_write(ContentResponseOnWrite::Disabled).build()
}

fn etag(response: &CosmosResponse) -> ETag {
    let etag = response.headers().etag.as_ref();
    etag.map(|etag| ETag::from(etag.to_string())).unwrap_or_default()
}

fn document<T: DeserializeOwned>(response: CosmosResponse) -> Result<Document<T>, StoreError> {
    let etag = etag(&response);
    let value = serde_json::from_slice(&single(response)?).map_err(StoreError::Decode)?;
    Ok(Document { value, etag })
}

/// A page of one partition arrives as the service wrote it, a page of many comes taken apart.
fn append_page<T: DeserializeOwned>(
    page: CosmosResponse,
    items: &mut Vec<T>,
) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Envelope<T> {
        #[serde(rename = "Documents")]
        documents: Vec<T>,
    }
    match page.into_body() {
        ResponseBody::Bytes(bytes) => {
            let page: Envelope<T> = serde_json::from_slice(&bytes).map_err(StoreError::Decode)?;
            items.extend(page.documents);
        }
        ResponseBody::Items(parts) => {
            for part in parts {
                items.push(serde_json::from_slice(&part).map_err(StoreError::Decode)?);
            }
        }
        ResponseBody::NoPayload => {}
    }
    Ok(())
}

fn single(response: CosmosResponse) -> Result<bytes::Bytes, StoreError> {
    match response.into_body() {
        ResponseBody::Bytes(bytes) => Ok(bytes),
        ResponseBody::NoPayload => Ok(bytes::Bytes::new()),
        _ => Err(StoreError::Decode(serde::de::Error::custom("a list instead of one document"))),
    }
}
