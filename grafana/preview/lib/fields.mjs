// From data frames to what a panel draws: transformations, defaults and overrides, links.
import { grafana } from '#grafana';
import { registry } from './options.mjs';

const { standardTransformers, standardTransformersRegistry } = grafana;
export const THEMES = {
  dark: grafana.createTheme({ colors: { mode: 'dark' } }),
  light: grafana.createTheme({ colors: { mode: 'light' } }),
};

standardTransformersRegistry.setInit(() =>
  Object.values(standardTransformers)
    .filter((transformation, at, all) => all.indexOf(transformation) === at)
    .map((transformation) => ({ id: transformation.id, name: transformation.name, transformation })),
);

// The ids of transformations that Grafana knows; one that it does not know it leaves out silently.
export function isTransformation(id) {
  return standardTransformersRegistry.getIfExists(id) !== undefined;
}

// Frames after one transformation.
export async function transformed(frames, transformation, replace) {
  let after = frames;
  const done = grafana.transformDataFrame([transformation], frames, { interpolate: (text) => replace(text) });
  await done.forEach((made) => (after = made));
  return after;
}

// Frames after all of a panel's transformations; `watch` sees those before each.
export async function transformedBy(panel, frames, replace, watch = () => {}) {
  for (const transformation of panel.transformations ?? []) {
    watch(transformation, frames);
    if (isTransformation(transformation.id)) {
      frames = await transformed(frames, transformation, replace);
    }
  }
  return frames;
}

// Frames with display functions, colours and links.
export function configured(panel, frames, replace, { theme = THEMES.dark, timeZone = 'utc' } = {}) {
  return grafana.applyFieldOverrides({
    data: frames,
    fieldConfig: fieldConfigOf(panel),
    fieldConfigRegistry: registry(panel.type),
    replaceVariables: replace,
    theme,
    timeZone,
  });
}

// A panel's configuration of its fields as Grafana has it once it is loaded: JSON has no infinity, so the lowest step
// of thresholds comes as null.
export function fieldConfigOf({ fieldConfig = {} }) {
  const { defaults = {}, overrides = [] } = structuredClone(fieldConfig);
  const properties = overrides.flatMap((override) => override.properties);
  for (const thresholds of [defaults.thresholds, ...properties.filter(({ id }) => id === 'thresholds').map(valueOf)]) {
    thresholds?.steps.forEach((step) => (step.value ??= -Infinity));
  }
  return { defaults, overrides };
}

function valueOf({ value }) {
  return value;
}

// How many fields a matcher of an override fits.
export function matches(matcher, frames) {
  const fits = grafana.fieldMatchers.get(matcher.id).get(matcher.options);
  return frames.flatMap((frame) => frame.fields.filter((field) => fits(field, frame, frames))).length;
}
