/**
 * @file The experiments: each does something bad to the running system, watches it, and ends in a
 * verdict with numbers. They ask the system like any client; nothing in them knows the outcome.
 */

import { get, orderPath, post } from './api.js';
import { burst } from './burst.js';
import { SERVICES, counted, duration, number } from './words.js';

/** @typedef {{ name: string, title: string, about: string, local?: boolean, run: (say: (text: string) => void, order: (faults?: Record<string, string>) => import('./api.js').NewOrder) => Promise<[boolean, string]> }} Experiment */

/** How long an experiment waits for what must happen. */
const WITHIN_MS = 90_000;

const LOOK_EVERY_MS = 300;

/** Requests that a throttled store refuses: some seconds of all that the apps ask of it. */
const REFUSALS = 60;

/** @template T @param {() => Promise<T | undefined | false>} look @param {string} what @returns {Promise<T>} */
async function until(look, what) {
  const end = Date.now() + WITHIN_MS;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  throw new Error(`Not within ${WITHIN_MS / 1000} s: ${what}`);
}

const read = async (/** @type {string} */ id) => (await get(orderPath(id))).body;

/** @param {import('./burst.js').Burst} it @param {string} what */
const rest = async (it, what) => {
  await it.sent;
  if (it.ids.size < it.wanted) throw new Error(`Only ${it.ids.size} of ${it.wanted} were accepted: ${it.problem?.title}`);
  return until(async () => it.isOver, what);
};

/** Pauses a process while something is done, and lets it go on whatever happens. @param {string} name @param {() => Promise<void>} during */
async function paused(name, during) {
  await post(`/api/ops/local/processes/${name}/pause`, { seconds: 60 });
  try {
    await during();
  } finally {
    await post(`/api/ops/local/processes/${name}/resume`);
  }
}

