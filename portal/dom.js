/**
 * @file The few lines that stand between the pages and the DOM. Text only ever becomes text nodes:
 * there is no path from data to markup.
 */

import { ago, exact } from './words.js';

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Makes an element. `on…` properties become listeners, the others attributes.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else attribute(element, name, /** @type {any} */ (value));
  }
  element.append(...present(children));
  return element;
}

/** @param {Child[]} children */
const present = (children) => children.filter((child) => child || child === 0).map((child) => (child instanceof Node ? child : String(child)));

/**
 * `false`, `null` and `undefined` take the attribute away; `true` is empty, or `"true"` in ARIA.
 * @param {Element} element
 * @param {string} name
 * @param {string | number | boolean | null | undefined} value
 */
export function attribute(element, name, value) {
  if (value === false || value === null || value === undefined) element.removeAttribute(name);
  else {
    const text = value === true && !name.startsWith('aria-') ? '' : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/** Leaves the node alone when it already says so, so that nothing is announced or selected anew. @param {Node} node @param {string} text */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** What {@link fillIf} drew last, by element. @type {WeakMap<Element, string>} */
const drawn = new WeakMap();

/** @param {Element} parent @param {...Child} children */
export function fill(parent, ...children) {
  drawn.delete(parent);
  parent.replaceChildren(...present(children));
}

/**
 * Fills an element anew if what it shows has changed, so that focus and selection survive a poll.
 * @param {Element} parent
 * @param {unknown} shown
 * @param {() => Child[]} make
 */
export function fillIf(parent, shown, make) {
  const look = JSON.stringify(shown);
  if (drawn.get(parent) === look) return;
  fill(parent, ...make());
  drawn.set(parent, look);
}

/** @param {string} name @param {Record<string, string | number>} attributes @param {...Node} children */
export function svg(name, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

/** @param {string} name a symbol of icons.svg */
export const icon = (name) => svg('svg', { class: `icon icon-${name}`, 'aria-hidden': 'true' }, svg('use', { href: `/icons.svg#${name}` }));

/** An icon and a word, in a tone: the tone alone never tells. @param {{ word: string, icon: string, tone: string }} state */
export const chip = ({ word, icon: picture, tone }) => h('span', { class: 'chip', 'data-tone': tone }, icon(picture), h('span', {}, word));

/**
 * Makes `parent` hold one element per item, in order. Elements are kept, moved only when they
 * must be, so that focus, scroll position and running animations survive.
 * @template Item
 * @template {Element} Row
 * @param {Element} parent
 * @param {readonly Item[]} items
 * @param {(item: Item) => string} keyOf
 * @param {(item: Item) => Row} create
 * @param {(row: Row, item: Item) => void} [update]
 */
export function keyed(parent, items, keyOf, create, update = () => {}) {
  const rows = /** @type {Map<string | null, Row>} */ (new Map([...parent.children].map((row) => [row.getAttribute('data-key'), /** @type {Row} */ (row)])));
  const wanted = new Set(items.map(keyOf));
  for (const [key, row] of rows) if (key === null || !wanted.has(key)) row.remove();
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let row = rows.get(key);
    if (!row) {
      row = create(item);
      row.setAttribute('data-key', key);
    }
    if (row === at) at = at.nextElementSibling;
    else parent.insertBefore(row, at);
    update(row, item);
  }
}

/** How often relative times are looked at again. */
const TICK_MS = 1_000;

/** @param {string} iso */
export function relativeTime(iso) {
  const at = Date.parse(iso);
  return h('time', { datetime: iso, title: exact(at) }, ago(at, Date.now()));
}

setInterval(() => {
  if (document.hidden) return;
  for (const time of document.querySelectorAll('time[datetime]')) say(time, ago(Date.parse(time.getAttribute('datetime') ?? ''), Date.now()));
}, TICK_MS);

/** @param {string} label @param {(event: Event) => void} onclick @param {Record<string, unknown>} [more] @param {string} [picture] */
export const button = (label, onclick, more = {}, picture = '') => h('button', { type: 'button', onclick, ...more }, picture && icon(picture), h('span', {}, label));

/**
 * A button that copies a text and says that it did.
 * @param {string} label
 * @param {() => string} text
 */
export function copyButton(label, text) {
  const copy = button(
    label,
    async () => {
      const word = /** @type {Element} */ (copy.lastElementChild);
      try {
        await navigator.clipboard.writeText(text());
        say(word, 'Copied');
      } catch {
        say(word, 'Copying is not allowed here');
      }
      setTimeout(() => say(word, label), 2 * TICK_MS);
    },
    { class: 'quiet' },
    'copy',
  );
  return copy;
}

/**
 * Asks before something is done that cannot be taken back; whether to go on.
 * @param {string} title
 * @param {string} text
 * @param {string} word what the button says that goes on
 * @returns {Promise<boolean>}
 */
export const sure = (title, text, word) =>
  new Promise((resolve) => {
    const dialog = h(
      'dialog',
      { 'aria-labelledby': 'sure', onclose: () => (dialog.remove(), resolve(dialog.returnValue === word)) },
      h('h2', { id: 'sure' }, title),
      h('p', {}, text),
      h('form', { method: 'dialog', class: 'actions' }, h('button', { class: 'primary', value: word }, word), h('button', { class: 'quiet' }, 'Leave it')),
    );
    document.body.append(dialog);
    dialog.showModal();
  });

/** A request as a line for a terminal. @param {string} method @param {string} path @param {unknown} [body] */
export function curl(method, path, body) {
  const json = JSON.stringify(body)?.replaceAll("'", "'\\''");
  const data = json === undefined ? [] : ["-H 'content-type: application/json'", `-d '${json}'`];
  return [`curl -i -X ${method} '${location.origin}${path}'`, ...data].join(' \\\n  ');
}

/** @param {string} title @param {...Child} more what to do about it */
export const empty = (title, ...more) => h('div', { class: 'empty' }, h('p', {}, h('strong', {}, title)), ...more.map((part) => (part instanceof Element ? part : part && h('p', {}, part))));

/**
 * What went wrong, field by field where the server says so.
 * @param {import('./api.js').Problem} problem
 * @param {string} [what] what could not be done
 */
export const trouble = (problem, what = '') =>
  h(
    'div',
    { class: 'alert', role: 'alert' },
    icon('warning'),
    h(
      'div',
      {},
      h('p', {}, h('strong', {}, what || problem.title), problem.status ? h('span', { class: 'muted' }, ` ${problem.status}`) : null),
      what && h('p', {}, problem.title),
      problem.detail && h('p', {}, problem.detail),
      problem.status === 401 && h('p', {}, h('a', { href: location.href, target: '_top' }, 'Reload to sign in again')),
      problem.type?.startsWith('/problems/') && h('p', {}, h('a', { href: problem.type }, 'What this means')),
      problem.errors.length > 0 && h('ul', {}, ...problem.errors.map(({ pointer, detail, code }) => h('li', {}, h('code', {}, pointer || '/'), ` ${detail ?? code ?? ''}`))),
      problem.traceId && h('p', { class: 'muted' }, 'Trace ', h('code', {}, problem.traceId)),
    ),
  );

/** Lines drawn in outline while something is on its way. @param {string} what @param {number} [lines] */
export const loading = (what, lines = 3) => h('div', { class: 'loading' }, h('p', { class: 'unseen' }, what), ...Array.from({ length: lines }, () => h('span', { class: 'bone' })));
