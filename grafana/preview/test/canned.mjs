// Small panels, and answers as Prometheus gives them.
import { checked } from '../lib/checked.mjs';

const AT = 1_700_000_000;
export const CONTEXT = {
  selected: { datasource: ['main'], job: ['taskqueue'], queue: ['$__all'] },
  from: AT * 1000,
  to: AT * 1000 + 60_000,
};

export function vector(...series) {
  return { resultType: 'vector', result: series.map(([metric, value]) => ({ metric, value: [AT, String(value)] })) };
}

export function matrix(...series) {
  const samples = (values) => values.map((value, at) => [AT + 15 * at, String(value)]);
  return { resultType: 'matrix', result: series.map(([metric, values]) => ({ metric, values: samples(values) })) };
}

// What is right of each type of panel.
const CUSTOM = { timeseries: { custom: { axisSoftMin: 0 } } };
const LEGEND = { legend: { showLegend: true, calcs: ['max'] } };

export function panel(type, legends, more = {}) {
  const { format = 'time_series', defaults = { unit: 'short' }, overrides = [], options = LEGEND, ...rest } = more;
  const expr = 'max by (queue, task) (depth)';
  const targets = legends.map((legendFormat, at) => ({ refId: 'ABC'[at], legendFormat, expr, format }));
  const fieldConfig = { defaults: { ...CUSTOM[type], ...defaults }, overrides };
  return { id: 1, type, targets, options, fieldConfig, ...rest };
}

export function override(name, ...properties) {
  return { matcher: { id: 'byName', options: name }, properties: properties.map(([id, value]) => ({ id, value })) };
}

export function ofPanel(made, answers) {
  return checked(made, answers, CONTEXT);
}

export const ORGANIZED = {
  id: 'organize',
  options: {
    excludeByName: { Time: true },
    indexByName: { queue: 0, 'Value #A': 1, 'Value #B': 2 },
    renameByName: { queue: 'Queue', 'Value #A': 'Ready', 'Value #B': 'Failed' },
  },
};
