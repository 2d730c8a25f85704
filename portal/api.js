/**
 * @file The HTTP API as these pages use it: the shapes on the wire, one way to ask, and every way of
 * going wrong as one {@link Problem} (RFC 9457). Knows nothing of the pages.
 */

/** @typedef {'inventory' | 'billing' | 'notification'} Service */
/** @typedef {{ sku: string, name: string, unitPriceMinor: number, currency: string, available: number }} Product */
/** @typedef {{ sku: string, quantity: number, unitPriceMinor: number }} Item */
/** @typedef {{ customerId: string, currency: string, items: { sku: string, quantity: number }[], faults?: Record<string, string> }} NewOrder */
/** @typedef {{ attempt?: number, calls?: number, outcome?: string | null, error?: string | null, owner?: string | null, leaseUntil?: number, handedOverAt?: string, unwound?: boolean, updatedAt?: string | null }} Stage */
/** @typedef {{ at: string, service?: string | null, what: string, attempt?: number, since?: string, note?: string }} HistoryEntry */
/** @typedef {{ at: string, notice: string, subject: string, text: string }} Message */
/**
 * @typedef {object} Order
 * @property {string} orderId
 * @property {string} customerId
 * @property {string} currency
 * @property {number} totalMinor
 * @property {string} createdAt RFC 3339
 * @property {string} correlationId
 * @property {string} overall
 * @property {Partial<Record<Service, string>>} status
 * @property {Partial<Record<Service, Stage>>} [stage]
 * @property {Item[]} items
 * @property {{ at: string }} [cancellation]
 * @property {Record<string, string>} [faults]
 * @property {HistoryEntry[]} [history] only when one order is asked for
 * @property {Message[]} [messages] what the customer was told; only when one order is asked for
 */
/** @typedef {{ pointer: string, code?: string, detail?: string }} FieldError */
/** @typedef {{ status: number, body: any, etag: string | null, tookMs: number }} Answer */

/** Longer than the API's own deadlines, so that its answer wins over ours. */
const WRITE_TIMEOUT_MS = 60_000;

/** A read that takes longer is as good as lost; the next one asks again. */
const READ_TIMEOUT_MS = 10_000;

/** What went wrong: the server's problem document, or its absence. */
export class Problem extends Error {
  /**
   * @param {string} title
   * @param {{ status?: number, type?: string, detail?: string, traceId?: string, errors?: FieldError[], retryAfterMs?: number }} [more] status 0 when there was no answer at all
   */
  constructor(title, { status = 0, type, detail, traceId, errors, retryAfterMs } = {}) {
    super(title);
    this.name = 'Problem';
    this.title = title;
    this.status = status;
    this.type = type;
    this.detail = detail;
    this.traceId = traceId;
    this.errors = Array.isArray(errors) ? errors : [];
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may succeed later, and whether it may have succeeded already. */
  get isTransient() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** @param {unknown} error @returns {Problem} */
export const asProblem = (error) => (error instanceof Problem ? error : new Problem('This page failed', { detail: String(error) }));

/**
 * @param {string} path
 * @param {{ etag?: string | null, signal?: AbortSignal }} [more]
 */
export const get = (path, { etag, signal } = {}) => call(path, { headers: etag ? { 'if-none-match': etag } : {} }, READ_TIMEOUT_MS, signal);

/** @param {string} path @param {unknown} [body] @param {Record<string, string>} [headers] */
export const post = (path, body = {}, headers = {}) =>
  call(path, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: typeof body === 'string' ? body : JSON.stringify(body) }, WRITE_TIMEOUT_MS);

/** @param {string} id @param {string} [rest] */
export const orderPath = (id, rest = '') => `/api/orders/${encodeURIComponent(id)}${rest}`;

/**
 * Submits an order. A refusal for the moment (too many, too slow) is waited for and tried again
 * under the same key, so that nothing is ordered twice.
 * @param {NewOrder} order
 * @param {string} [key] the same for every retry of the same submit
 * @returns {Promise<{ orderId: string, tookMs: number }>} `tookMs` from sending to the status line
 */
export async function submit(order, key = newKey()) {
  for (let tries = 1; ; tries += 1) {
    try {
      const { body, tookMs } = await post('/api/orders', order, { 'idempotency-key': key });
      return { orderId: body.orderId, tookMs };
    } catch (error) {
      const { status, retryAfterMs = 1000 } = asProblem(error);
      if ((status !== 429 && status !== 503) || tries === SENDS_MAX) throw error;
      await new Promise((resolve) => setTimeout(resolve, retryAfterMs));
    }
  }
}

/** Sends of one submit while the server asks to wait. */
const SENDS_MAX = 5;

/**
 * Asks until there is an answer, and no more.
 * @param {() => Promise<boolean>} ask
 */
function once(ask) {
  /** @type {Promise<boolean> | undefined} */
  let asked;
  return () => {
    const answer = (asked ??= ask());
    answer.catch(() => (asked = undefined));
    return answer;
  };
}

/** Whether a stack on this desk is behind the API, which knows its processes. */
export const isLocal = once(() => get('/api/ops/system').then(({ body }) => body.local));

/** Whether failures may be ordered here. */
export const areFaultsAllowed = once(() => get('/api/products').then(({ body }) => body.faultsAllowed));

export const newKey = () => crypto.randomUUID();

/** @param {string} path @param {RequestInit} request @param {number} timeoutMs @param {AbortSignal} [signal] @returns {Promise<Answer>} */
async function call(path, request, timeoutMs, signal) {
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
    throw new Problem('The server cannot be reached', { detail: 'Is the stack running? Start it with ./scripts/up; this page goes on by itself.' });
  }
}

/** @param {Response} response */
async function problemOf(response) {
  /** @type {any} */
  const body = await response.json().catch(() => undefined);
  const title = body?.title ?? (response.status === 401 ? 'Your sign-in has ended.' : `The server answered ${response.status}.`);
  const seconds = Number(response.headers.get('retry-after') ?? NaN);
  return new Problem(title, { ...body, status: response.status, ...(seconds >= 0 && { retryAfterMs: seconds * 1000 }) });
}
