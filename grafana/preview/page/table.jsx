// Table, as in Grafana's panel.
import { Table } from '@grafana/ui';

export function TablePanel({ panel, frames, replace, shown, width, height }) {
  const { options } = panel;
  return (
    <Table
      data={frames[0]}
      noHeader={!(options.showHeader ?? true)}
      initialSortBy={options.sortBy}
      cellHeight={options.cellHeight}
      timeRange={shown}
      fieldConfig={panel.fieldConfig}
      replaceVariables={replace}
      resizable
      {...{ width, height }}
    />
  );
}
