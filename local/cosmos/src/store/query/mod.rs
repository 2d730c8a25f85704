//! Running queries over the items of a container.
//!
//! A [`Run`] alternates between fetching candidates, which needs the container, and evaluating
//! them, which does not: whoever drives it can let go of the container in between. Filters are
//! evaluated over the text of the committed documents; none is copied.

mod access;
mod continuation;
mod render;

use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::StoreError;
use super::container::Container;
use super::document::Document;
use super::feed::Scope;
use super::index::Shape;
use super::partition::lookup;
use crate::limits::{DEFAULT_PAGE_ITEMS, MAX_HELD_BYTES, MAX_PAGE_BYTES, MAX_PAGE_ITEMS};
use crate::sql::aggregate::Accumulator;
use crate::sql::ast::Expr;
use crate::sql::eval::{self, Scope as Row};
use crate::sql::watch::{Watch, value_bytes};
use crate::sql::{Query, order};

use access::{Access, Place};
use continuation::Continuation;

/// Candidates in the first fetch of a query whose results come in order.
const FIRST_FETCH_DOCUMENTS: usize = 128;

/// What a row or a group takes apart from what is in it, about.
const HELD_ROW_BYTES: usize = 128;

/// Candidates in the largest such fetch.
const LARGEST_FETCH_DOCUMENTS: usize = 8192;

/// A query, where to look for it, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    query: Arc<Query>,
    scope: Scope,
    access: Access,
    resume: Option<Continuation>,
}

/// What came of asking for candidates.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// They are these; none are left when it is empty.
    Candidates(Vec<Arc<Document>>),
    /// [`super::Store::prepare`] this, then ask again.
    IndexMissing(Shape),
}

/// A page of results.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The results as JSON, separated by commas.
    pub results: Vec<u8>,
    /// How many there are.
    pub count: usize,
    /// What to send to get the next page; `None` at the end.
    pub continuation: Option<String>,
    /// Documents that were looked at.
    pub examined: usize,
}

impl Plan {
    /// Plans `query`.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`] for a continuation that is not ours.
    pub fn new(
        query: Arc<Query>,
        scope: Scope,
        continuation: Option<&str>,
        container: &Container,
    ) -> Result<Self, StoreError> {
        let resume = continuation.map(Continuation::parse).transpose()?;
        let tag = resume.as_ref().map(|resume| resume.access);
        let access = Access::choose(&query, &scope, container, tag);
        Ok(Self { query, scope, access, resume })
    }

    /// Gives up on indexes, so that tests can compare.
    #[cfg(test)]
    pub(super) fn scan_everything(&mut self) {
        self.access = Access::All;
    }

    /// Starts a page of at most `max_items` results.
    pub fn run(self, max_items: Option<usize>, now_ms: u64, default_ttl: Option<i64>) -> Run {
        let page_items = max_items.unwrap_or(DEFAULT_PAGE_ITEMS).clamp(1, MAX_PAGE_ITEMS);
        let query = &self.query;
        let mode = if query.is_grouped() || query.select.distinct {
            Mode::Materialized { rows: Vec::new(), seen: HashSet::new(), groups: BTreeMap::new() }
        } else if self.access.is_ordered(query) {
            Mode::Streamed
        } else {
            Mode::Sorted { heap: BinaryHeap::new(), overflowed: false }
        };
        let limit = query.top.unwrap_or(usize::MAX).min(query.limit.unwrap_or(usize::MAX));
        let taken = self.resume.as_ref().map_or(0, |resume| resume.taken);
        let skip = if self.resume.is_some() { 0 } else { query.offset };
        Run {
            page_items: page_items.min(limit.saturating_sub(taken)),
            more_allowed: limit.saturating_sub(taken) > page_items,
            place: self.start(),
            plan: self,
            mode,
            now_ms,
            default_ttl,
            skip,
            taken,
            fetch: FIRST_FETCH_DOCUMENTS,
            page: Page::default(),
            last: None,
            held_bytes: 0,
            max_held_bytes: MAX_HELD_BYTES,
            failure: None,
        }
    }

