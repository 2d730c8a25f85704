//! What can be bought and for how much, as the shop knows it at this moment.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Currency, Sku};

/// One product, as its stock document describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    /// Its stock-keeping unit; the partition key of container `stock`.
    pub sku: Sku,
    /// What people call it.
    pub name: String,
    /// Price of one unit in minor units of `currency`.
    pub unit_price_minor: u64,
    /// The currency of the price.
    pub currency: Currency,
    /// Units that can still be reserved.
    pub available: u64,
}

/// The products by SKU.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(HashMap<Sku, Product>);

impl Catalogue {
    /// The product behind a SKU.
    #[must_use]
    pub fn get(&self, sku: &Sku) -> Option<&Product> {
        self.0.get(sku)
    }

    /// Every product, ordered by SKU so that a page of them is stable.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Product> {
        let mut products: Vec<_> = self.0.values().collect();
        products.sort_by(|a, b| a.sku.cmp(&b.sku));
        products
    }

    /// Whether nothing can be bought.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Product> for Catalogue {
    fn from_iter<I: IntoIterator<Item = Product>>(products: I) -> Self {
        Self(products.into_iter().map(|product| (product.sku.clone(), product)).collect())
    }
}
