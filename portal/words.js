/**
 * @file The vocabulary of the page: what a status is called and which icon stands for it, how
 * money, times and durations are written. Knows nothing of the network and nothing of the DOM.
 */

/** @typedef {import('./api.js').Order} Order */
/** @typedef {import('./api.js').Service} Service */
/** @typedef {{ word: string, icon: string, tone: 'idle' | 'busy' | 'good' | 'bad', settled: boolean }} Status */

const LOCALE = 'en';

/** The compartments, in the order in which they are drawn. */
export const SERVICES = /** @type {readonly Service[]} */ (['inventory', 'billing', 'notification']);

/** The compartments whose work is undone when an order cannot go on. A customer cannot be un-told. @type {readonly Service[]} */
const UNDOABLE = ['inventory', 'billing'];

/** @type {Record<string, Status>} */
const STATUSES = {
  pending: { word: 'Pending', icon: 'pending', tone: 'idle', settled: false },
  processing: { word: 'Processing', icon: 'processing', tone: 'busy', settled: false },
  done: { word: 'Done', icon: 'done', tone: 'good', settled: true },
  failed: { word: 'Failed', icon: 'failed', tone: 'bad', settled: true },
  'dead-lettered': { word: 'Dead-lettered', icon: 'sealed', tone: 'bad', settled: true },
  released: { word: 'Released', icon: 'undone', tone: 'idle', settled: true },
  refunded: { word: 'Refunded', icon: 'undone', tone: 'idle', settled: true },
};

/** @type {Record<string, Status>} */
const OVERALLS = {
  accepted: { word: 'Accepted', icon: 'accepted', tone: 'busy', settled: false },
  completed: { word: 'Completed', icon: 'done', tone: 'good', settled: true },
  failed: { word: 'Failed', icon: 'failed', tone: 'bad', settled: true },
  cancelled: { word: 'Cancelled', icon: 'undone', tone: 'idle', settled: true },
};

/** @type {Record<string, { word: string, icon: string, tone: Status['tone'] }>} */
const HAPPENINGS = {
  accepted: { word: 'accepted', icon: 'accepted', tone: 'busy' },
  'attempt-failed': { word: 'failed', icon: 'retry', tone: 'bad' },
  'retry-scheduled': { word: 'failed', icon: 'retry', tone: 'bad' },
  'handed-over': { word: 'handed over to the payments queue', icon: 'accepted', tone: 'busy' },
  'dead-lettered': { word: 'dead-lettered', icon: 'sealed', tone: 'bad' },
  done: { word: 'done', icon: 'done', tone: 'good' },
  failed: { word: 'failed', icon: 'failed', tone: 'bad' },
  released: { word: 'released', icon: 'undone', tone: 'idle' },
  refunded: { word: 'refunded', icon: 'undone', tone: 'idle' },
  'cancel-requested': { word: 'cancellation requested', icon: 'undone', tone: 'busy' },
  completed: { word: 'completed', icon: 'done', tone: 'good' },
  'order-failed': { word: 'failed and undone', icon: 'failed', tone: 'bad' },
  cancelled: { word: 'cancelled and undone', icon: 'undone', tone: 'idle' },
};

/**
 * A status that this page has not heard of is shown as it is: a newer server must not blank it.
 * @param {string | undefined} raw
 * @returns {Status}
 */
const unheardOf = (raw) => ({ word: capital(raw ?? 'unknown'), icon: 'unknown', tone: 'idle', settled: false });

/** @param {string | undefined} raw */
export const statusOf = (raw) => STATUSES[raw ?? ''] ?? unheardOf(raw);

/**
 * Where a service stands; one that processes but waits to go on says for what.
 * @param {Order} order
 * @param {Service} service
 * @returns {Status}
 */