    /// Where the candidates of this page begin.
    fn start(&self) -> Option<Place> {
        let resume = self.resume.as_ref()?;
        if self.query.is_grouped()
            || self.query.select.distinct
            || !self.access.is_ordered(&self.query)
        {
            return None;
        }
        let mut order = resume.key();
        if self.is_descending() {
            order.iter_mut().for_each(|byte| *byte = !*byte);
            // The document itself comes again: JOINs may have left rows of it.
            return Some(Place { order, number: resume.number.saturating_add(1) });
        }
        Some(Place { order, number: resume.number.saturating_sub(1) })
    }

    fn is_descending(&self) -> bool {
        self.query.select.order_by.first().is_some_and(|order| order.descending)
    }

    /// The bytes by which rows are ordered, without what breaks ties.
    fn sort_key(&self, row: &Row<'_>) -> Vec<u8> {
        if let Access::Index(stretch) = &self.access
            && self.query.select.order_by.is_empty()
        {
            let item = row.slots.first().copied().flatten();
            return match (&stretch.shape.ordered, item) {
                (Some(path), Some(item)) => order::key(lookup(item, path), false),
                _ => Vec::new(),
            };
        }
        let keys = self
            .query
            .select
            .order_by
            .iter()
            .map(|item| order::key(eval::eval(&item.by, row).as_deref(), item.descending));
        keys.flatten().collect()
    }
}

/// A page being put together.
#[derive(Debug)]
pub struct Run {
    plan: Plan,
    mode: Mode,
    now_ms: u64,
    default_ttl: Option<i64>,
    /// Results that fit into the page.
    page_items: usize,
    /// Whether TOP and LIMIT allow another page.
    more_allowed: bool,
    skip: usize,
    taken: usize,
    fetch: usize,
    place: Option<Place>,
    page: Page,
    last: Option<RowKey>,
    /// About what the rows and groups in [`Mode`] take.
    held_bytes: usize,
    max_held_bytes: usize,
    /// Why there will be no page.
    failure: Option<StoreError>,
}

/// How results come about.
#[derive(Debug)]
enum Mode {
    /// Candidates come in the order of the results.
    Streamed,
    /// The first results of a page are kept while all candidates pass.
    Sorted { heap: BinaryHeap<SortedRow>, overflowed: bool },
    /// All results are needed before the first one is known.
    Materialized {
        rows: Vec<(RowKey, Vec<u8>)>,
        seen: HashSet<Vec<u8>>,
        groups: BTreeMap<Vec<u8>, Group>,
    },
}

/// What orders rows: the sort key, then the document, then the row within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey {
    sort: Vec<u8>,
    /// The document number, inverted when the order is descending.
    tie: u64,
    row: u32,
    number: u64,
}

#[derive(Debug)]
struct SortedRow {
    key: RowKey,
    what: Pending,
}

#[derive(Debug)]
enum Pending {
    Document(Arc<Document>),
    Rendered(Bytes),
}

#[derive(Debug)]
struct Group {
    accumulators: Vec<Accumulator>,
    /// The slots of its first row.
    sample: Vec<Option<Value>>,
}

impl Pending {
    /// What it takes beyond what is in memory anyway.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Document(_) => 0,
            Self::Rendered(text) => text.len(),
        }
    }
}

impl PartialEq for SortedRow {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for SortedRow {}

impl PartialOrd for SortedRow {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SortedRow {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl Run {
    /// Bounds what it holds before the first result is known, in bytes.
    pub(crate) fn holding_at_most(mut self, bytes: usize) -> Self {
        self.max_held_bytes = bytes;
        self
    }

    /// The next candidates. Call with the container; evaluate without it.
    pub(crate) fn fetch(&mut self, container: &Container) -> Fetched {
        if let Access::Index(stretch) = &self.plan.access
            && container.index(&stretch.shape).is_none()
        {
            return Fetched::IndexMissing(stretch.shape.clone());
        }
        let limit = match self.mode {
            Mode::Streamed => self.fetch,
            Mode::Sorted { .. } | Mode::Materialized { .. } => usize::MAX,
        };
        self.fetch = (self.fetch * 4).min(LARGEST_FETCH_DOCUMENTS);
        if !self.plan.query.has_source {
            return Fetched::Candidates(Vec::new());
        }
        let place = self.place.as_ref();
        Fetched::Candidates(self.plan.access.fetch(container, &self.plan.scope, place, limit))
    }

