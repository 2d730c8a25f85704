/** @file The API: its operations from the contract that the server gives, to be tried here, and its problems explained. */

import { asProblem, get, post } from './api.js';
import { copyButton, curl, fill, h, loading, button, trouble } from './dom.js';

/** @param {any} schema @param {any} all @returns {any} something that fits, to begin with */
function example(schema, all, depth = 0) {
  if (!schema || depth > 5) return null;
  if (schema.$ref) return example(all[schema.$ref.split('/').at(-1)], all, depth + 1);
  if (schema.examples) return schema.examples[0];
  const [first] = schema.oneOf ?? schema.anyOf ?? [];
  if (first) return example(first, all, depth + 1);
  if ('const' in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.properties) return Object.fromEntries((schema.required ?? []).map((/** @type {string} */ name) => [name, example(schema.properties[name], all, depth + 1)]));
  if (schema.type === 'array') return [example(schema.items, all, depth + 1)];
  if (schema.type === 'integer') return schema.minimum ?? 1;
  return schema.type === 'boolean' ? false : 'text';
}

/** An order that can be sent as it is; the others are made up from their schemas. */
const ORDER = { customerId: 'c-demo', currency: 'EUR', items: [{ sku: 'vitamin-c', quantity: 2 }] };

/** @typedef {{ type: string, about: string, by: string[] }} Known a type of problem, and which operations answer it */

/**
 * @param {any} contract
 * @param {{ path: string, method: string, about: any }[]} operations
 * @returns {Map<string, Known>} by type
 */
function problemsOf({ components }, operations) {
  /** @type {Map<string, Known>} */
  const problems = new Map();
  const told = new Map((components.schemas.ProblemType?.oneOf ?? []).map((/** @type {any} */ { const: type, description }) => [type, description]));
  for (const { path, method, about } of operations) {
    for (const [status, answer] of Object.entries(about.responses)) {
      for (const type of Number(status) < 400 ? [] : new Set(JSON.stringify(answer).match(/\/problems\/[a-z-]+/g))) {
        const known = problems.get(type) ?? { type, about: told.get(type) ?? `${status}: ${answer.description}`, by: [] };
        known.by.push(`${method} ${path}`);
        problems.set(type, known);
      }
    }
  }
  return problems;
}

/** The problem that the address asks about. @param {Known | undefined} problem */
const asked = (problem) =>
  problem && h('section', { class: 'panel', 'aria-label': 'The problem asked about' }, h('h2', {}, h('code', {}, problem.type)), h('p', {}, problem.about), h('p', { class: 'hint' }, `Answered by ${problem.by.join(', ')}. `, h('a', { href: '/contract' }, 'All of the contract')));

export class ContractPage extends HTMLElement {
  connectedCallback() {
    void this.refresh();
  }

  /** Also when the address asks about another problem. */
  async refresh() {
    fill(this, h('h1', {}, 'API'), loading('Reading the contract', 5));
    try {
      const { body } = await get('/api/openapi.json');
      const operations = Object.entries(body.paths).flatMap(([path, methods]) => Object.entries(/** @type {any} */ (methods)).map(([method, about]) => ({ path, method: method.toUpperCase(), about })));
      const problems = problemsOf(body, operations);
      fill(
        this,
        h('h1', {}, 'API'),
        h('p', { class: 'lede' }, 'From the contract, ', h('a', { href: '/api/openapi.json' }, 'OpenAPI 3.1'), '. What you try here is done to the running system.'),
        asked(problems.get(location.pathname)),
        h('div', { class: 'panel' }, ...operations.filter(({ path }) => path.startsWith('/api') || path.endsWith('z')).map((operation) => this.#operation(operation, body.components.schemas))),
        h('h2', { id: 'problems' }, 'Problems'),
        h('dl', { class: 'facts panel' }, ...[...problems].flatMap(([type, { about }]) => [h('dt', {}, h('a', { href: type }, h('code', {}, type))), h('dd', {}, about)])),
      );
    } catch (error) {
      fill(this, h('h1', {}, 'API'), trouble(asProblem(error), 'The contract cannot be read.'));
    }
  }

  /** @param {{ path: string, method: string, about: any }} operation @param {any} schemas */
  #operation({ path, method, about }, schemas) {
    const details = h('details', {}, h('summary', {}, h('code', { class: 'method' }, method), h('code', {}, path), h('span', { class: 'muted' }, about.summary)));
    details.addEventListener('toggle', () => details.childElementCount === 1 && details.append(this.#trial(path, method, about, schemas)));
    return details;
  }

  /** @param {string} path @param {string} method @param {any} about @param {any} schemas */
  #trial(path, method, about, schemas) {
    const body = about.requestBody && h('textarea', { rows: 8, spellcheck: 'false', 'aria-label': 'Body' });
    if (body) body.value = JSON.stringify(path === '/api/orders' ? ORDER : example(about.requestBody.content['application/json'].schema, schemas), null, 2);
    const inputs = about.parameters.filter((/** @type {any} */ { in: place }) => place !== 'header').map((/** @type {any} */ { name, in: place, description, required }) => ({ name, place, input: h('input', { 'aria-label': name, placeholder: `${description}${required ? '' : ' (optional)'}` }) }));
    const address = () => {
      let to = path;
      const query = new URLSearchParams();
      for (const { name, place, input } of inputs) {
        if (place === 'path') to = to.replace(`{${name}}`, encodeURIComponent(input.value));
        else if (input.value) query.set(name, input.value);
      }
      return `${to}${query.size ? `?${query}` : ''}`;
    };
    const answer = h('div', { role: 'status' });
    const send = async () => {
      try {
        const { status, body: said, tookMs } = await (method === 'GET' ? get(address()) : post(address(), body ? body.value : {}));
        fill(answer, h('p', {}, h('strong', {}, String(status)), ` in ${Math.round(tookMs)} ms`), h('pre', { tabindex: '0' }, JSON.stringify(said, null, 2)));
      } catch (error) {
        fill(answer, trouble(asProblem(error)));
      }
    };
    return h('div', { class: 'trial' }, h('p', { class: 'muted' }, `Needs: ${about.security.length ? about.security.map((/** @type {any} */ { bearer }) => bearer.join() || 'to be signed in').join(' or ') : 'nothing'}`), ...inputs.map(({ name, input }) => h('p', { class: 'pair' }, h('label', {}, name), input)), body, h('div', { class: 'actions' }, button('Send', send, { class: 'quiet' }, 'accepted'), copyButton('Copy as curl', () => curl(method, address(), body ? JSON.parse(body.value) : undefined))), answer);
  }
}

customElements.define('contract-page', ContractPage);
