//! Metrics: numbers that are added up in memory, per instrument and set of attributes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pipeline;

/// Sets of attributes of one instrument. What comes after them is counted under
/// `otel.metric.overflow`, as the OpenTelemetry specification has it: memory stays bounded
/// whatever a caller puts into an attribute.
const SERIES_MAX: usize = 128;

/// Upper bounds of the buckets of every histogram, in seconds: fine where the service levels lie
/// (20 ms and 250 ms for an acceptance, 30 s and 5 min for a completion).
pub(super) const BOUNDS_S: [f64; 17] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    3_600.0,
];

/// How long a gauge is sent after it was last set: what nobody sees any more, because a timer has
/// moved to another instance or a service does not answer, is unknown and not as it was. Longer
/// than two rounds of whoever looks once a minute.
const GAUGE_FRESH_MAX: Duration = Duration::from_secs(150);

/// What marks the series of everything beyond [`SERIES_MAX`].
const OVERFLOW: (&str, &str) = ("otel.metric.overflow", "true");

/// A name with what it measures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instrument {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) description: &'static str,
}

/// Attributes with the texts of the moment.
type Attributes<'a> = &'a [(&'static str, &'a str)];

/// Counts.
#[derive(Debug)]
pub struct Counter(Instrument);

/// Durations in seconds, by how long they were.
#[derive(Debug)]
pub struct Histogram(Instrument);

/// A number as it was last seen.
#[derive(Debug)]
pub struct Gauge(Instrument);

impl Counter {
    /// A counter; `unit` in the form of UCUM, e.g. `{order}`.
    #[must_use]
    pub const fn new(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self(Instrument { name, unit, description })
    }

    /// Counts `by` more. Does nothing while telemetry is off.
    pub fn add(&self, by: u64, attributes: Attributes<'_>) {
        if let Some(pipeline) = pipeline() {
            self.add_to(&pipeline.meter, by, attributes);
        }
    }

    pub(super) fn add_to(&self, meter: &Meter, by: u64, attributes: Attributes<'_>) {
        meter.update(
            &self.0,
            attributes,
            || Total::Count(0),
            |total| {
                if let Total::Count(count) = total {
                    *count += by;
                }
            },
        );
    }
}

impl Histogram {
    /// A histogram of seconds.
    #[must_use]
    pub const fn new(name: &'static str, description: &'static str) -> Self {
        Self(Instrument { name, unit: "s", description })
    }

    /// Notes one duration in seconds; one that is negative, as skewed clocks make them, counts as
    /// none. Does nothing while telemetry is off.
    pub fn record(&self, seconds: f64, attributes: Attributes<'_>) {
        if let Some(pipeline) = pipeline() {
            self.record_in(&pipeline.meter, seconds, attributes);
        }
    }

    pub(super) fn record_in(&self, meter: &Meter, seconds: f64, attributes: Attributes<'_>) {
        let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
        meter.update(
            &self.0,
            attributes,
            || Total::Durations(Durations::default()),
            |total| {
                if let Total::Durations(durations) = total {
                    let bucket = BOUNDS_S.iter().position(|bound| seconds <= *bound);
                    durations.buckets[bucket.unwrap_or(BOUNDS_S.len())] += 1;
                    durations.count += 1;
                    durations.sum += seconds;
                }
            },
        );
    }
}

impl Gauge {
    /// A gauge.
    #[must_use]
    pub const fn new(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self(Instrument { name, unit, description })
    }

    /// Notes the number of the moment, which is sent for `GAUGE_FRESH_MAX`. Does nothing while
    /// telemetry is off.
    pub fn set(&self, value: f64, attributes: Attributes<'_>) {
        if let Some(pipeline) = pipeline() {
            self.set_in(&pipeline.meter, value, attributes, Instant::now());
        }
    }

    fn set_in(&self, meter: &Meter, value: f64, attributes: Attributes<'_>, at: Instant) {
        let seen = Total::Last { value, at };
        meter.update(&self.0, attributes, || seen.clone(), |total| *total = seen.clone());
    }
}

/// Everything that was counted since the process began.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<BTreeMap<&'static str, Metric>>);

/// One instrument's numbers.
#[derive(Clone, Debug)]
pub(super) struct Metric {
    pub(super) instrument: Instrument,
    pub(super) series: Vec<Series>,
}

/// The number of one set of attributes.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) attributes: Vec<(&'static str, String)>,
    pub(super) total: Total,
}

