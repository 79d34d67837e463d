// What Grafana puts in for `$name`, `${name:format}` and `${name.path:format}` in links and titles.
import { grafana } from '#grafana';

const VARIABLE = /\$(\w+)|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}/g;
export const ALL = '$__all';

// A function as panels have it; `selected` has lists of values by the names of variables. What is not known stays as
// it is, as in Grafana, and is told to `unknown`.
export function replacer({ selected, from, to, unknown = () => {} }) {
  const range = { __from: [String(from)], __to: [String(to)], __url_time_range: [`from=${from}&to=${to}`] };
  const known = { ...selected, ...range };
  return (text, scoped = {}, format = '') =>
    text.replace(VARIABLE, (found, plain, name = plain, path = '', own = format) => {
      const value = ofRow(name, path, scoped.__dataContext?.value);
      const values = value === undefined ? known[name] : [value];
      if (values === undefined) {
        unknown(found);
        return found;
      }
      // The time range is a piece of an address as it stands.
      return formatted(name, values, name === '__url_time_range' ? '' : own);
    });
}

function ofRow(name, path, row) {
  if (!row) {
    return undefined;
  }
  const { frame, field, rowIndex, calculatedValue } = row;
  switch (name) {
    case '__data':
      return rowIndex === undefined ? undefined : text(ofPath({ fields: fieldsOf(frame, rowIndex) }, path));
    case '__field':
      return text(ofPath({ name: grafana.getFieldDisplayName(field, frame), labels: field.labels ?? {} }, path));
    case '__series':
      return grafana.getFrameDisplayName(frame);
    case '__value': {
      const shown = calculatedValue ?? field.display(field.values[rowIndex]);
      return text(path === 'text' ? grafana.formattedValueToString(shown) : shown[path] ?? shown.numeric);
    }
    default:
      return undefined;
  }
}

function fieldsOf(frame, rowIndex) {
  return grafana.getFieldDisplayValuesProxy({ frame, rowIndex });
}

// `labels.x`, `["a name"]`, `[0]`
function ofPath(of, path) {
  const steps = [...path.matchAll(/\["([^"]*)"\]|\['([^']*)'\]|\[(\d+)\]|([^.[\]]+)/g)];
  return steps.reduce((value, [, ...names]) => value?.[names.find((name) => name !== undefined)], of);
}

function text(value) {
  return value === undefined || value === null ? '' : String(value);
}

function formatted(name, values, format) {
  const encoded = values.map(strictly);
  switch (format) {
    case 'queryparam':
      return encoded.map((value) => `var-${strictly(name)}=${value}`).join('&');
    case 'percentencode':
      return values.length > 1 ? strictly(`{${values.join(',')}}`) : encoded[0] ?? '';
    case 'uriencode':
      return encodeURI(values.length > 1 ? `{${values.join(',')}}` : values[0] ?? '');
    default:
      return values.length > 1 ? `{${values.join(',')}}` : values[0] ?? '';
  }
}

function strictly(value) {
  const rest = /[!'()*]/g;
  return encodeURIComponent(value).replace(rest, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}
