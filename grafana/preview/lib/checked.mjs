// What is wrong with a panel, given answers to its queries.
import { grafana } from '#grafana';
import { cellsOf, linksOf } from './cells.mjs';
import { configured, isTransformation, matches, transformedBy } from './fields.mjs';
import { framesOf, labelsIn, parsed } from './frames.mjs';
import { misled } from './meaning.mjs';
import { CUSTOM, registry } from './options.mjs';
import { replacer } from './variables.mjs';

const { getFieldDisplayName, getValueFormatterIndex } = grafana;
const YEARS_50 = 50 * 365.25 * 86_400_000;
const BY = /\b(?:by|on|group_left|group_right)\s*\(([^)]*)\)/g;

// Errors, and what Grafana would show; `absent` names fields that are rightly named but not in these answers.
export async function checked(panel, answers, { selected, from, to }) {
  const found = { errors: [], absent: [], fields: [], overrides: [], transformations: [], cells: [], links: [] };
  if (CUSTOM[panel.type] === undefined) {
    found.errors.push(`panels of type ${panel.type} are not known to this check`);
    return found;
  }
  const unknown = (placeholder) => found.errors.push(`nothing is known for ${placeholder}`);
  const replace = replacer({ selected, from, to, unknown });
  checkUnits(panel, found);
  checkProperties(panel, found);
  checkTransformations(panel, found);
  found.errors.push(...misled(panel));
  if (checkMatchers(panel, found)) {
    return found;
  }
  try {
    checkLegends(panel, answers, found);
    await checkFields(panel, answers, { replace, to }, found);
  } catch (error) {
    found.errors.push(`Grafana would fail: ${error.message}`);
  }
  found.errors = [...new Set(found.errors)];
  found.absent = [...new Set(found.absent)];
  return found;
}

async function checkFields(panel, answers, { replace, to }, found) {
  const targets = panel.targets ?? [];
  const before = framesOf(targets, answers);
  checkHeatmap(before, found);
  const isEmpty = before.every(({ length }) => !length);
  const look = (transformation, frames) => isEmpty || checkNames(panel, transformation, frames, found);
  const after = await transformedBy(panel, before, replace, look);
  const frames = configured(panel, after, replace);
  found.fields = namesOf(frames);
  checkSorting(panel, found);
  checkTimes(frames, to, found);
  checkOneTable(panel, frames, found);
  checkOverrides(panel, frames, isEmpty, answers, found);
  found.cells = cellsOf(panel, frames, replace);
  found.links = linksOf(panel, frames);
  checkLinks(panel, found);
}

// -- without data -----------------------------------------------------------------------------------------------

// Grafana puts a unit that it does not know behind the number, as it is.
function checkUnits({ fieldConfig: { defaults = {}, overrides = [] } = {} }, found) {
  const properties = overrides.flatMap((override) => override.properties).filter(({ id }) => id === 'unit');
  const units = new Set([defaults.unit, ...properties.map(({ value }) => value)]);
  units.delete(undefined);
  found.units = [...units].map((unit) => ({ unit, known: Object.hasOwn(getValueFormatterIndex(), unit) }));
  for (const { unit } of found.units.filter(({ known }) => !known)) {
    found.errors.push(`unit ${unit} is not in Grafana's table`);
  }
}

function checkProperties(panel, found) {
  const known = registry(panel.type);
  for (const { matcher, properties } of panel.fieldConfig?.overrides ?? []) {
    for (const { id } of properties.filter(({ id }) => !known.getIfExists(id))) {
      found.errors.push(`override of ${named(matcher)}: a ${panel.type} panel has no property ${id}`);
    }
  }
}

// Whether any is unknown: Grafana then shows nothing at all.
function checkMatchers({ fieldConfig: { overrides = [] } = {} }, found) {
  const unknown = overrides.map(({ matcher }) => matcher).filter(({ id }) => !grafana.fieldMatchers.getIfExists(id));
  found.errors.push(...unknown.map((matcher) => `override of ${named(matcher)}: Grafana has no such matcher`));
  return unknown.length > 0;
}

function checkTransformations({ transformations = [] }, found) {
  found.transformations = transformations.map(({ id }) => ({ id, known: isTransformation(id) }));
  for (const { id } of found.transformations.filter(({ known }) => !known)) {
    found.errors.push(`transformation ${id} is not one of Grafana's`);
  }
}

function named({ id, options }) {
  return id === 'byName' ? `"${options}"` : `${id} ${JSON.stringify(options)}`;
}

// -- with data --------------------------------------------------------------------------------------------------

function namesOf(frames) {
  return frames.map((frame) => frame.fields.map((field) => getFieldDisplayName(field, frame, frames)));
}

// A label that no series has leaves a gap in its name. Whether any could have it is for who knows the metrics.
function checkLegends({ targets = [] }, answers, found) {
  for (const { refId, legendFormat } of targets) {
    const series = answers[refId]?.result ?? [];
    const labels = labelsIn(legendFormat ?? '');
    found.absent.push(...labels.filter((label) => !series.some(({ metric }) => metric?.[label] !== undefined)));
  }
}

