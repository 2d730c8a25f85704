/**
 * @file The order API as this page uses it: the shapes on the wire, one function per operation,
 * and every way of going wrong as one {@link Problem} (RFC 9457). Knows nothing of the page.
 */

/** @typedef {'inventory' | 'billing' | 'notification'} Service */
/** @typedef {{ sku: string, name: string, unitPriceMinor: number, currency: string, available: number }} Product */
/** @typedef {{ products: Product[], faultsAllowed?: boolean }} Catalogue */
/** @typedef {{ sku: string, quantity: number, unitPriceMinor: number }} Item */
/** @typedef {{ customerId: string, currency: string, items: Item[], faults?: Partial<Record<Service, string>> }} NewOrder */
/** @typedef {{ orderId: string, status: string, warning?: string, links: { self: string } }} Accepted */
/**
 * @typedef {object} Stage
 * @property {number} [attempt]
 * @property {number} [calls] how often somebody set out to call the bank
 * @property {string | null} [outcome] the business answer
 * @property {string | null} [error]
 * @property {number} [leaseUntil] milliseconds since 1970; 0 when nobody is at work
 * @property {string} [handedOverAt] when the payment was put into its queue
 * @property {boolean} [unwound] whether nothing is left of a failed act
 * @property {string | null} [updatedAt]
 */
/** @typedef {{ at: string, service?: string | null, what: string, attempt?: number, since?: string, note?: string }} HistoryEntry */
/** @typedef {{ at: string, notice: string, subject: string, text: string }} Message */
/** @typedef {{ eventId: string, orderId: string, eventType: string, createdAt: string, reason?: string | null }} ParkedEvent */
/** @typedef {{ orderId: string, customerId: string, createdAt: string, waitsFor: string[] }} StuckOrder */
/** @typedef {{ parkedEvents: ParkedEvent[], stuckOrders: StuckOrder[] }} Attention */
/**
 * @typedef {object} Order
 * @property {string} orderId
 * @property {string} customerId
 * @property {string} currency
 * @property {number} totalMinor
 * @property {string} createdAt RFC 3339
 * @property {string} overall
 * @property {Partial<Record<Service, string>>} status
 * @property {Partial<Record<Service, Stage>>} [stage]
 * @property {Item[]} items
 * @property {{ at: string }} [cancellation]
 * @property {HistoryEntry[]} [history] only when one order is asked for
 * @property {Message[]} [messages] what the customer was told; only when one order is asked for
 * @property {Record<string, string>} [links]
 */
/** @typedef {{ orders: Order[], next: string | null, etag: string | null }} OrderPage */
/** @typedef {{ pointer: string, code?: string, detail?: string }} FieldError */

/** Longer than the API's own deadline, so that its answer wins over ours. */
const SUBMIT_TIMEOUT_MS = 30_000;

/** A read that takes longer is as good as lost; the next poll asks again. */
const READ_TIMEOUT_MS = 10_000;

/** What went wrong: the server's problem document, or its absence. */
export class Problem extends Error {
  /**
   * @param {string} title
   * @param {object} [more]
   * @param {number} [more.status] 0 when there was no answer at all
   * @param {string} [more.type]
   * @param {string} [more.detail]
   * @param {string} [more.traceId]
   * @param {FieldError[]} [more.errors]
   * @param {number} [more.retryAfterMs]
   */
  constructor(title, more = {}) {
    super(title);
    this.name = 'Problem';
    this.title = title;
    this.status = more.status ?? 0;
    this.type = more.type;
    this.detail = more.detail;
    this.traceId = more.traceId;
    this.errors = more.errors ?? [];
    this.retryAfterMs = more.retryAfterMs;
  }

