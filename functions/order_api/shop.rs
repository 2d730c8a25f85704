//! What can be bought: the products in memory, read again now and then. Checking a SKU must not
//! cost the acceptance path a request to the store.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use azure::cosmos::StoreError;
use http::header::CACHE_CONTROL;
use orders::submission::Priced;
use orders::{Catalogue, FieldError, Product, Submission};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::{Shared, store_problem};
use crate::chain::chain;
use crate::problem::Problem;
use crate::store::OrderStore;

/// Age at which the catalogue is read again in the background of a request.
const CATALOGUE_FRESH_FOR: Duration = Duration::from_secs(30);

/// Age below which an unknown SKU is believed to be unknown: a new product can be ordered after at
/// most this long, and a client that sends nonsense cannot make us read the store each time.
const UNKNOWN_SKU_TRUSTED_FOR: Duration = Duration::from_secs(2);

/// The shop's products.
#[derive(Debug)]
pub(super) struct Shop {
    store: OrderStore,
    cached: RwLock<Option<Cached>>,
    /// Held while reading, so that a cold cache costs one read and not one per waiting request.
    reading: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Cached {
    catalogue: Arc<Catalogue>,
    read_at: Instant,
}

/// Why an order could not be priced.
pub(super) enum Refused {
    Lines(Vec<FieldError>),
    Store(StoreError),
}

impl Shop {
    pub(super) fn new(store: OrderStore) -> Self {
        Self { store, cached: RwLock::new(None), reading: Mutex::new(()) }
    }

    /// Prices an order by the catalogue. A refusal is given only by a catalogue that is fresh.
    pub(super) async fn price(&self, submission: &Submission) -> Result<Priced, Refused> {
        let catalogue = self.at_most_old(CATALOGUE_FRESH_FOR).await.map_err(Refused::Store)?;
        if let Ok(priced) = submission.price(&catalogue) {
            return Ok(priced);
        }
        let catalogue = self.at_most_old(UNKNOWN_SKU_TRUSTED_FOR).await.map_err(Refused::Store)?;
        submission.price(&catalogue).map_err(Refused::Lines)
    }

    /// The catalogue, read again if it is older than `age`. When the store does not answer, an
    /// older one still serves: prices change rarely, and the commit will tell the truth about the
    /// store soon enough.
    async fn at_most_old(&self, age: Duration) -> Result<Arc<Catalogue>, StoreError> {
        let fresh = |cached: &Cached| cached.read_at.elapsed() < age;
        if let Some(cached) = self.cached().filter(fresh) {
            return Ok(cached.catalogue);
        }
        let reading = self.reading.lock().await;
        if let Some(cached) = self.cached().filter(fresh) {
            return Ok(cached.catalogue);
        }
        let outcome = self.store.products().await;
        let catalogue = match (outcome, self.cached()) {
            (Ok(products), _) => Arc::new(Catalogue::from_iter(products)),
            (Err(error), Some(cached)) => {
                warn!(error = %chain(&error), "the catalogue could not be read again");
                cached.catalogue
            }
            (Err(error), None) => return Err(error),
        };
        let cached = Cached { catalogue: Arc::clone(&catalogue), read_at: Instant::now() };
        *self.cached.write().unwrap_or_else(PoisonError::into_inner) = Some(cached);
        drop(reading);
        Ok(catalogue)
    }

    fn cached(&self) -> Option<Cached> {
        self.cached.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The answer of `GET /api/products`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Products<'a> {
    products: Vec<&'a Product>,
    /// Whether an order may ask for failures here.
    faults_allowed: bool,
}

/// What can be bought, at most a moment old.
pub(super) async fn list(State(api): Shared) -> Result<axum::response::Response, Problem> {
    use axum::response::IntoResponse as _;
    let catalogue = api
        .shop
        .at_most_old(UNKNOWN_SKU_TRUSTED_FOR)
        .await
        .map_err(|error| store_problem(&error))?;
    let products = Products { products: catalogue.sorted(), faults_allowed: api.faults_allowed };
    let no_store = [(CACHE_CONTROL, http::HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(products)).into_response())
}
