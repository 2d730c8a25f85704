//! What is asked of the document store.

use std::time::{Duration, Instant};

use azure::cosmos::{
    BatchOperation, BatchOutcome, Container, Patch, PatchOutcome, Query, Scope, Store, StoreError,
    literal,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    Outcome, chain, hold,
    rate::{CALLERS, Run, cpu_time, report},
};

pub(crate) struct StoreProbe {
    pub(crate) store: Store,
    pub(crate) container: Container,
    /// Name of the partition key property.
    pub(crate) key: String,
}

impl StoreProbe {
    fn document(&self, key: &str, id: &str, rest: Value) -> Value {
        let mut document = rest;
        document["id"] = id.into();
        document[&self.key] = key.into();
        document
    }

    pub(crate) async fn check(&self) -> Outcome {
        let items = &self.container;
        let key = format!("probe {}", Uuid::new_v4());
        let id = format!("event:{}:1 ä+%", Uuid::new_v4());
        let document = self.document(&key, &id, json!({"n": 1, "status": {"a": "pending"}}));

        let etag = items.create(&key, &document).await.map_err(chain)?;
        hold!(!etag.as_str().is_empty(), "create answers a version");
        let again = items.create(&key, &document).await;
        hold!(matches!(again, Err(StoreError::Conflict)), "creating again is a conflict");
        let read = items.read::<Value>(&key, &id).await.map_err(chain)?.ok_or("not there")?;
        hold!(read.value["n"] == 1 && read.etag == etag, "read finds it, at its version");
        hold!(
            items.read::<Value>(&key, "nothing").await.map_err(chain)?.is_none(),
            "absence is None"
        );

        let claim = Patch::new()
            .set("/status/a", "processing")
            .increment("/attempt", 1)
            .when(format!("FROM c WHERE c.status.a = {}", literal("pending")));
        let outcome = items.patch::<Value>(&key, &id, &claim).await.map_err(chain)?;
        let PatchOutcome::Applied(patched) = outcome else {
            return Err(format!("{outcome:?}").into());
        };
        hold!(patched.value["attempt"] == 1, "a conditional patch applies, and creates a counter");
        hold!(patched.etag != etag, "a patch makes a new version");
        let outcome = items.patch::<Value>(&key, &id, &claim).await.map_err(chain)?;
        hold!(outcome == PatchOutcome::ConditionFailed, "the same claim fails the second time");
        let outcome = items.patch::<Value>(&key, "nothing", &claim).await.map_err(chain)?;
        hold!(outcome == PatchOutcome::NotFound, "patching nothing is told apart");
        let lost = Patch::new().set("/no/such/parent", 1);
        let outcome = items.patch::<Value>(&key, &id, &lost).await;
        hold!(
            matches!(outcome, Err(StoreError::BadRequest { .. })),
            "a path to nowhere is a bad request"
        );

        let stale = items.replace(&key, &id, &document, Some(&etag)).await;
        hold!(
            matches!(stale, Err(StoreError::PreconditionFailed)),
            "an old version replaces nothing"
        );
        let fresh =
            items.replace(&key, &id, &document, Some(&patched.etag)).await.map_err(chain)?;
        hold!(fresh != patched.etag, "the current version does");
        items.upsert(&key, &document, None).await.map_err(chain)?;

        self.check_batches(&key, &id).await?;
        self.check_queries(&key).await?;

        items.delete(&key, &id, None).await.map_err(chain)?;
        let gone = items.delete(&key, &id, None).await;
        hold!(matches!(gone, Err(StoreError::ItemNotFound)), "deleting twice is told apart");
        let missing = self.store.container("no-such-container").read::<Value>("a", "b").await;
        hold!(
            matches!(missing, Err(StoreError::NotFound { .. })),
            "a missing container is told apart"
        );
        self.check_round_trips(&key).await
    }

    async fn check_batches(&self, key: &str, id: &str) -> Outcome {
        let items = &self.container;
        let other = self.document(key, "other", json!({"n": 7}));
        let patch = Patch::new().increment("/n", 1).when("FROM c WHERE c.n = 1");
        let batch = |patch: &Patch| {
            vec![
                BatchOperation::create(&other),
                BatchOperation::patch(id.to_owned(), patch),
                BatchOperation::read(id.to_owned()),
            ]
        };
        let rejected = items
            .batch(key, batch(&Patch::new().increment("/n", 1).when("FROM c WHERE c.n = 99")))
            .await
            .map_err(chain)?;
        hold!(
            matches!(rejected, BatchOutcome::Rejected { index: 1, status: 412, .. }),
            "a batch whose condition fails is rejected at that operation"
        );
        hold!(
            items.read::<Value>(key, "other").await.map_err(chain)?.is_none(),
            "nothing of a rejected batch is left"
        );
        let outcome = items.batch(key, batch(&patch)).await.map_err(chain)?;
        let BatchOutcome::Committed(results) = outcome else {
            return Err(format!("{outcome:?}").into());
        };
        let read = results[2].document::<Value>().map_err(chain)?.ok_or("read in a batch")?;
        hold!(read.value["n"] == 2, "a batch sees its own writes");
        let rejected =
            items.batch(key, vec![BatchOperation::create(&other)]).await.map_err(chain)?;
        hold!(
            matches!(rejected, BatchOutcome::Rejected { index: 0, status: 409, .. }),
            "an existing id rejects a batch"
        );
        let stale = vec![BatchOperation::delete("other").if_match("\"old\"".into())];
        let rejected = items.batch(key, stale).await.map_err(chain)?;
        hold!(
            matches!(rejected, BatchOutcome::Rejected { status: 412, .. }),
            "a version in a batch is honoured"
        );
        hold!(
            items
                .batch(key, vec![BatchOperation::delete("other")])
                .await
                .map_err(chain)?
                .is_committed(),
            "a batch deletes"
        );
        Ok(())
    }

