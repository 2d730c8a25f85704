/**
 * @file The few lines that stand between this page and the DOM. Text only ever becomes text nodes:
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
const present = (children) =>
  children.filter((child) => child !== null && child !== undefined && child !== false).map((child) => (child instanceof Node ? child : String(child)));

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

/** @param {Element} parent @param {...Child} children */
export const fill = (parent, ...children) => parent.replaceChildren(...present(children));

const SVG = 'http://www.w3.org/2000/svg';

/** @param {string} name a symbol of icons.svg */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/**
 * A bar with stretches of its width filled, each in its tone.
 * @param {...{ share: number, tone: string, from?: number }} stretches where each starts and how wide it is, between 0 and 1
 */
export function bar(...stretches) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'bar');
  svg.setAttribute('aria-hidden', 'true');
  for (const { share, tone, from = 0 } of stretches) {
    const rect = document.createElementNS(SVG, 'rect');
    // A wait that rounds to nothing still has to be seen.
    rect.setAttribute('class', tone);
    rect.setAttribute('x', `${Math.min(99.2, Math.max(0, from * 100))}%`);
    rect.setAttribute('width', `${Math.max(0.8, share * 100)}%`);
    rect.setAttribute('height', '100%');
    rect.setAttribute('rx', '2');
    svg.append(rect);
  }
  return svg;
}

/**
 * Makes `parent` hold one element per item, in order. Elements are kept, moved only when they
 * must be, so that focus, scroll position and running animations survive.
 * @template Item
 * @template {Element} Row
 * @param {Element} parent
 * @param {readonly Item[]} items
 * @param {(item: Item) => string} keyOf
 * @param {(item: Item) => Row} create
 * @param {(row: Row, item: Item) => void} update
 */
export function keyed(parent, items, keyOf, create, update) {
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

/** @param {string} iso @param {string} [prefix] */
export function relativeTime(iso, prefix = '') {
  const at = Date.parse(iso);
  return h('time', { datetime: iso, title: exact(at), 'data-prefix': prefix }, prefix + ago(at, Date.now()));
}

setInterval(() => {
  if (document.hidden) return;
  for (const time of document.querySelectorAll('time[datetime]')) {
    say(time, (time.getAttribute('data-prefix') ?? '') + ago(Date.parse(time.getAttribute('datetime') ?? ''), Date.now()));
  }
}, TICK_MS);

/**
 * A button that copies a text and says that it did.
 * @param {string} label
 * @param {() => string} text
 */
export function copyButton(label, text) {
  const word = h('span', {}, label);
  const button = h('button', { type: 'button', class: 'quiet' }, icon('copy'), word);
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(text());
      say(word, 'Copied');
    } catch {
      say(word, 'Copying is not allowed here');
    }
    setTimeout(() => say(word, label), 2 * TICK_MS);
  });
  return button;
}