export function stateOf(order, service) {
  const status = statusOf(order.status[service]);
  const { leaseUntil, error, handedOverAt, updatedAt } = order.stage?.[service] ?? {};
  if (order.status[service] !== 'processing' || leaseUntil !== 0) return status;
  // Whoever takes the payment from its queue touches the stage.
  if (handedOverAt && handedOverAt === updatedAt) return { ...status, word: 'In payments queue', icon: 'pending' };
  return error ? { ...status, word: 'Waits to retry', icon: 'pending' } : status;
}

/**
 * The roll-up as the store has it; but an order that is being undone, or that nobody works on any
 * more although a part of it is sealed, does not look as if it were on its way.
 * @param {Order} order
 * @returns {Status}
 */
export function overallOf(order) {
  const done = doneOf(order).length;
  if (isUndoing(order)) return { word: order.cancellation ? 'Cancelling' : 'Being undone', icon: 'undone', tone: 'busy', settled: false };
  if (order.overall === 'accepted' && isSettled(order) && done < SERVICES.length) return { ...statusOf('dead-lettered'), word: `${done} of ${SERVICES.length} done` };
  return OVERALLS[order.overall] ?? unheardOf(order.overall);
}

/** @param {string} raw */
export const happeningOf = (raw) =>
  HAPPENINGS[raw] ?? { word: raw.replaceAll('-', ' '), icon: 'unknown', tone: 'idle' };

/** @param {Order} order */
const doneOf = (order) => SERVICES.filter((service) => order.status[service] === 'done');

/** The service whose answer was no. @param {Order} order */
const refuserOf = (order) => SERVICES.find((service) => order.status[service] === 'failed');

/** Whether the order cannot go on, so that what was done for it is undone. @param {Order} order */
const isUnwinding = (order) => Boolean(order.cancellation) || refuserOf(order) !== undefined;

/** Whether that is going on. @param {Order} order */
const isUndoing = (order) => order.overall === 'accepted' && isUnwinding(order);

/** Whether the order has its last roll-up. @param {Order} order */
export const isClosed = (order) => OVERALLS[order.overall]?.settled === true;

/** Whether the store would take a cancellation, as far as one can see: nobody has set out to charge. @param {Order} order */
export const isCancellable = (order) => order.overall === 'accepted' && !isUnwinding(order) && (order.stage?.billing?.calls ?? 0) === 0;

/** Whether every service has come to an end, good or bad. @param {Order} order */
export const isSettled = (order) =>
  SERVICES.every((service) => {
    const raw = order.status[service];
    if (!isUnwinding(order) || !UNDOABLE.includes(service)) return statusOf(raw).settled;
    return raw === 'released' || raw === 'refunded' || (raw === 'failed' && order.stage?.[service]?.unwound !== false);
  });

/** Whether a change is to be expected soon: work that goes on, or the closing roll-up. @param {Order} order */
export const isMoving = (order) => !isSettled(order) || isUndoing(order) || (order.overall === 'accepted' && doneOf(order).length === SERVICES.length);

/** @param {string} text */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What a server says, as a sentence of its own. @param {...(string | undefined)} texts */
export const sentences = (...texts) => texts.flatMap((text) => (text ? [/[.!?]$/.test(text) ? capital(text) : `${capital(text)}.`] : [])).join(' ');

/** A business answer such as `out_of_stock`, for people. @param {string} code */
export const reason = (code) => code.replaceAll('_', ' ');

/** @param {string[]} words */
export const enumerate = (words) => new Intl.ListFormat(LOCALE).format(words);

/**
 * @param {number} count
 * @param {string} singular
 */
export const counted = (count, singular) => `${number(count)} ${singular}${count === 1 ? '' : 's'}`;

/** @param {number} value */
export const number = (value) => new Intl.NumberFormat(LOCALE).format(value);

/**
 * @param {number} minor an amount in the smallest unit of the currency
 * @param {string} currency ISO 4217
 */
