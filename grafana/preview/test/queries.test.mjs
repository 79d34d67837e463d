// What Prometheus is asked, and where panels are.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';

import { unknownIn } from '../lib/dashboard.mjs';
import { laidOut } from '../lib/layout.mjs';
import { answersTo } from '../lib/queries.mjs';
import { CONTEXT } from './canned.mjs';

const asked = [];
const server = createServer(async (request, response) => {
  const parameters = Object.fromEntries(new URLSearchParams(await text(request)));
  asked.push({ path: request.url, ...parameters });
  const bad = parameters.query === 'bad(';
  const error = { status: 'error', errorType: 'bad_data', error: 'parse error' };
  response.end(JSON.stringify(bad ? error : { status: 'success', data: {} }));
});
const templating = { list: [{ name: 'job', allValue: '.+' }, { name: 'queue', allValue: '.*' }] };
let context;

before(async () => {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  context = { ...CONTEXT, prometheus: `http://127.0.0.1:${server.address().port}/`, dashboard: { templating } };
});
after(() => server.close());

async function query(target, more = {}) {
  await answersTo({ targets: [{ refId: 'A', ...target }] }, 100, { ...context, ...more });
  return asked.at(-1);
}

test('variables stand for what is selected, All for what it stands for', async () => {
  const selected = { job: ['a', 'b.c'], queue: ['$__all'] };
  const made = await query({ expr: 'up{job=~"$job", queue=~"${queue}"}', instant: true }, { selected });

  assert.deepEqual(made, { path: '/api/v1/query', query: 'up{job=~"(a|b\\\\.c)", queue=~".*"}', time: '1700000060' });
});

test('steps follow the width, rates look back for four scrapes at least', async () => {
  const short = await query({ expr: 'rate(x[$__rate_interval])' });
  const long = await query({ expr: 'rate(x[$__rate_interval])' }, { from: 0, to: 86_400_000 });

  assert.deepEqual([short.query, short.step], ['rate(x[60s])', '15']);
  assert.deepEqual([long.query, long.step], ['rate(x[915s])', '900']);
});

test('an error of Prometheus says which query', async () => {
  await assert.rejects(query({ expr: 'bad(' }), /bad_data: parse error in bad\(/);
});

const row = (collapsed) => ({ id: 1, type: 'row', collapsed, gridPos: { x: 0, y: 0, w: 24, h: 1 }, panels: [] });
const half = (id, x, y) => ({ id, type: 'stat', gridPos: { x, y, w: 12, h: 4 } });

test('panels are in a grid, or below each other', () => {
  const dashboard = { panels: [row(false), half(2, 0, 1), half(3, 12, 1)] };
  const wide = laidOut(dashboard, 1440, false).places.map(({ left, top, width, height }) => [left, top, width, height]);
  const narrow = laidOut(dashboard, 600, false).places.map(({ left, top, width }) => [left, top, width]);

  assert.deepEqual(wide, [[0, 0, 1408, 30], [0, 38, 700, 144], [708, 38, 700, 144]]);
  assert.deepEqual(narrow, [[0, 0, 568], [0, 38, 568], [0, 190, 568]]);
});

test('a closed row leaves no gap, and shows its panels when it is opened', () => {
  const closed = { ...row(true), panels: [half(2, 0, 1)] };
  const dashboard = { panels: [closed, { ...half(3, 0, 9), type: 'table' }] };
  const places = (open) => laidOut(dashboard, 1440, open).places.map(({ panel, top }) => [panel.id, top]);

  assert.deepEqual(places(false), [[1, 0], [3, 38]]);
  assert.deepEqual(places(true), [[1, 0], [2, 38], [3, 190]]);
});

test('a variable that no dashboard has is told', () => {
  const dashboards = [{ templating }, { templating: { list: [{ name: 'server' }] } }];

  assert.deepEqual(unknownIn({ job: ['a'], server: ['b'] }, dashboards), []);
  assert.deepEqual(unknownIn({ job: ['a'], sytem: ['arq'] }, dashboards), ['sytem']);
});
