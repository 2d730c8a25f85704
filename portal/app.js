/**
 * @file The frame around the pages: which one is shown, the menu, the sign of the connection, keys,
 * and what is said to people who do not see the screen.
 */

import { get, isLocal } from './api.js';
import { attribute, fill, fillIf, h, icon, say, trouble } from './dom.js';
import { ORDERS_MAX, link, listen, loaded, orders, resume } from './feed.js';
import { go, start } from './route.js';
import { overallOf, sealedOf, shortId } from './words.js';

/** Explanations of problems live below this path; all are on one page. */
const PROBLEMS = '/problems/';

/** Path to the title, the element, and the module that defines it. @type {Record<string, [string, string, string]>} */
const PAGES = {
  '/': ['Shop', 'shop-page', './shop.js'],
  '/orders': ['Orders', 'orders-page', './orders.js'],
  '/dead-letters': ['Dead letters', 'letters-page', './letters.js'],
  '/system': ['System', 'system-page', './system.js'],
  '/lab': ['Lab', 'lab-page', './lab.js'],
  '/logs': ['Logs', 'logs-page', './logs.js'],
  '/contract': ['API', 'contract-page', './contract.js'],
  '/order': ['Order', 'order-page', './order.js'],
};

/** @type {Record<string, [string, string]>} */
const SIGNS = { connecting: ['polling', 'Connecting'], live: ['polling', 'Live'], polling: ['retry', 'Polling'], offline: ['offline', 'Offline'], paused: ['pause', 'Paused'] };

/** Announcements are gathered this long, so that three services finishing make one sentence. */
const ANNOUNCE_AFTER_MS = 1_000;

/** How often the page looks whether its files were written, where somebody works on them. */
const FILES_EVERY_MS = 1_500;

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const main = byId('main');

/** Whether any page was: the first one leaves the focus where the browser puts it. */
let shown = false;

/** On a phone the menu is wider than the screen. */
const showEntry = () => document.querySelector('nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
addEventListener('resize', showEntry);

/** @param {boolean} isOther */
async function show(isOther) {
  const place = location.pathname.startsWith(PROBLEMS) ? '/contract' : location.pathname;
  const [title, element, module] = PAGES[place] ?? ['Shop', 'shop-page', './shop.js'];
  document.title = `${title} · Bulkhead`;
  for (const anchor of document.querySelectorAll('nav a')) attribute(anchor, 'aria-current', anchor.getAttribute('href') === place && 'page');
  showEntry();
  const page = /** @type {any} */ (main.firstElementChild);
  if (!isOther && page?.localName === element) return page.refresh?.();
  const path = location.pathname;
  try {
    await import(module);
  } catch {
    return fill(main, h('h1', {}, title), h('p', {}, 'This page could not be loaded. '), h('a', { href: location.href, target: '_top' }, 'Try again'));
  }
  if (path !== location.pathname) return;
  fill(main, document.createElement(element));
  if (isOther && shown) main.focus({ preventScroll: true });
  shown = true;
}

/** The last word about each order, until it is said. @type {Map<string, string>} */
const waiting = new Map();

/** Says something to people who do not see the page. @param {string} id @param {string} word */
function announce(id, word) {
  const isFirst = waiting.size === 0;
  waiting.set(id, `Order ${shortId(id)}: ${word}.`);
  if (!isFirst) return;
  setTimeout(() => {
    say(byId('announcer'), waiting.size > 3 ? `${waiting.size} orders changed.` : [...waiting.values()].join(' '));
    waiting.clear();
  }, ANNOUNCE_AFTER_MS);
}

/** What was said of an order, or would have been. @type {Map<string, string>} */
const told = new Map();

/** Older orders come page by page when the list is read; that they are there is no news. */
let newest = '';
let wasLoaded = false;

listen((changed) => {
  const known = wasLoaded && newest;
  wasLoaded = loaded;
  for (const id of changed) {
    const order = orders.get(id);
    if (!order) continue;
    const { word } = overallOf(order);
    const isNews = told.has(id) ? told.get(id) !== word : known && order.createdAt > known;
    if (isNews) announce(id, word);
    told.set(id, word);
    if (order.createdAt > newest) newest = order.createdAt;
  }
  if (told.size > 2 * ORDERS_MAX) for (const id of told.keys()) if (!orders.has(id)) told.delete(id);
  const sealed = [...orders.values()].filter((order) => sealedOf(order).length > 0).length;
  attribute(byId('sealed'), 'hidden', sealed === 0);
  fillIf(byId('sealed'), sealed, () => [String(sealed), h('span', { class: 'unseen' }, ' orders wait')]);
  const { state, problem } = link;
  const [picture, word] = SIGNS[state] ?? ['unknown', state];
  attribute(byId('link'), 'data-state', state);
  fillIf(byId('link'), state, () => [icon(picture), h('span', {}, word), state !== 'live' && state !== 'connecting' && h('button', { type: 'button', class: 'quiet', onclick: resume }, state === 'offline' ? 'Retry now' : state === 'paused' ? 'Resume' : 'Go live')]);
  fillIf(byId('banner'), problem && [problem.title, problem.status], () => (problem ? [trouble(problem)] : []));
});

addEventListener('keydown', (event) => {
  const target = event.target instanceof Element ? event.target : main;
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest('input:not([type=checkbox],[type=range]), textarea, select, dialog')) return;
  const path = Object.keys(PAGES)[Number(event.key) - 1];
  if (path && path !== '/order') go(path);
  else if (event.key === '/') document.getElementById('search')?.focus();
  else if (event.key === '?') /** @type {HTMLDialogElement} */ (byId('help')).showModal();
  else return;
  event.preventDefault();
});

/** Reloads the page when its own files change, if the stack says that somebody works on them. */
async function followFiles(version = '') {
  if (!(await isLocal().catch(() => false))) return;
  const files = await get('/api/ops/local/portal').catch(() => undefined);
  if (!files?.body.watch) return;
  if (version && version !== files.body.version) location.reload();
  setTimeout(followFiles, FILES_EVERY_MS, files.body.version);
}

start(show, (path) => path in PAGES || path.startsWith(PROBLEMS));
void show(true);
setTimeout(followFiles, FILES_EVERY_MS);
