// From what Prometheus answers to the data frames that Grafana's data source for it makes of that, in its versions for
// Grafana 10 to 12: the names of fields are what overrides and transformations go by.
import { grafana } from '#grafana';

const { FieldType, getFieldDisplayName, DataFrameType } = grafana;
const AUTO = '__auto';
const PLACEHOLDER = /\{\{\s*(.+?)\s*\}\}/g;

// All frames of a panel: `targets` as the dashboard has them, `answers` the "data" of each, by refId. A query with an
// empty answer gives a frame without fields: it still counts where columns are named.
export function framesOf(targets, answers) {
  const asked = targets.filter((target) => answers[target.refId] !== undefined);
  const made = asked.map((target) => ({ target, frames: seriesFrames(target, answers[target.refId]) }));
  const all = made.flatMap(({ frames }) => frames);
  made.forEach(({ target, frames }) => target.legendFormat === AUTO && nameByLabels(frames, all));
  const of = (format) => made.filter(({ target }) => (target.format ?? 'time_series') === format);
  return [
    ...of('time_series').flatMap(({ frames }) => frames),
    ...tables(of('table')),
    ...of('heatmap').flatMap(({ frames }) => heatmaps(frames)),
  ];
}

// The labels that a legend names.
export function labelsIn(legend) {
  return [...legend.matchAll(PLACEHOLDER)].map(([, label]) => label);
}

export function parsed(sample) {
  const infinite = /^([+-]?)inf$/i.exec(sample);
  return infinite ? (infinite[1] === '-' ? -Infinity : Infinity) : parseFloat(sample);
}

// -- time series ------------------------------------------------------------------------------------------------

function seriesFrames(target, data) {
  const frames = series(data).map(({ metric, values }) => seriesFrame(target, metric, values));
  return frames.length ? frames : [{ refId: target.refId, fields: [], length: 0 }];
}

function series({ resultType, result }) {
  switch (resultType) {
    case 'matrix':
      return result;
    case 'vector':
      return result.map(({ metric, value }) => ({ metric, values: [value] }));
    case 'scalar':
      return [{ metric: {}, values: [result] }];
    default:
      throw new Error(`an answer of type ${resultType}`);
  }
}

function seriesFrame(target, labels, values) {
  const name = legend(target, labels);
  const value = {
    name: labels.__name__ ?? 'Value',
    type: FieldType.number,
    labels,
    config: name ? { displayNameFromDS: name } : {},
    values: values.map(([, sample]) => parsed(sample)),
  };
  return { refId: target.refId, fields: [timeField(values), value], length: values.length, interval: target.step };
}

function timeField(values) {
  return { name: 'Time', type: FieldType.time, config: {}, values: values.map(([seconds]) => seconds * 1000) };
}

function legend({ legendFormat, expr }, labels) {
  if (legendFormat && legendFormat !== AUTO) {
    return legendFormat.replace(PLACEHOLDER, (_, label) => labels[label] ?? '');
  }
  const { __name__: metric = '', ...others } = labels;
  const matchers = Object.entries(others).map(([label, value]) => `${label}=${JSON.stringify(value)}`);
  if (legendFormat === AUTO && Object.keys(labels).length) {
    return '';
  }
  return (matchers.length ? `${metric}{${matchers.sort().join(', ')}}` : metric) || expr;
}

// Grafana names a series of its own accord by its labels, or the one label that it has, even where it is of a metric.
function nameByLabels(frames, all) {
  for (const frame of frames) {
    for (const field of frame.fields.filter(({ name, labels }) => labels?.__name__ === name)) {
      field.config.displayNameFromDS = getFieldDisplayName({ ...field, name: 'Value' }, frame, all);
    }
  }
}

// -- tables -----------------------------------------------------------------------------------------------------

// One frame for each query, with a field for each label that any of its series has.
function tables(made) {
  const frames = made.flatMap((one) => one.frames);
  if (frames.every(({ length }) => !length)) {
    return frames;
  }
  return made.map(({ target, frames }) => table(target.refId, frames, made.length > 1));
}

function table(refId, frames, several) {
  const rows = frames.filter(({ length }) => length).flatMap(({ fields: [time, value] }) =>
    value.values.map((number, at) => ({ time: time.values[at], number, labels: value.labels })),
  );
  const labels = [...new Set(frames.flatMap(({ fields }) => Object.keys(fields[1]?.labels ?? {}).sort()))];
  const field = (name, type, read) => ({ name, type, config: {}, values: rows.map(read) });
  const fields = [
    field('Time', FieldType.time, ({ time }) => time),
    ...labels.map((label) => field(label, FieldType.string, (row) => row.labels[label] ?? '')),
    field(several ? `Value #${refId}` : 'Value', FieldType.number, ({ number }) => number),
  ];
  return { refId, fields, length: rows.length };
}

// -- heatmaps ---------------------------------------------------------------------------------------------------

// One frame with a field for each bucket, from the lowest on, for each set of the labels other than `le`.
function heatmaps(frames) {
  const groups = new Map();
  for (const frame of frames.filter(({ length }) => length)) {
    const { le, ...others } = frame.fields[1].labels;
    const key = JSON.stringify(Object.entries(others).sort());
    groups.set(key, [...(groups.get(key) ?? []), frame]);
  }
  return [...groups.values()].map(heatmap);
}

function heatmap(frames) {
  const sorted = frames
    .map((frame) => ({ frame, bucket: frame.fields[1] }))
    .sort((one, other) => parsed(one.bucket.labels.le) - parsed(other.bucket.labels.le));
  const buckets = sorted.map(({ bucket }, at) => ({
    ...bucket,
    name: bucket.config.displayNameFromDS || bucket.labels.le,
    values: at ? above(bucket.values, sorted[at - 1].bucket.values) : bucket.values,
  }));
  const [{ frame }] = sorted;
  return { ...frame, meta: { type: DataFrameType.HeatmapRows }, fields: [frame.fields[0], ...buckets] };
}

// Prometheus counts in each bucket what is in those below it. Grafana goes by places, not by times.
function above(values, below) {
  return values.map((value, at) => (value - below[at] < 1e-9 ? 0 : value - (below[at] ?? 0)));
}