// Grafana sorts by no column that it cannot find, without a word.
function checkSorting({ options: { sortBy = [] } = {} }, found) {
  const fields = new Set(found.fields.flat());
  for (const { displayName } of sortBy.filter(({ displayName }) => fields.size && !fields.has(displayName))) {
    found.errors.push(`it is sorted by "${displayName}", and there is no such field`);
  }
}

// Grafana's dates are in milliseconds, Prometheus's in seconds.
function checkTimes(frames, now, found) {
  for (const field of frames.flatMap(({ fields }) => fields).filter(({ config }) => /^dateTime/.test(config.unit))) {
    const far = field.values.find((value) => Number.isFinite(value) && Math.abs(value - now) > YEARS_50);
    if (far !== undefined && field.type !== 'time') {
      found.errors.push(`"${field.state?.displayName ?? field.name}" is shown as a date: ${far} is not near to now`);
    }
  }
}

// Of several Grafana shows the first, and lets one choose.
function checkOneTable({ type }, frames, found) {
  if (type === 'table' && frames.length > 1 && frames.some(({ length }) => length)) {
    found.errors.push(`the table falls into ${frames.length}: its queries are not merged`);
  }
}

// Grafana subtracts buckets by their places.
function checkHeatmap(frames, found) {
  for (const { meta, fields } of frames) {
    if (meta?.type === 'heatmap-rows' && fields.some(({ values }) => values.length !== fields[0].values.length)) {
      found.errors.push('heatmap: the buckets have unequal numbers of samples');
    }
    if (meta?.type === 'heatmap-rows' && fields.slice(1).some(({ name }) => Number.isNaN(parsed(name)))) {
      found.errors.push('heatmap: buckets are not named by le');
    }
  }
}

function checkNames(panel, { id, options = {} }, frames, found) {
  const fields = new Set(namesOf(frames).flat());
  const labels = groupedBy(panel);
  for (const list of ['excludeByName', 'indexByName', 'renameByName', 'includeByName']) {
    for (const name of Object.keys(options[list] ?? {}).filter((name) => !fields.has(name))) {
      if (labels.has(name)) {
        found.absent.push(name);
      } else {
        found.errors.push(`transformation ${id}: ${list} names "${name}", and there is no such field`);
      }
    }
  }
}

// A cell without a value has a text for that, of its column or its panel, and links take up its text.
function checkLinks({ fieldConfig: { defaults = {}, overrides = [] } = {} }, found) {
  const properties = overrides.flatMap((override) => override.properties).filter(({ id }) => id === 'noValue');
  const texts = [defaults.noValue, ...properties.map(({ value }) => value)].filter(Boolean).map(encodeURIComponent);
  for (const { field, title, url } of found.links) {
    if (texts.some((empty) => url.includes(`=${empty}`))) {
      found.errors.push(`link "${title}" of "${field}" carries the text for no data on`);
    }
  }
}

// Labels that queries keep by name: they are no field where no series has them.
function groupedBy({ targets = [] }) {
  const lists = targets.flatMap(({ expr }) => [...expr.matchAll(BY)].map(([, labels]) => labels));
  return new Set(lists.flatMap((labels) => labels.split(',').map((label) => label.trim())));
}

function checkOverrides(panel, frames, isEmpty, answers, found) {
  for (const { matcher } of panel.fieldConfig?.overrides ?? []) {
    const matched = matches(matcher, frames);
    found.overrides.push({ matcher, matched });
    if (matched === 0 && couldExist(panel, matcher, isEmpty, answers)) {
      found.absent.push(matcher.options);
    } else if (matched === 0) {
      found.errors.push(`override of ${named(matcher)} matches no field`);
    }
  }
}

// Whether other answers would give a field of the name: a label's value, a series that is not there now.
function couldExist({ targets = [], transformations = [] }, { id, options }, isEmpty, answers) {
  if (id !== 'byName') {
    return isEmpty;
  }
  const renamed = transformations.flatMap(({ options: { renameByName = {} } = {} }) => Object.entries(renameByName));
  const sources = renamed.filter(([, title]) => title === options).map(([source]) => source);
  const labels = groupedBy({ targets });
  if (targets.some(({ format }) => format === 'table')) {
    const isUnnamed = isEmpty && !renamed.length;
    return isUnnamed || labels.has(options) || sources.some((source) => isEmpty || labels.has(source));
  }
  return targets.some((target) => canBeCalled(target, options, answers[target.refId]));
}

function canBeCalled({ legendFormat = '' }, name, answer) {
  if (['', '__auto'].includes(legendFormat)) {
    return true;
  }
  if (!legendFormat.includes('{{')) {
    return legendFormat === name && !answer?.result?.length;
  }
  const parts = legendFormat.split(/\{\{.*?\}\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
}