  /** Whether the same request may succeed later, and whether it may have succeeded already. */
  get isTransient() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** @param {unknown} error @returns {Problem} */
export const asProblem = (error) => (error instanceof Problem ? error : new Problem('This page failed', { detail: String(error) }));

/** @returns {Promise<Catalogue>} */
export async function getProducts() {
  const { body } = await call('/api/products');
  return { ...body, products: Array.isArray(body?.products) ? body.products : [] };
}

/**
 * @param {NewOrder} order
 * @param {string} idempotencyKey the same for every retry of the same submit
 * @returns {Promise<{ accepted: Accepted, tookMs: number }>} `tookMs` from sending to the status line
 */
export async function submitOrder(order, idempotencyKey) {
  const { body, tookMs } = await call('/api/orders', {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
    body: JSON.stringify(order),
    timeoutMs: SUBMIT_TIMEOUT_MS,
  });
  return { accepted: body, tookMs };
}

/**
 * @param {{ limit: number, after?: string, etag?: string | null, signal?: AbortSignal }} query
 * @returns {Promise<OrderPage | undefined>} nothing when the page still is what `etag` names
 */
export async function listOrders({ limit, after, etag, signal }) {
  const query = new URLSearchParams({ limit: String(limit), ...(after && { after }) });
  const answer = await call(`/api/orders?${query}`, { headers: conditional(etag), signal });
  if (answer.status === 304) return undefined;
  return { orders: answer.body?.orders ?? [], next: answer.body?.next ?? null, etag: answer.etag };
}

/**
 * @param {string} orderId
 * @param {{ etag?: string | null, signal?: AbortSignal }} [more]
 * @returns {Promise<{ order: Order, etag: string | null } | undefined>} nothing when unchanged
 */
export async function getOrder(orderId, { etag, signal } = {}) {
  const answer = await call(`/api/orders/${encodeURIComponent(orderId)}`, { headers: conditional(etag), signal });
  return answer.status === 304 ? undefined : { order: answer.body, etag: answer.etag };
}

/** Doing so again changes nothing. @param {string} orderId */
export const cancelOrder = (orderId) => call(`/api/orders/${encodeURIComponent(orderId)}/cancel`, { method: 'POST', timeoutMs: SUBMIT_TIMEOUT_MS });

/** @returns {Promise<Attention>} what does not get on by itself */
export async function getAttention() {
  const { body } = await call('/api/ops/attention');
  return { parkedEvents: body?.parkedEvents ?? [], stuckOrders: body?.stuckOrders ?? [] };
}

/** @param {string | null | undefined} etag @returns {Record<string, string>} */
const conditional = (etag) => (etag ? { 'if-none-match': etag } : {});

/**
 * @param {string} path
 * @param {{ method?: string, headers?: Record<string, string>, body?: string, timeoutMs?: number, signal?: AbortSignal }} [request]
 */
async function call(path, { timeoutMs = READ_TIMEOUT_MS, signal, ...request } = {}) {
  const deadline = AbortSignal.timeout(timeoutMs);
  const started = performance.now();
  try {
    const response = await fetch(path, {
      ...request,
      headers: { accept: 'application/json, application/problem+json', ...request.headers },
      cache: 'no-store',
      signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
    });
    const tookMs = performance.now() - started;
    if (!response.ok && response.status !== 304) throw await problemOf(response);
    const body = response.status === 304 ? undefined : await response.json();
    return { status: response.status, etag: response.headers.get('etag'), body, tookMs };
  } catch (error) {
    if (error instanceof Problem || signal?.aborted) throw error;
    if (deadline.aborted) throw new Problem(`No answer within ${timeoutMs / 1000} s`);
    if (error instanceof SyntaxError) throw new Problem('The answer is not JSON', { detail: 'Something else than the order API answered.' });
    throw new Problem('The server cannot be reached', { detail: 'Is the stack running?' });
  }
}

/** @param {Response} response */
async function problemOf(response) {
  /** @type {any} */
  const body = await response.json().catch(() => undefined);
  return new Problem(body?.title ?? `The server answered ${response.status} ${response.statusText}`.trim(), {
    ...body,
    status: response.status,
    errors: Array.isArray(body?.errors) ? body.errors : [],
    retryAfterMs: retryAfterMs(response.headers.get('retry-after')),
  });
}

/** @param {string | null} value seconds or an HTTP date */
function retryAfterMs(value) {
  if (!value) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