    /// Evaluates candidates; breaks when the page is complete.
    pub fn evaluate(&mut self, candidates: &[Arc<Document>]) -> ControlFlow<()> {
        if self.page_items == 0 || candidates.is_empty() {
            return ControlFlow::Break(());
        }
        let plan = self.plan.clone();
        for document in candidates {
            self.page.examined += 1;
            if plan.scope.contains(document) && document.is_live(self.default_ttl, self.now_ms) {
                self.document(&plan, document)?;
            }
        }
        match (&self.mode, candidates.last()) {
            (Mode::Streamed, Some(last)) => {
                let order = match &plan.access {
                    Access::Index(stretch) => match &stretch.shape.ordered {
                        Some(path) => {
                            let item =
                                plan.query.needs.read(&last.text.read()).unwrap_or(Value::Null);
                            order::key(lookup(&item, path), false)
                        }
                        None => Vec::new(),
                    },
                    Access::All | Access::Partition => Vec::new(),
                };
                self.place = Some(Place { order, number: last.number });
                ControlFlow::Continue(())
            }
            // Everything was fetched at once.
            _ => ControlFlow::Break(()),
        }
    }

    /// The page.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`] that names the limit when one was exceeded.
    pub fn finish(mut self) -> Result<Page, StoreError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let watch = Watch::default();
        if !self.plan.query.has_source {
            let row = Row::of(None, &watch);
            let plan = self.plan.clone();
            if self.plan.query.is_grouped() {
                self.accumulate(&plan, &row);
            } else if plan.query.select.filter.as_ref().is_none_or(|f| eval::is_true(f, &row)) {
                let rendered = render::value(&plan.query.select.projection, &row);
                rendered.into_iter().for_each(|rendered| self.push(&rendered));
            }
        }
        match std::mem::replace(&mut self.mode, Mode::Streamed) {
            Mode::Streamed => {}
            Mode::Sorted { heap, overflowed } => self.finish_sorted(heap, overflowed, &watch),
            Mode::Materialized { rows, groups, .. } => {
                self.finish_materialized(rows, groups, &watch);
            }
        }
        watch.verdict()?;
        self.failure.map_or(Ok(self.page), Err)
    }

    fn document(&mut self, plan: &Plan, document: &Arc<Document>) -> ControlFlow<()> {
        let covered = matches!(&plan.access, Access::Index(stretch) if stretch.covers_filter);
        let (filter, needs) = match covered {
            true => (None, &plan.query.needs_without_filter),
            false => (plan.query.select.filter.as_ref(), &plan.query.needs),
        };
        let text = document.text.read();
        let Some(item) = needs.read(&text) else {
            return ControlFlow::Continue(());
        };
        let watch = Watch::default();
        let alone = Row::of(Some(&item), &watch);
        let wanted = plan.query.item_filters.iter().all(|part| eval::is_true(part, &alone));
        let flow = match wanted {
            true => self.rows(plan, document, &text, &alone, filter),
            false => ControlFlow::Continue(()),
        };
        match watch.verdict() {
            Ok(()) => flow,
            Err(exceeded) => self.fail(exceeded.into()),
        }
    }

    /// Takes in the rows that JOINs make of an item.
    fn rows(
        &mut self,
        plan: &Plan,
        document: &Arc<Document>,
        text: &Bytes,
        alone: &Row<'_>,
        filter: Option<&Expr>,
    ) -> ControlFlow<()> {
        let mut number = 0u32;
        let sources = &plan.query.select.sources;
        eval::for_each_row(sources, alone, &mut |row| {
            row.watch.next_row();
            if filter.is_some_and(|filter| !eval::is_true(filter, row)) {
                return ControlFlow::Continue(());
            }
            let at = number;
            number += 1;
            self.row(plan, document, text, row, at)
        })
    }

