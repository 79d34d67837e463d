// What is wrong with a panel, given answers to its queries.
import { grafana } from '#grafana';
import { cellsOf, linksOf } from './cells.mjs';
import { configured, isTransformation, matches, transformedBy } from './fields.mjs';
import { framesOf, parsed } from './frames.mjs';
import { CUSTOM, registry } from './options.mjs';
import { replacer } from './variables.mjs';

const { getFieldDisplayName, getValueFormatterIndex } = grafana;
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
  if (checkMatchers(panel, found)) {
    return found;
  }
  try {
    await checkFields(panel, answers, replace, found);
  } catch (error) {
    found.errors.push(`Grafana would fail: ${error.message}`);
  }
  found.errors = [...new Set(found.errors)];
  found.absent = [...new Set(found.absent)];
  return found;
}

async function checkFields(panel, answers, replace, found) {
  const targets = panel.targets ?? [];
  const before = framesOf(targets, answers);
  checkHeatmap(before, found);
  const isEmpty = before.every(({ length }) => !length);
  const look = (transformation, frames) => isEmpty || checkNames(panel, transformation, frames, found);
  const after = await transformedBy(panel, before, replace, look);
  const frames = configured(panel, after, replace);
  found.fields = namesOf(frames);
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
