// Names and shapes of the frames that Grafana's data source makes.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { framesOf } from '../lib/frames.mjs';
import { matrix, panel, vector } from './canned.mjs';

function frames(legend, answer, format = 'time_series') {
  return framesOf(panel('timeseries', [legend], { format }).targets, { A: answer });
}

function legends(made) {
  return made.map(({ fields }) => fields[1].config.displayNameFromDS);
}

test('series are called by their legend', () => {
  const made = frames('{{system}} {{ queue }}{{none}}', matrix([{ system: 'arq', queue: 'q' }, [1, 'NaN', '+Inf']]));

  assert.deepEqual(legends(made), ['arq q']);
  assert.deepEqual(made[0].fields[1].values, [1, NaN, Infinity]);
});

test('without a legend they are called by metric and labels, or the query', () => {
  assert.deepEqual(legends(frames('', vector([{ __name__: 'up', job: 'a' }, 1]))), ['up{job="a"}']);
  assert.deepEqual(legends(frames('', vector([{}, 1]))), ['max by (queue, task) (depth)']);
  assert.deepEqual(legends(frames('__auto', vector([{ job: 'a' }, 1]))), [undefined]);
  assert.deepEqual(legends(frames('__auto', vector([{ __name__: 'up', job: 'a' }, 1]))), ['{__name__="up", job="a"}']);
});

test('a table has a field for each label of any of its series', () => {
  const [made] = frames('', vector([{ queue: 'a' }, 1], [{ queue: 'b', task: 't' }, 2]), 'table');

  assert.deepEqual(made.fields.map(({ name }) => name), ['Time', 'queue', 'task', 'Value']);
  assert.deepEqual(made.fields.map(({ values }) => values).slice(1), [['a', 'b'], ['', 't'], [1, 2]]);
});

test('a heatmap has a field for each bucket, in order, without what is in those below', () => {
  const buckets = [
    [{ le: '+Inf' }, [5, 9]],
    [{ le: '10' }, [4, 9]],
    [{ le: '0.5' }, [1, 2]],
  ];
  const [made] = frames('{{le}}', matrix(...buckets), 'heatmap');

  assert.deepEqual(made.fields.map(({ name }) => name), ['Time', '0.5', '10', '+Inf']);
  assert.deepEqual(made.fields.slice(1).map(({ values }) => values), [[1, 2], [3, 7], [1, 0]]);
});

test('a scalar is a series without labels', () => {
  assert.deepEqual(legends(frames('limit', { resultType: 'scalar', result: [1, '2'] })), ['limit']);
});