    async fn check_queries(&self, key: &str) -> Outcome {
        let items = &self.container;
        let marker = Uuid::new_v4().to_string();
        for n in 0..5 {
            let document = self.document(key, &format!("q{n}"), json!({"marker": marker, "n": n}));
            items.upsert(key, &document, None).await.map_err(chain)?;
        }
        let newest = Query::new("SELECT VALUE c.n FROM c WHERE c.marker = @m ORDER BY c.n DESC")
            .with("@m", marker.as_str());
        let scope = || Scope::Partition(key.to_owned());
        let found: Vec<i64> = items.query(&newest, scope(), 3).await.map_err(chain)?;
        hold!(found == [4, 3, 2], "a query in one partition is ordered and limited");
        let found: Vec<i64> = items.query(&newest, Scope::All, 10).await.map_err(chain)?;
        hold!(found == [4, 3, 2, 1, 0], "a query over all partitions is ordered");
        for (name, scope) in [("one partition", scope()), ("all partitions", Scope::All)] {
            let mut pages = Vec::new();
            let mut token = None;
            loop {
                let page = items
                    .query_page::<i64>(&newest, scope.clone(), 2, token.as_deref())
                    .await
                    .map_err(chain)?;
                pages.push(page.items);
                token = page.continuation;
                if token.is_none() {
                    break;
                }
            }
            hold!(
                pages.concat() == [4, 3, 2, 1, 0] && pages.iter().all(|page| page.len() <= 2),
                "pages over {name} fit together: {pages:?}"
            );
        }
        let count =
            Query::new("SELECT VALUE COUNT(1) FROM c WHERE c.marker = @m").with("@m", marker);
        let counted: Vec<i64> = items.query(&count, scope(), 1).await.map_err(chain)?;
        hold!(counted == [5], "one partition counts");
        let broken = items.query::<Value>(&Query::new("SELEKT"), scope(), 1).await;
        hold!(
            matches!(broken, Err(StoreError::BadRequest { .. })),
            "a broken query is a bad request"
        );
        Ok(())
    }

    async fn check_round_trips(&self, key: &str) -> Outcome {
        let items = &self.container;
        let document = self.document(key, "trips", json!({"n": 0}));
        items.upsert(key, &document, None).await.map_err(chain)?;
        let before = self.store.stats();
        items.read::<Value>(key, "trips").await.map_err(chain)?;
        let read = self.store.stats();
        let patch = Patch::new().increment("/n", 1).when("FROM c WHERE c.n = 0");
        items.patch::<Value>(key, "trips", &patch).await.map_err(chain)?;
        let patched = self.store.stats();
        let batch = vec![
            BatchOperation::patch("trips", &Patch::new().set("/n", 5)),
            BatchOperation::delete("trips"),
        ];
        items.batch(key, batch).await.map_err(chain)?;
        let batched = self.store.stats();
        hold!(
            [
                read.requests - before.requests,
                patched.requests - read.requests,
                batched.requests - patched.requests
            ] == [1, 1, 1],
            "a read, a patch and a batch are one request each"
        );
        hold!(
            batched.request_units > before.request_units,
            "the cost is counted ({:.2} request units)",
            batched.request_units - before.request_units
        );
        Ok(())
    }

    pub(crate) async fn measure(&self, pace: Duration) -> Outcome {
        self.container.warm_up().await.map_err(chain)?;
        for callers in [1, CALLERS] {
            self.rate("read", callers, pace, |items, key, _| async move {
                items.read::<Value>(&key, "r").await.map(drop)
            })
            .await?;
            self.rate("patch", callers, pace, |items, key, _| async move {
                let patch = Patch::new().increment("/n", 1).when("FROM c WHERE c.n >= 0");
                items.patch::<Value>(&key, "r", &patch).await.map(drop)
            })
            .await?;
            let name = self.key.clone();
            self.rate("batch of two creates", callers, pace, move |items, key, n| {
                let documents = ["a", "b"]
                    .map(|part| json!({"id": format!("{part}{n}"), (&name): key, "ttl": 60}));
                async move {
                    let operations = documents.iter().map(BatchOperation::create).collect();
                    items.batch(&key, operations).await.map(drop)
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn rate<F, A>(&self, what: &str, callers: usize, pace: Duration, operation: F) -> Outcome
    where
        F: Fn(Container, String, u64) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<(), StoreError>> + Send,
    {
        let cpu = cpu_time()?;
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (items, operation) = (self.container.clone(), operation.clone());
            let key = format!("rate {}", Uuid::new_v4());
            items
                .upsert(&key, &self.document(&key, "r", json!({"n": 0})), None)
                .await
                .map_err(chain)?;
            tasks.spawn(async move {
                let mut run = Run::default();
                let mut n = 0;
                while started.elapsed() < pace {
                    n += 1;
                    run.record(|| operation(items.clone(), key.clone(), n)).await;
                }
                run
            });
        }
        report(what, callers, started, cpu, tasks).await
    }
}
