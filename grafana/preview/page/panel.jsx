// One panel: its data made ready as Grafana does, in its frame, or the error that came up.
import { ErrorBoundary, PanelChrome, useTheme2 } from '@grafana/ui';
import { useEffect, useState } from 'react';

import { configured, transformedBy } from '../lib/fields.mjs';
import { framesOf } from '../lib/frames.mjs';
import { replacer } from '../lib/variables.mjs';
import { HeatmapPanel } from './heatmap.jsx';
import { BarGaugePanel, StatPanel } from './numbers.jsx';
import { StateTimelinePanel } from './states.jsx';
import { TablePanel } from './table.jsx';
import { LineDefaults, TimeSeriesPanel } from './timeseries.jsx';

const TYPES = {
  stat: StatPanel,
  bargauge: BarGaugePanel,
  table: TablePanel,
  timeseries: TimeSeriesPanel,
  heatmap: HeatmapPanel,
  'state-timeline': StateTimelinePanel,
};
const DEFAULTS = { timeseries: LineDefaults };
const UNPADDED = ['table'];

export function Panel({ panel, width, height, shown, theme, answers, error }) {
  const [ready, setReady] = useState({});
  useEffect(() => {
    made(panel, answers, shown, theme).then(setReady, (thrown) => setReady({ error: thrown.message }));
  }, []);
  const failed = error ?? ready.error;
  const description = panel.description;
  const padding = UNPADDED.includes(panel.type) ? 'none' : 'md';
  return (
    <PanelChrome {...{ width, height, description, padding }} title={replacer(shown)(panel.title)}>
      {(innerWidth, innerHeight) => {
        const size = { width: innerWidth, height: innerHeight };
        if (failed) {
          return <Failed title={panel.title} error={failed} />;
        }
        return ready.frames && <Drawn {...{ panel, shown, theme, ...ready, ...size }} />;
      }}
    </PanelChrome>
  );
}

async function made(panel, answers, shown, theme) {
  if (!TYPES[panel.type]) {
    throw new Error(`no preview of panels of type ${panel.type}`);
  }
  const replace = replacer(shown);
  const frames = await transformedBy(panel, framesOf(panel.targets ?? [], answers), replace);
  return { frames: configured(withDefaults(panel), frames, replace, { theme }), replace };
}

function withDefaults(panel) {
  const custom = { ...DEFAULTS[panel.type], ...panel.fieldConfig.defaults.custom };
  return { ...panel, fieldConfig: { ...panel.fieldConfig, defaults: { ...panel.fieldConfig.defaults, custom } } };
}

function Drawn(props) {
  const { panel } = props;
  const Type = TYPES[panel.type];
  const hasData = props.frames.some(({ length }) => length);
  if (!hasData && panel.type !== 'stat' && panel.type !== 'bargauge') {
    return <Empty {...props} />;
  }
  return (
    <ErrorBoundary>
      {({ error }) =>
        error ? (
          <Failed title={panel.title} error={error.message} />
        ) : (
          <div data-told={hasData ? undefined : `empty: ${panel.title}`}>
            <Type {...props} />
          </div>
        )
      }
    </ErrorBoundary>
  );
}

// What Grafana's state timeline says of an empty answer, whatever the panel's text for it is (grafana issue 88004).
const OF_NO_STATES = 'Data does not have a time field';

// As Grafana says it in the middle of a panel.
function Empty({ panel, width, height }) {
  const { typography } = useTheme2();
  const style = { ...typography.body, width, height, display: 'flex', alignItems: 'center', justifyContent: 'center' };
  return (
    <div style={{ ...style, textAlign: 'center' }} data-told={`empty: ${panel.title}`}>
      {panel.type === 'state-timeline' ? OF_NO_STATES : panel.fieldConfig.defaults.noValue ?? 'No data'}
    </div>
  );
}

function Failed({ title, error }) {
  const { colors, spacing } = useTheme2();
  return (
    <div style={{ color: colors.error.text, padding: spacing(1) }} data-told={`error: ${title}: ${error}`}>
      {error}
    </div>
  );
}
