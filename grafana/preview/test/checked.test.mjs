// What the check finds, and that it leaves a right panel alone.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { matrix, ofPanel, ORGANIZED, override, panel, vector } from './canned.mjs';

const READY = vector([{ queue: 'mail & more' }, 7], [{ queue: 'archive' }, 120]);
const FAILED = vector([{ queue: 'mail & more' }, 0.25]);
const NO_COLOUR = { type: 'special', options: { match: 'null', result: { text: '–', color: 'transparent' } } };
const THRESHOLDS = { mode: 'absolute', steps: [{ value: null, color: 'green' }, { value: 100, color: 'red' }] };
const URL = '/d/tq-system?${datasource:queryparam}&${job:queryparam}&var-queue=${__data.fields["Queue"]:percentencode}';
const LINK = { title: 'This queue', url: `${URL}&\${__url_time_range}` };

function queues(...overrides) {
  const transformations = [{ id: 'merge', options: {} }, ORGANIZED];
  const thresholds = [['thresholds', THRESHOLDS], ['color', { mode: 'thresholds' }], ['mappings', [NO_COLOUR]]];
  const right = [override('Queue', ['links', [LINK]]), override('Ready', ...thresholds)];
  const more = { format: 'table', transformations, overrides: [...right, ...overrides] };
  return panel('table', ['', ''], { ...more, defaults: { unit: 'short', noValue: 'none' } });
}

test('a right table passes: columns, cells, colours and links', async () => {
  const found = await ofPanel(queues(), { A: READY, B: FAILED });

  assert.deepEqual(found.errors, []);
  assert.deepEqual(found.fields, [['Queue', 'Ready', 'Failed']]);
  assert.deepEqual(found.cells[0].map(({ text }) => text), ['mail & more', '7', '0.250']);
  assert.deepEqual(found.cells[1].map(({ text }) => text), ['archive', '120', 'none']);
  assert.notEqual(found.cells[0][1].color, found.cells[1][1].color);
  assert.equal(
    found.links[0].url,
    '/d/tq-system?var-datasource=main&var-job=taskqueue&var-queue=mail%20%26%20more' +
      '&from=1700000000000&to=1700000060000',
  );
});

test('a query that gives nothing leaves its column', async () => {
  const found = await ofPanel(queues(override('Failed', ['unit', 's'])), { A: READY, B: vector() });

  assert.deepEqual(found.errors, []);
  assert.deepEqual(found.fields, [['Queue', 'Ready', 'Failed']]);
});

test('a table without any data has nothing that could be wrong', async () => {
  const found = await ofPanel(queues(), { A: vector(), B: vector() });

  assert.deepEqual(found.errors, []);
});

test('an override that matches no field is found', async () => {
  const found = await ofPanel(queues(override('Redy', ['unit', 's'])), { A: READY, B: FAILED });

  assert.deepEqual(found.errors, ['override of "Redy" matches no field']);
  assert.equal(found.overrides.at(-1).matched, 0);
});

test('an unknown matcher is found', async () => {
  const odd = { matcher: { id: 'byColour', options: 'red' }, properties: [] };
  const found = await ofPanel(queues(odd), { A: READY, B: FAILED });

  assert.deepEqual(found.errors, ['override of byColour "red": Grafana has no such matcher']);
});

test('an unknown unit is found, wherever it stands', async () => {
  const made = queues(override('Ready', ['unit', 'suffix: jobs']));
  made.fieldConfig.defaults.unit = 'jobs';
  const found = await ofPanel(made, { A: READY, B: FAILED });

  assert.deepEqual(found.errors, [
    "unit jobs is not in Grafana's table",
    "unit suffix: jobs is not in Grafana's table",
  ]);
  assert.deepEqual(found.units, [{ unit: 'jobs', known: false }, { unit: 'suffix: jobs', known: false }]);
});

test('an unknown property is found, and one of another type of panel', async () => {
  const wrong = override('Ready', ['custom.colour', 1], ['custom.lineWidth', 1], ['units', 's']);
  const found = await ofPanel(queues(wrong), { A: READY, B: FAILED });

  assert.deepEqual(found.errors, [
    'override of "Ready": a table panel has no property custom.colour',
    'override of "Ready": a table panel has no property custom.lineWidth',
    'override of "Ready": a table panel has no property units',
  ]);
});

test('an unknown transformation is found', async () => {
  const made = queues();
  made.transformations.push({ id: 'organise', options: {} });
  const found = await ofPanel(made, { A: READY, B: FAILED });

  assert.deepEqual(found.errors, ["transformation organise is not one of Grafana's"]);
  assert.deepEqual(found.transformations.at(-1), { id: 'organise', known: false });
});

