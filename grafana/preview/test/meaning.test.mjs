// What Grafana would show otherwise than it is meant, without a word.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { CONTEXT, matrix, ofPanel, ORGANIZED, override, panel, vector } from './canned.mjs';

const STEPS = { mode: 'absolute', steps: [{ value: null, color: 'green' }, { value: 100, color: 'red' }] };
const GAUGE = { type: 'gauge', mode: 'basic' };
const DATE = { defaults: { unit: 'dateTimeFromNow' }, options: {} };
const NULL = { match: 'null', result: { text: '–', color: 'transparent' } };
const QUEUES = vector([{ queue: 'mail' }, 7], [{ queue: 'archive' }, 120]);

async function errorsOf(made, answers = {}) {
  return (await ofPanel(made, answers)).errors;
}

function table(overrides, more = {}) {
  return panel('table', [''], { format: 'table', overrides, ...more });
}

function mapped(texts) {
  const results = Object.entries(texts).map(([text, color], at) => [String(at), { text, color, index: at }]);
  return { unit: 'none', mappings: [{ type: 'value', options: Object.fromEntries(results) }] };
}

test('a single number that is not the last one is found', async () => {
  for (const calcs of [['mean'], ['lastNotNul'], ['lastNotNull', 'max']]) {
    const errors = await errorsOf(panel('stat', ['failed'], { options: { reduceOptions: { calcs } } }));
    assert.deepEqual(errors, [`it shows ${calcs} instead of lastNotNull`]);
  }
});

test('a legend that is hidden, or has unknown calculations, is found', async () => {
  const hidden = panel('timeseries', ['{{queue}}'], { options: { legend: { showLegend: false, calcs: ['most'] } } });
  assert.deepEqual(await errorsOf(hidden), [
    'the legend has calculations that Grafana does not know: most',
    'its series have no legend',
  ]);
  assert.deepEqual(await errorsOf(panel('state-timeline', ['{{queue}}'], { options: {} })), [
    'its series have no legend',
  ]);
});

test('an axis, or bars, that do not begin at 0 are found', async () => {
  const defaults = { unit: 's', custom: { axisSoftMin: 100 } };
  assert.deepEqual(await errorsOf(panel('timeseries', ['{{queue}}'], { defaults })), ['its axis does not begin at 0']);
  assert.deepEqual(await errorsOf(panel('bargauge', ['{{queue}}'], { defaults: { unit: 's', min: 10 } })), [
    'its bars do not begin at 0',
  ]);
});

test('a heatmap of another format, of made buckets, or with another unit on its axis is found', async () => {
  const more = { options: { calculate: true, yAxis: { unit: 'bytes' } }, defaults: { unit: 's' } };
  assert.deepEqual(await errorsOf(panel('heatmap', ['{{le}}'], more)), [
    'heatmap: buckets would be made of buckets',
    'heatmap: its query is of another format',
    'heatmap: the axis is in bytes, the panel in s',
  ]);
});

test('a heatmap without le is found', async () => {
  const made = panel('heatmap', ['{{lee}}'], { format: 'heatmap' });
  const sum = await ofPanel(made, { A: matrix([{}, [1, 2]]) });

  assert.deepEqual(sum.errors, ['heatmap: buckets are not named by le']);
  assert.deepEqual(sum.absent, ['lee']);
});

test('a name that Markdown would make bold is found, unless it is quoted', async () => {
  const says = (text) => panel('timeseries', ['{{queue}}'], { description: `${text}\n\n**Normal:** few.` });
  assert.deepEqual(await errorsOf(says('Tasks called __unknown__ are not told apart.')), [
    'description: "unknown" would be bold or slanted',
  ]);
  assert.deepEqual(await errorsOf(says('Tasks called `__unknown__` of 2 * 3 kinds.')), []);
});

test('a colour that contradicts its text is found, of values and of series', async () => {
  const made = panel('stat', ['{{queue}}'], { defaults: mapped({ up: 'red', down: 'dark-green', lost: 'red' }) });
  const colour = ['color', { mode: 'fixed', fixedColor: 'dark-red' }];
  const lines = panel('timeseries', ['{{outcome}}'], { overrides: [override('succeeded', colour)] });

  assert.deepEqual(await errorsOf(made), ['the panel: "up" is red', 'the panel: "down" is dark-green']);
  assert.deepEqual(await errorsOf(lines, { A: matrix([{ outcome: 'succeeded' }, [1]]) }), [
    '"succeeded": it is dark-red',
  ]);
});