export function money(minor, currency) {
  try {
    const format = new Intl.NumberFormat(LOCALE, { style: 'currency', currency });
    return format.format(minor / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
  } catch {
    return `${number(minor)} ${currency} (minor units)`;
  }
}

/**
 * Three significant digits at most: `8.4 ms`, `132 ms`, `1.32 s`, `2 min 5 s`.
 * @param {number} ms
 */
export function duration(ms) {
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 9995) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/**
 * @param {number} at milliseconds since 1970
 * @param {number} now
 */
export function ago(at, now) {
  const seconds = Math.max(0, Math.floor((now - at) / 1000));
  if (Number.isNaN(seconds)) return 'at an unknown time';
  if (seconds < 2) return 'just now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Intl.DateTimeFormat(LOCALE, { dateStyle: 'medium' }).format(at);
}

/** @param {number} at milliseconds since 1970 */
export function exact(at) {
  if (Number.isNaN(at)) return '';
  return new Intl.DateTimeFormat(LOCALE, {
    year: 'numeric',
    month: 'short',
    day: 'numeric',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    fractionalSecondDigits: 3,
    hour12: false,
    timeZoneName: 'short',
  }).format(at);
}

/** Enough of an id to tell orders apart at a glance; the whole id is in the title and the details. */
export const shortId = (/** @type {string} */ id) => (id.length > 12 ? id.slice(0, 8) : id);

/**
 * What one service has to say about its trouble, or nothing.
 * @param {Order} order
 * @param {Service} service
 * @returns {string | undefined}
 */
export function troubleOf(order, service) {
  const status = order.status[service];
  const { attempt = 1, error, leaseUntil = 0, outcome } = order.stage?.[service] ?? {};
  if (status === 'done' || (!error && statusOf(status).tone !== 'bad')) return undefined;
  const why = error ? `: ${error}` : '';
  if (status === 'dead-lettered') return `dead-lettered after ${counted(attempt, 'attempt')}${why}`;
  if (status === 'failed') return outcome ? `failed: ${reason(outcome)}` : 'failed';
  // While an attempt holds its lease, the error is that of the one before.
  return `attempt ${leaseUntil > 0 ? attempt - 1 : attempt} failed${why}`;
}

/**
 * One sentence about where an order stands.
 * @param {Order} order
 */
export function verdict(order) {
  const who = refuserOf(order);
  const why = order.cancellation ? 'Cancelled' : who && `${capital(who)} said no: ${reason(order.stage?.[who]?.outcome ?? 'no reason given')}`;
  if (why) {
    const refunded = order.status.billing === 'refunded' ? ', what was paid went back' : ', nothing is owed';
    return isUndoing(order) ? `${why}. What was done for the order is being undone.` : `${why}. Nothing is reserved${refunded}.`;
  }
  const sealed = SERVICES.filter((service) => order.status[service] === 'dead-lettered');
  const done = doneOf(order);
  const open = SERVICES.filter((service) => !statusOf(order.status[service]).settled);
  const is = (/** @type {readonly string[]} */ who) => (who.length === 1 ? 'is' : 'are');
  if (done.length === SERVICES.length) return 'All three services finished on their own.';
  const parts = [];
  if (sealed.length > 0) parts.push(`${enumerate(sealed)} ${is(sealed)} sealed off`);
  if (open.length > 0) parts.push(`${enumerate(open)} ${is(open)} still at work`);
  if (done.length > 0) parts.push(sealed.length > 0 ? `${enumerate(done)} carried on and finished` : `${enumerate(done)} ${is(done)} done`);
  return `${capital(parts.join('; '))}.`;
}

/**
 * How long the services took, by the server's clock, once nothing is to be expected of them.
 * @param {Order} order
 * @returns {number | undefined} milliseconds
 */
export function workMs(order) {
  if (isMoving(order)) return undefined;
  const ends = SERVICES.map((service) => Date.parse(order.stage?.[service]?.updatedAt ?? ''));
  const took = Math.max(...ends) - Date.parse(order.createdAt);
  return took >= 0 ? took : undefined;
}
