// Stat and bar gauge, as in Grafana's panels of these names.
import { getDisplayValueAlignmentFactors } from '@grafana/data';
import { BarGauge, BigValue, VizRepeater } from '@grafana/ui';

import { reduced } from '../lib/cells.mjs';

export function StatPanel({ panel, frames, replace, theme, width, height }) {
  const { options } = panel;
  const draw = ({ value, ...sized }) => (
    <BigValue
      value={value.display}
      sparkline={sparkline(value)}
      colorMode={options.colorMode}
      graphMode={options.graphMode}
      justifyMode={options.justifyMode}
      textMode={textMode(options.textMode, sized.count)}
      alignmentFactors={sized.alignmentFactors}
      text={options.text}
      count={sized.count}
      wideLayout={options.wideLayout ?? true}
      width={sized.width}
      height={sized.height}
      theme={theme}
    />
  );
  return (
    <VizRepeater
      getValues={() => reduced(panel, frames, replace, theme)}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={draw}
      itemSpacing={3}
      autoGrid
      orientation={options.orientation ?? 'auto'}
      {...{ width, height }}
    />
  );
}

// One number alone is not named.
function textMode(mode = 'auto', count) {
  return mode === 'auto' ? (count > 1 ? 'value_and_name' : 'value') : mode;
}

function sparkline({ sparkline: drawn, field }) {
  return drawn && { ...drawn, yMin: field.min, yMax: field.max };
}

export function BarGaugePanel({ panel, frames, replace, theme, width, height }) {
  const { options } = panel;
  const draw = ({ value, ...sized }) => (
    <BarGauge
      value={value.display}
      field={value.field}
      display={value.view?.getFieldDisplayProcessor(value.colIndex)}
      text={options.text}
      theme={theme}
      itemSpacing={10}
      lcdCellWidth={8}
      displayMode={options.displayMode}
      showUnfilled={options.showUnfilled ?? true}
      valueDisplayMode={options.valueMode}
      namePlacement={options.namePlacement}
      width={sized.width}
      height={sized.height}
      orientation={sized.orientation}
      alignmentFactors={sized.alignmentFactors}
    />
  );
  return (
    <VizRepeater
      getValues={() => reduced(panel, frames, replace, theme)}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={draw}
      itemSpacing={10}
      minVizHeight={options.minVizHeight ?? 16}
      maxVizHeight={options.maxVizHeight ?? 300}
      minVizWidth={options.minVizWidth ?? 8}
      orientation={options.orientation ?? 'auto'}
      {...{ width, height }}
    />
  );
}