test('a transformation that names a field that is not there is found', async () => {
  for (const list of ['renameByName', 'excludeByName', 'indexByName']) {
    const made = queues();
    const [merge, { options }] = made.transformations;
    const named = { ...options, [list]: { ...options[list], 'Value #C': list === 'renameByName' ? 'C' : 1 } };
    made.transformations = [merge, { id: 'organize', options: named }];
    const found = await ofPanel(made, { A: READY, B: FAILED });

    assert.deepEqual(found.errors, [`transformation organize: ${list} names "Value #C", and there is no such field`]);
  }
});

test('a label that no series has now is absent, not wrong', async () => {
  const made = queues(override('Task', ['unit', 'string']));
  const organized = structuredClone(ORGANIZED);
  organized.options.renameByName.task = 'Task';
  made.transformations[1] = organized;
  const found = await ofPanel(made, { A: READY, B: FAILED });

  assert.deepEqual(found.errors, []);
  assert.deepEqual(found.absent, ['task', 'Task']);
});

test('a placeholder in a link that Grafana does not know is found', async () => {
  const link = { title: 'Out', url: '/d/tq-task?${instance:queryparam}' };
  const found = await ofPanel(queues(override('Queue', ['links', [link]])), { A: READY, B: FAILED });

  assert.deepEqual(found.errors, ['nothing is known for ${instance:queryparam}']);
});

test('a link that carries the text for no data is found', async () => {
  const link = { title: 'Slow ones', url: '/d/tq-task?var-least=${__data.fields["Failed"]:percentencode}' };
  for (const properties of [[['links', [link]]], [['links', [link]], ['noValue', '–']]]) {
    const found = await ofPanel(queues(override('Failed', ...properties)), { A: READY, B: FAILED });

    assert.deepEqual(found.errors, ['link "Slow ones" of "Failed" carries the text for no data on']);
  }
});

test('series are matched by their legends; those that could come are absent, others wrong', async () => {
  const colour = ['color', { mode: 'fixed', fixedColor: 'purple' }];
  const overrides = ['succeeded', 'late aborted', 'early aborted'].map((name) => override(name, colour));
  const made = panel('timeseries', ['{{outcome}}'], { overrides: overrides.slice(0, 1) });
  const finished = matrix([{ outcome: 'succeeded' }, [1, 2]]);
  const right = await ofPanel(made, { A: finished });
  const none = await ofPanel(made, { A: matrix([{ outcome: 'failed' }, [1, 2]]) });
  const wrong = await ofPanel(panel('timeseries', ['late {{outcome}}'], { overrides }), { A: finished });

  assert.deepEqual([right.errors, right.absent, right.overrides[0].matched], [[], [], 1]);
  assert.deepEqual([none.errors, none.absent], [[], ['succeeded']]);
  assert.deepEqual(wrong.absent, ['late aborted']);
  assert.deepEqual(wrong.errors, [
    'override of "succeeded" matches no field',
    'override of "early aborted" matches no field',
  ]);
});

test('links of series carry their labels', async () => {
  const url = '/d/tq-system?var-queue=${__field.labels.queue:percentencode}';
  const link = { title: '${__field.labels.queue}', url };
  const made = panel('timeseries', ['{{queue}}'], { defaults: { unit: 's', links: [link] } });
  const found = await ofPanel(made, { A: matrix([{ queue: 'a/b' }, [1, 2]]) });

  assert.deepEqual(found.links, [{ field: 'a/b', row: 1, title: 'a/b', url: '/d/tq-system?var-queue=a%2Fb' }]);
});

test('numbers are read as the panel shows them', async () => {
  const more = { defaults: { unit: 'percentunit' }, options: { reduceOptions: { calcs: ['lastNotNull'] } } };
  const found = await ofPanel(panel('stat', ['failed'], more), { A: vector([{}, 0.125]) });

  assert.deepEqual(found.cells.flat().map(({ field, text }) => [field, text]), [['failed', '12.5%']]);
});

test('buckets that Grafana would subtract wrongly are found', async () => {
  const uneven = matrix([{ le: '1' }, [1, 2]], [{ le: '+Inf' }, [1]]);
  const found = await ofPanel(panel('heatmap', ['{{le}}'], { format: 'heatmap' }), { A: uneven });

  assert.deepEqual(found.errors, ['heatmap: the buckets have unequal numbers of samples']);
});