/** @type {Experiment[]} */
export const EXPERIMENTS = [
  {
    name: 'duplicate',
    title: 'Duplicate delivery',
    about: 'Orders once, waits for the end, then delivers the same event again under a new message id.',
    async run(say, order) {
      const it = burst(() => order(), 1, () => {});
      await rest(it, 'the order completes');
      const [id = ''] = it.ids;
      const before = await read(id);
      say('Completed. Now its event comes a second time.');
      for (let n = 0; n < 3; n += 1) await post(`/api/ops/orders/${id}/duplicate`, { reason: 'Experiment: duplicate delivery' });
      await until(async () => (await get('/api/ops/system')).body.subscriptions.every((/** @type {any} */ { waiting }) => waiting === 0), 'the copies are handled');
      const after = await read(id);
      const attempts = (/** @type {any} */ of) => SERVICES.map((service) => of.stage[service].attempt).join();
      const same = JSON.stringify(before.history) === JSON.stringify(after.history) && attempts(before) === attempts(after);
      return [same && after.stage.billing.calls === 1, `3 copies delivered, ${after.history.length - before.history.length} lines added to the history, the bank was called ${counted(after.stage.billing.calls, 'time')}`];
    },
  },
  {
    name: 'burst',
    title: 'Burst and drain',
    about: 'Sends 100 orders as fast as they are taken, and waits until every one is closed.',
    async run(say, order) {
      const it = burst(() => order(), 100, (b) => say(`${b.ids.size} accepted, ${b.count('completed')} completed`));
      await rest(it, 'all 100 rest');
      return [it.count('completed') === 100, `${it.ids.size} accepted at ${Math.round(it.ids.size / (it.sendingMs / 1000))} a second, 202 in ${duration(it.quantile(0.95))} (p95); ${it.count('completed')} completed ${duration(it.endedAt - it.began)} after the first; lost: ${it.wanted - it.states.size}`];
    },
  },
  {
    name: 'outage',
    title: 'Subscriber outage',
    about: 'Pauses billing, orders 20, looks whether the others carry on, and lets billing catch up.',
    local: true,
    async run(say, order) {
      const it = burst(() => order(), 20, () => {});
      let others = 0;
      await paused('billing', async () => {
        await it.sent;
        say('Billing stands still. Do the others?');
        others = await until(async () => {
          const found = await Promise.all([...it.ids].map(read));
          const done = found.filter(({ status }) => status.inventory === 'done' && status.notification === 'done').length;
          say(`Billing stands still; inventory and notification are done with ${done} of 20`);
          return done === 20 && done;
        }, 'the others finish without billing');
      });
      say('Billing goes on.');
      const began = Date.now();
      await rest(it, 'billing catches up');
      return [it.count('completed') === 20, `inventory and notification finished ${others} of 20 without billing; billing caught up in ${duration(Date.now() - began)}; lost: ${20 - it.count('completed')}`];
    },
  },
  {
    name: 'poison',
    title: 'Poison and replay',
    about: 'Orders five that billing cannot handle, finds them dead-lettered, and replays them without the fault.',
    async run(say, order) {
      const it = burst(() => order({ billing: 'fail' }), 5, () => {});
      await rest(it, 'all five are dead-lettered');
      say(`${it.count('attention')} of 5 need attention.`);
      const mine = await until(async () => {
        const { body } = await get('/api/ops/dead-letters/billing-sub?limit=200');
        const found = body.deadLetters.filter((/** @type {any} */ { orderId }) => it.ids.has(orderId));
        return found.length === 5 && found;
      }, 'five messages are in the dead-letter queue');
      await post('/api/ops/dead-letters/billing-sub/replay', { select: { sequenceNumbers: mine.map((/** @type {any} */ { sequenceNumber }) => sequenceNumber) }, reason: 'experiment in the lab', withoutFault: true });
      say('Replayed to billing alone.');
      const ended = await until(async () => {
        const found = await Promise.all([...it.ids].map(read));
        return found.every(({ overall }) => overall === 'completed') && found;
      }, 'all five complete');
      const again = ended.filter(({ stage }) => stage.inventory.attempt > 1).length;
      return [again === 0, `5 dead-lettered, 5 replayed, ${ended.length} completed; inventory saw ${again} of them twice`];
    },
  },
  {
    name: 'kill',
    title: 'Kill a consumer',
    about: 'Orders 30 and kills billing’s handler in the middle.',
    local: true,
    async run(say, order) {
      let killed = false;
      const it = burst(() => order(), 30, (b) => {
        say(`${b.count('completed')} of 30 completed${killed ? ', billing was killed' : ''}`);
        if (!killed && b.ids.size >= 10) {
          killed = true;
          void post('/api/ops/local/processes/billing/kill', { what: 'handler' });
        }
      });
      await rest(it, 'all 30 rest');
      const ends = [...it.states.values()].filter((key) => key === 'completed').length;
      return [ends === 30, `30 accepted, handler killed, ${ends} completed ${duration(it.endedAt - it.began)} after the first; lost: ${30 - it.states.size}`];
    },
  },
  {
    name: 'broker',
    title: 'Broker down',
    about: 'Pauses the bus, orders 20, looks whether they are accepted all the same, and lets the bus go on.',
    local: true,
    async run(say, order) {
      let it = burst(() => order(), 0, () => {});
      let begun = 0;
      let waiting = 0;
      await paused('bus', async () => {
        it = burst(() => order(), 20, (b) => say(`The bus stands still; ${b.ids.size} of 20 accepted`));
        await it.sent;
        waiting = await until(async () => {
          const { waiting = 0 } = (await get('/api/ops/system')).body.outbox;
          return waiting >= it.ids.size && waiting;
        }, 'the events wait in the outbox');
        begun = (await Promise.all([...it.ids].map(read))).filter(({ status }) => SERVICES.some((service) => status[service] !== 'pending')).length;
      });
      say('The bus goes on.');
      const began = Date.now();
      await rest(it, 'all 20 rest');
      return [begun === 0 && it.count('completed') === 20, `${it.ids.size} of 20 accepted without a bus, 202 in ${duration(it.quantile(0.95))} (p95); ${counted(waiting, 'event')} waited in the outbox, ${begun} reached a service; ${it.count('completed')} completed ${duration(Date.now() - began)} after the bus came back; lost: ${20 - it.states.size}`];
    },
  },
  {
    name: 'throttle',
    title: 'Store throttled',
    about: `Lets the store refuse ${REFUSALS} requests with 429, as Cosmos DB does beyond its throughput, and orders 20 meanwhile.`,
    local: true,
    async run(say, order) {
      const faults = '/api/ops/local/cosmos/faults';
      const left = async () => (await get(faults)).body[0]?.times ?? 0;
      await post(faults, [{ path: '/docs', times: REFUSALS, fault: { kind: 'refuse', status: 429, retryAfterMs: 100 } }]);
      try {
        const it = burst(() => order(), 20, (b) => say(`${b.ids.size} of 20 accepted by a store that refuses`));
        await rest(it, 'all 20 rest');
        const refused = REFUSALS - (await left());
        return [refused > 0 && it.count('completed') === 20, `${number(refused)} requests refused with 429; ${it.ids.size} of 20 accepted, 202 in ${duration(it.quantile(0.95))} (p95); ${it.count('completed')} completed ${duration(it.endedAt - it.began)} after the first; lost: ${20 - it.states.size}`];
      } finally {
        await post(faults, []);
      }
    },
  },
];
