/**
 * @file Puts documents into the store of the stack directly, for a test that needs a thousand orders
 * and not the hour in which they were handled.
 * Source: https://learn.microsoft.com/rest/api/cosmos-db/access-control-on-cosmosdb-resources
 */

import { createHmac } from 'node:crypto';

const COLLECTION = 'dbs/bulkhead/colls/orders';

/** @param {{ orderId: string }} document */
export async function put(document) {
  const date = new Date().toUTCString();
  const signature = createHmac('sha256', Buffer.from(process.env.COSMOS_KEY ?? '', 'base64')).update(`post\ndocs\n${COLLECTION}\n${date.toLowerCase()}\n\n`).digest('base64');
  const answer = await fetch(`${process.env.COSMOS_URL}/${COLLECTION}/docs`, {
    method: 'POST',
    headers: {
      authorization: encodeURIComponent(`type=master&ver=1.0&sig=${signature}`),
      'content-type': 'application/json',
      'x-ms-date': date,
      'x-ms-version': '2018-12-31',
      'x-ms-documentdb-partitionkey': JSON.stringify([document.orderId]),
    },
    body: JSON.stringify(document),
  });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
}