    /// Ends the run without a page.
    fn fail(&mut self, failure: StoreError) -> ControlFlow<()> {
        self.failure = Some(failure);
        ControlFlow::Break(())
    }

    /// Counts what is held until the last candidate was seen.
    fn hold(&mut self, bytes: usize) -> ControlFlow<()> {
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        if self.held_bytes <= self.max_held_bytes {
            return ControlFlow::Continue(());
        }
        let limit = self.max_held_bytes;
        self.fail(StoreError::bad(format!(
            "the query has to hold more than {limit} bytes of rows or groups for ORDER BY, DISTINCT, \
             GROUP BY or OFFSET, which is the memory limit of a query; narrow it down with a filter"
        )))
    }

    fn row(
        &mut self,
        plan: &Plan,
        document: &Arc<Document>,
        text: &Bytes,
        row: &Row<'_>,
        at: u32,
    ) -> ControlFlow<()> {
        if plan.query.is_grouped() {
            let held = self.accumulate(plan, row);
            return self.hold(held);
        }
        let tie = if plan.is_descending() { !document.number } else { document.number };
        let key = RowKey { sort: plan.sort_key(row), tie, row: at, number: document.number };
        if let Some(resume) = &plan.resume
            && !matches!(self.mode, Mode::Materialized { .. })
        {
            let tie = if plan.is_descending() { !resume.number } else { resume.number };
            if (&key.sort, key.tie, key.row) <= (&resume.key(), tie, resume.row) {
                return ControlFlow::Continue(());
            }
        }
        match &mut self.mode {
            Mode::Streamed => {
                if self.page.count >= self.page_items || self.page.results.len() >= MAX_PAGE_BYTES {
                    self.set_continuation();
                    return ControlFlow::Break(());
                }
                let Some(rendered) = render::row(&plan.query, row, text) else {
                    return ControlFlow::Continue(());
                };
                self.last = Some(key);
                match self.skip {
                    0 => self.push(&rendered),
                    _ => self.skip -= 1,
                }
                let full = self.page.count >= self.page_items && !self.more_allowed;
                if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Mode::Sorted { heap, overflowed } => {
                let capacity = self.page_items.saturating_add(self.skip);
                let full = heap.len() >= capacity;
                if full && heap.peek().is_some_and(|worst| worst.key <= key) {
                    *overflowed = true;
                    return ControlFlow::Continue(());
                }
                let Some(rendered) = render::row(&plan.query, row, text) else {
                    return ControlFlow::Continue(());
                };
                let what = match plan.query.select.sources.is_empty() {
                    true => Pending::Document(document.clone()),
                    false => Pending::Rendered(rendered),
                };
                let held = HELD_ROW_BYTES + key.sort.len() + what.held_bytes();
                if full {
                    let popped = heap.pop();
                    let freed = popped.map_or(0, |row| row.key.sort.len() + row.what.held_bytes());
                    self.held_bytes = self.held_bytes.saturating_sub(freed + HELD_ROW_BYTES);
                    *overflowed = true;
                }
                heap.push(SortedRow { key, what });
                self.hold(held)
            }
            Mode::Materialized { rows, seen, .. } => {
                let Some(value) = eval::project(&plan.query.select.projection, row) else {
                    return ControlFlow::Continue(());
                };
                let known = order::key(Some(&value), false);
                let held = HELD_ROW_BYTES + known.len() + key.sort.len();
                if !seen.insert(known) {
                    return ControlFlow::Continue(());
                }
                let rendered = value.to_string().into_bytes();
                let held = held + rendered.len();
                rows.push((key, rendered));
                self.hold(held)
            }
        }
    }

    /// Adds a row to its group. Returns the bytes by which groups have grown.
    fn accumulate(&mut self, plan: &Plan, row: &Row<'_>) -> usize {
        let Mode::Materialized { groups, .. } = &mut self.mode else { return 0 };
        let select = &plan.query.select;
        let mut key = Vec::new();
        for expr in &select.group_by {
            order::encode(eval::eval(expr, row).as_deref(), &mut key);
        }
        let mut held = 0;
        let key_bytes = key.len();
        let group = groups.entry(key).or_insert_with(|| {
            let sample: Vec<_> = row.slots.iter().map(|slot| slot.cloned()).collect();
            held = HELD_ROW_BYTES + key_bytes;
            held += sample.iter().flatten().map(value_bytes).sum::<usize>();
            let accumulators = select.aggregates.iter().map(|a| Accumulator::new(a.kind));
            Group { accumulators: accumulators.collect(), sample }
        });
        for (accumulator, aggregate) in group.accumulators.iter_mut().zip(&select.aggregates) {
            held += accumulator.add(eval::eval(&aggregate.argument, row).as_deref());
        }
        held
    }

    fn finish_sorted(&mut self, heap: BinaryHeap<SortedRow>, overflowed: bool, watch: &Watch) {
        let plan = self.plan.clone();
        let rows = heap.into_sorted_vec().into_iter().skip(self.skip);
        for SortedRow { key, what } in rows {
            watch.next_row();
            if self.page.results.len() >= MAX_PAGE_BYTES {
                self.set_continuation();
                return;
            }
            let rendered = match what {
                Pending::Rendered(rendered) => Some(rendered),
                Pending::Document(document) => {
                    let text = document.text.read();
                    let item = plan.query.needs.read(&text);
                    let row = Row::of(item.as_ref(), watch);
                    render::row(&plan.query, &row, &text)
                }
            };
            self.last = Some(key);
            rendered.into_iter().for_each(|rendered| self.push(&rendered));
        }
        if overflowed && self.more_allowed {
            self.set_continuation();
        }
    }

    fn finish_materialized(
        &mut self,
        mut rows: Vec<(RowKey, Vec<u8>)>,
        mut groups: BTreeMap<Vec<u8>, Group>,
        watch: &Watch,
    ) {
        let plan = self.plan.clone();
        let select = &plan.query.select;
        // Aggregates without groups have a result even over nothing.
        if plan.query.is_grouped() && select.group_by.is_empty() && groups.is_empty() {
            let accumulators = select.aggregates.iter().map(|a| Accumulator::new(a.kind));
            groups
                .insert(Vec::new(), Group { accumulators: accumulators.collect(), sample: vec![] });
        }
        // Either there are groups or rows: none of these rows is there yet.
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        for group in groups.into_values() {
            watch.next_row();
            let aggregates: Vec<_> =
                group.accumulators.into_iter().map(Accumulator::finish).collect();
            let slots = group.sample.iter().map(Option::as_ref).collect();
            let row = Row { slots, aggregates: &aggregates, watch };
            if let Some(value) = eval::project(&select.projection, &row) {
                let text = value.to_string().into_bytes();
                if !select.distinct || seen.insert(text.clone()) {
                    if self.hold(HELD_ROW_BYTES + text.len()).is_break() {
                        return;
                    }
                    let key = RowKey { sort: vec![], tie: 0, row: rows.len() as u32, number: 0 };
                    rows.push((key, text));
                }
            }
        }
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (total, start) = (rows.len(), self.plan.query.offset + self.taken);
        for (_, rendered) in rows.into_iter().skip(start).take(self.page_items) {
            if self.page.results.len() >= MAX_PAGE_BYTES {
                break;
            }
            self.push(&rendered);
        }
        let limit =
            plan.query.top.unwrap_or(usize::MAX).min(plan.query.limit.unwrap_or(usize::MAX));
        if self.page.count > 0 && self.taken < limit && start + self.page.count < total {
            self.last = Some(RowKey { sort: vec![], tie: 0, row: 0, number: 0 });
            self.set_continuation();
        }
    }

    fn push(&mut self, rendered: &[u8]) {
        if self.page.count > 0 {
            self.page.results.push(b',');
        }
        self.page.results.extend_from_slice(rendered);
        self.page.count += 1;
        self.taken += 1;
    }

    fn set_continuation(&mut self) {
        let tag = self.plan.access.tag();
        self.page.continuation = self.last.as_ref().map(|last| {
            Continuation::new(tag, self.taken, &last.sort, last.number, last.row).text()
        });
    }
}