test('colours that Grafana does not know are found', async () => {
  const defaults = { unit: 's', color: { mode: 'threshold' }, thresholds: { steps: [{ value: null, color: 'gren' }] } };
  const errors = await errorsOf(panel('stat', ['queues'], { defaults }));
  assert.deepEqual(errors.slice(0, 2), [
    'the panel: Grafana has no colour mode threshold',
    'the panel: Grafana has no colour gren',
  ]);
});

test('cells of an unknown type, gauges of other ends, and digits for no value are found', async () => {
  const gauge = override('queue', ['unit', 'percentunit'], ['min', 0], ['max', 100], ['custom.cellOptions', GAUGE]);
  const odd = override('queue', ['custom.cellOptions', { type: 'colour-text' }], ['noValue', '0']);

  assert.deepEqual(await errorsOf(table([gauge]), { A: QUEUES }), [
    '"queue": a gauge of shares does not reach from 0 to 1',
  ]);
  assert.deepEqual(await errorsOf(table([odd]), { A: QUEUES }), [
    '"queue": Grafana has no cells of type colour-text',
    '"queue": a cell without a value would be taken for a number: 0',
  ]);
});

test('a column with thresholds that would colour a cell without a value is found', async () => {
  const judged = override('Value', ['thresholds', STEPS], ['color', { mode: 'thresholds' }]);
  assert.deepEqual(await errorsOf(table([judged]), { A: QUEUES }), ['"Value": a cell without a value is coloured']);
});

test('a table that is sorted by a column that is not there is found', async () => {
  const sorted = (displayName) => table([], { options: { sortBy: [{ displayName, desc: true }] } });
  assert.deepEqual(await errorsOf(sorted('queue'), { A: QUEUES }), []);
  assert.deepEqual(await errorsOf(sorted('queues'), { A: QUEUES }), [
    'it is sorted by "queues", and there is no such field',
  ]);
});

test('a table that is sorted from the best on is found', async () => {
  const thresholds = { ...STEPS, steps: [...STEPS.steps] };
  const properties = [['thresholds', thresholds], ['mappings', [{ type: 'special', options: NULL }]]];
  const judged = [override('Value', ...properties)];
  const sorted = (desc) => table(judged, { options: { sortBy: [{ displayName: 'Value', desc }] } });

  assert.deepEqual(await errorsOf(sorted(true), { A: QUEUES }), []);
  assert.deepEqual(await errorsOf(sorted(false), { A: QUEUES }), ['"Value": the best of the column stand first']);
  thresholds.steps.reverse();
  assert.deepEqual(await errorsOf(sorted(false), { A: QUEUES }), []);
});

test('a table whose queries are not merged is found', async () => {
  const made = panel('table', ['', ''], { format: 'table' });
  assert.deepEqual(await errorsOf(made, { A: QUEUES, B: QUEUES }), [
    'the table falls into 2: its queries are not merged',
  ]);
  made.transformations = [{ id: 'merge', options: {} }];
  assert.deepEqual(await errorsOf(made, { A: QUEUES, B: QUEUES }), []);
});

test('seconds that are shown as a date are found', async () => {
  const date = (value) => ofPanel(panel('stat', ['loaded'], DATE), { A: vector([{}, value]) });

  assert.deepEqual((await date(CONTEXT.to - 3600_000)).errors, []);
  assert.match((await date(CONTEXT.to / 1000)).errors[0], /^"loaded" is shown as a date: \d+ is not near to now$/);
});

test('a label of a legend that no series has is absent', async () => {
  const made = panel('timeseries', ['{{queue}} {{queues}}']);
  const found = await ofPanel(made, { A: matrix([{ queue: 'mail' }, [1]]) });

  assert.deepEqual([found.errors, found.absent], [[], ['queues']]);
  assert.deepEqual((await ofPanel(made, { A: matrix() })).absent, ['queue', 'queues']);
});

test('a column that no query has any more is found', async () => {
  const renamed = structuredClone(ORGANIZED);
  renamed.options.excludeByName = { Times: true };
  const made = panel('table', ['', ''], { format: 'table', transformations: [{ id: 'merge', options: {} }, renamed] });

  assert.deepEqual(await errorsOf(made, { A: QUEUES, B: QUEUES }), [
    'transformation organize: excludeByName names "Times", and there is no such field',
  ]);
});
