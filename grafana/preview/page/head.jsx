// The head of a dashboard with its variables and links, and the headlines of its rows.
import { Icon, useTheme2 } from '@grafana/ui';

export function Head({ title, description, variables, links, selected, from, to }) {
  const { spacing, typography } = useTheme2();
  const range = `${time(from)} to ${time(to)}`;
  return (
    <div style={{ marginBottom: spacing(2) }}>
      <div style={{ display: 'flex', justifyContent: 'space-between', gap: spacing(2), marginBottom: spacing(1) }}>
        <span style={{ ...typography.h4 }} title={description}>
          {title}
        </span>
        <span style={typography.bodySmall}>{range}</span>
      </div>
      <div style={{ display: 'flex', flexWrap: 'wrap', gap: spacing(1) }}>
        {variables.map((variable) => (
          <Variable key={variable.name} {...variable} values={selected[variable.name]} />
        ))}
        <span style={{ flexGrow: 1 }} />
        {links.map((link) => (
          <Variable key={link.title} label={link.title} values={[]} />
        ))}
      </div>
    </div>
  );
}

function Variable({ label, name, values }) {
  const { colors, spacing, typography, shape } = useTheme2();
  const box = { ...typography.bodySmall, padding: spacing(0.75, 1), border: `1px solid ${colors.border.weak}` };
  return (
    <span style={{ display: 'inline-flex', borderRadius: shape.radius.default, background: colors.background.primary }}>
      <span style={{ ...box, fontWeight: typography.fontWeightMedium }}>{label ?? name}</span>
      {values.length > 0 && (
        <span style={{ ...box, borderLeft: 0 }}>
          {values.map((value) => (value === '$__all' ? 'All' : value)).join(' + ')} <Icon name="angle-down" size="sm" />
        </span>
      )}
    </span>
  );
}

export function RowHead({ title, collapsed, panels = [] }) {
  const { colors, spacing, typography } = useTheme2();
  const hidden = collapsed ? ` (${panels.length} panels)` : '';
  return (
    <div style={{ display: 'flex', alignItems: 'center', height: '100%', gap: spacing(1) }}>
      <Icon name={collapsed ? 'angle-right' : 'angle-down'} />
      <span style={typography.h6}>{title}</span>
      <span style={{ ...typography.bodySmall, color: colors.text.secondary }}>{hidden}</span>
    </div>
  );
}

function time(milliseconds) {
  return new Date(milliseconds).toISOString().slice(0, 16).replace('T', ' ');
}