#[derive(Clone, Debug)]
pub(super) enum Total {
    Count(u64),
    Durations(Durations),
    Last { value: f64, at: Instant },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Durations {
    pub(super) count: u64,
    pub(super) sum: f64,
    /// One more than there are bounds: the last has no upper one.
    pub(super) buckets: [u64; BOUNDS_S.len() + 1],
}

impl Meter {
    fn update(
        &self,
        instrument: &Instrument,
        attributes: Attributes<'_>,
        first: impl FnOnce() -> Total,
        change: impl FnOnce(&mut Total),
    ) {
        let mut metrics = self.lock();
        let metric = metrics
            .entry(instrument.name)
            .or_insert_with(|| Metric { instrument: *instrument, series: Vec::new() });
        let overflow = [OVERFLOW];
        let mut wanted = attributes;
        let position = metric.position(wanted).or_else(|| {
            if metric.series.len() < SERIES_MAX {
                return None;
            }
            wanted = &overflow;
            metric.position(wanted)
        });
        let series = match position {
            Some(position) => &mut metric.series[position],
            None => {
                let attributes = wanted.iter().map(|(name, text)| (*name, (*text).to_owned()));
                let attributes = attributes.collect();
                metric.series.push(Series { attributes, total: first() });
                let last = metric.series.len() - 1;
                &mut metric.series[last]
            }
        };
        change(&mut series.total);
    }

    /// The numbers of this moment.
    pub(super) fn snapshot(&self) -> Vec<Metric> {
        self.snapshot_at(Instant::now())
    }

    fn snapshot_at(&self, now: Instant) -> Vec<Metric> {
        let mut metrics = self.lock();
        metrics.retain(|_, metric| {
            metric.series.retain(|series| match series.total {
                Total::Last { at, .. } => now.saturating_duration_since(at) <= GAUGE_FRESH_MAX,
                Total::Count(_) | Total::Durations(_) => true,
            });
            !metric.series.is_empty()
        });
        metrics.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Metric>> {
        // Nothing that holds the lock can leave a number half-written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metric {
    fn position(&self, attributes: Attributes<'_>) -> Option<usize> {
        let same = |series: &Series| {
            series.attributes.len() == attributes.len()
                && series.attributes.iter().zip(attributes).all(|(a, b)| a.0 == b.0 && a.1 == b.1)
        };
        self.series.iter().position(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static THINGS: Counter = Counter::new("things", "{thing}", "");
    static WAITS: Histogram = Histogram::new("waits", "");

    #[test]
    fn totals_run_per_set_of_attributes() {
        let meter = Meter::default();
        THINGS.add_to(&meter, 2, &[("reason", "a")]);
        THINGS.add_to(&meter, 3, &[("reason", "b")]);
        THINGS.add_to(&meter, 4, &[("reason", "a")]);
        for seconds in [0.0, 0.02, 0.021, 4_000.0, -1.0, f64::NAN] {
            WAITS.record_in(&meter, seconds, &[]);
        }
        let [things, waits] = meter.snapshot().try_into().unwrap();
        let counts: Vec<_> = things.series.iter().map(|s| format!("{:?}", s.total)).collect();
        assert_eq!(counts, ["Count(6)", "Count(3)"]);
        let Total::Durations(durations) = &waits.series[0].total else { panic!("{waits:?}") };
        assert_eq!(durations.count, 6);
        assert_eq!(durations.buckets[0], 3, "0, -1 and NaN");
        assert_eq!((durations.buckets[4], durations.buckets[5]), (1, 1), "bounds are inclusive");
        assert_eq!(durations.buckets[BOUNDS_S.len()], 1, "longer than the last bound");
    }

    #[test]
    fn a_gauge_that_nobody_sets_any_more_is_not_sent() {
        static DEPTH: Gauge = Gauge::new("depth", "{thing}", "");
        let (meter, begun) = (Meter::default(), Instant::now());
        DEPTH.set_in(&meter, 1.0, &[("source", "a")], begun);
        DEPTH.set_in(&meter, 2.0, &[("source", "b")], begun);
        let later = begun + GAUGE_FRESH_MAX;
        DEPTH.set_in(&meter, 3.0, &[("source", "b")], later);
        assert_eq!(meter.snapshot_at(later)[0].series.len(), 2);
        let [depth] =
            meter.snapshot_at(later + Duration::from_millis(1)).try_into().expect("one gauge");
        assert!(matches!(depth.series[..], [Series { total: Total::Last { value: 3.0, .. }, .. }]));
        assert!(meter.snapshot_at(later + 2 * GAUGE_FRESH_MAX).is_empty());
    }

    #[test]
    fn attributes_without_end_take_bounded_memory() {
        let meter = Meter::default();
        for n in 0..SERIES_MAX * 3 {
            THINGS.add_to(&meter, 1, &[("reason", &n.to_string())]);
        }
        let [things] = meter.snapshot().try_into().unwrap();
        assert_eq!(things.series.len(), SERIES_MAX + 1);
        let last = things.series.last().unwrap();
        assert_eq!(last.attributes, [(OVERFLOW.0, OVERFLOW.1.to_owned())]);
        assert!(matches!(last.total, Total::Count(count) if count == 2 * SERIES_MAX as u64));
    }
}
