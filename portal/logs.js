/** @file What the processes print: a structured tail that is filtered by a click on what it shows. */

import { asProblem, get, isLocal } from './api.js';
import { attribute, button, empty, fill, fillIf, h, keyed, trouble } from './dom.js';
import { query, setQuery } from './route.js';
import { shortId } from './words.js';

/** @typedef {{ seq: number, at: string, app: string, level: string, message: string, orderId?: string, fields?: Record<string, unknown> }} LogRecord */

const ASK_EVERY_MS = 1_000;

/** Lines in the page. */
const LINES = 300;

const FILTERS = ['text', 'app', 'level', 'order'];

/** What to ask Application Insights for the same, where the stack does not keep lines. */
const KQL = 'union traces, exceptions | where timestamp > ago(1h) | where message contains "<order id>" | order by timestamp desc';

/** @param {LogRecord} record */
export const recordLine = ({ at, app, level, message, orderId, fields }) =>
  h(
    'li',
    { 'data-level': level },
    h('time', { class: 'figure muted' }, at.slice(11, 23)),
    h('a', { href: `/logs?app=${app}` }, app),
    h('span', { class: 'level' }, level),
    h('span', { class: 'message' }, message, ...Object.entries(fields ?? {}).map(([name, value]) => h('span', { class: 'muted' }, ` ${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`))),
    orderId && h('a', { href: `/logs?order=${orderId}`, title: orderId }, shortId(orderId)),
  );

export class LogsPage extends HTMLElement {
  #timer = 0;
  #tools = h('div', { class: 'toolbar' });
  #lines = h('ol', { class: 'log panel', role: 'list', tabindex: '0', 'aria-label': 'Log lines, newest first' });
  #notice = h('div');
  #inputs = {
    text: h('input', { type: 'search', id: 'search', placeholder: 'Any text or id', 'aria-label': 'Text' }),
    app: h('select', { 'aria-label': 'App' }, ...['', 'order-api', 'inventory', 'billing', 'payments', 'notification', 'outbox', 'bus', 'cosmos', 'queue', 'grid', 'bank', 'subscriber'].map((app) => h('option', { value: app }, app || 'Every app'))),
    level: h('select', { 'aria-label': 'Level' }, ...[['', 'Every level'], ['warn', 'Warnings and errors'], ['error', 'Errors']].map(([value, word]) => h('option', { value }, word))),
    order: h('input', { placeholder: 'Order id', 'aria-label': 'Order id' }),
  };

  connectedCallback() {
    fill(this, h('div', { class: 'head' }, h('h1', {}, 'Logs')), this.#tools, this.#notice, this.#lines);
    fill(this.#tools, ...Object.values(this.#inputs), button('Show all', () => this.#clear(), { class: 'quiet' }));
    this.addEventListener('input', () => this.#filter());
    this.refresh();
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
  }

  refresh() {
    for (const [name, input] of Object.entries(this.#inputs)) input.value = query(name);
    void this.#read();
  }

  #clear() {
    for (const input of Object.values(this.#inputs)) input.value = '';
    this.#filter();
  }

  #filter() {
    setQuery(Object.fromEntries(Object.entries(this.#inputs).map(([name, { value }]) => [name, value.trim()])));
    void this.#read();
  }

  /** Where the lines are kept instead. */
  #lead() {
    for (const part of [this.#tools, this.#lines]) attribute(part, 'hidden', true);
    fill(this.#notice, empty('The logs are in Application Insights.', 'Only a stack on a desk keeps its lines here. Ask there for the same:', h('pre', { tabindex: '0' }, KQL)));
  }

  async #read() {
    clearTimeout(this.#timer);
    const asked = FILTERS.flatMap((name) => (query(name) ? [`${name}=${encodeURIComponent(query(name))}`] : [])).join('&');
    try {
      if (!(await isLocal())) return this.#lead();
      const { body } = await get(`/api/ops/local/logs?limit=${LINES}&${asked}`);
      keyed(this.#lines, body.records.reverse(), (/** @type {LogRecord} */ { seq }) => String(seq), recordLine);
      fillIf(this.#notice, [asked, body.records.length], () => (body.records.length ? [] : [empty('No line fits.', asked ? 'Take a filter away, or wait: lines appear as they are printed.' : 'Order something, and the services will talk.')]));
    } catch (error) {
      const problem = asProblem(error);
      fillIf(this.#notice, problem.title, () => [trouble(problem, 'The logs cannot be read.')]);
    }
    if (this.isConnected) this.#timer = window.setTimeout(() => this.#read(), ASK_EVERY_MS);
  }
}

customElements.define('logs-page', LogsPage);
