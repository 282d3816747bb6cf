// Panel plugins: Grafana's own are not published, so thin ones over the same components.
import {
  cacheFieldDisplayNames,
  createTheme,
  getFieldDisplayValues,
  PanelPlugin,
} from '@grafana/data';
import { BigValue, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import React from 'react';
import { problems } from './datasource';

export const theme = createTheme({ colors: { mode: 'dark' } });

const GRAPH_DEFAULTS = {
  drawStyle: 'line',
  lineWidth: 1,
  fillOpacity: 0,
  showPoints: 'auto',
  axisPlacement: 'auto',
  stacking: { mode: 'none' },
};

function empty(props: any) {
  const text = props.fieldConfig.defaults.noValue ?? 'No data';
  return <div style={{ color: theme.colors.text.secondary, padding: 16 }}>{text}</div>;
}

function Graph(props: any) {
  if (!props.data.series.length) {
    return empty(props);
  }
  return (
    <TimeSeries
      frames={props.data.series}
      structureRev={props.data.structureRev ?? 1}
      timeRange={props.timeRange}
      timeZone={props.timeZone}
      width={props.width}
      height={props.height}
      legend={{ displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] } as any}
      options={props.options}
    >
      {() => <></>}
    </TimeSeries>
  );
}

function Stat(props: any) {
  const values = getFieldDisplayValues({
    fieldConfig: props.fieldConfig,
    reduceOptions: { calcs: ['lastNotNull'], values: false },
    replaceVariables: props.replaceVariables,
    theme,
    data: props.data.series,
    timeZone: props.timeZone,
  } as any);
  return (
    <BigValue
      width={props.width}
      height={props.height}
      value={values[0]?.display ?? { text: 'No data', numeric: NaN }}
      colorMode={props.options.colorMode}
      graphMode={props.options.graphMode}
      textMode={props.options.textMode}
      theme={theme}
    />
  );
}

function Table(props: any) {
  const [frame] = props.data.series;
  if (!frame?.length) {
    return empty(props);
  }
  cacheFieldDisplayNames(props.data.series);
  return (
    <TableNG
      data={frame}
      width={props.width}
      height={props.height}
      structureRev={props.data.structureRev ?? 1}
      timeRange={props.timeRange}
      replaceVariables={props.replaceVariables}
    />
  );
}

function plugin(id: string, component: any, color: string, custom: object) {
  const made = new PanelPlugin<any>(component).useFieldConfig({
    standardOptions: { color: { defaultValue: { mode: color } } } as any,
    useCustomConfig: (builder: any) => {
      for (const [name, value] of Object.entries(custom)) {
        builder.addCustomEditor({
          id: name,
          path: name,
          name,
          defaultValue: value,
          editor: () => null,
          override: () => null,
          process: (given: any) => given,
          shouldApply: () => true,
        });
      }
    },
  });
  made.meta = { id, name: id, type: 'panel', module: '', baseUrl: '', sort: 1, info: {} } as any;
  return made;
}

const plugins: Record<string, PanelPlugin> = {
  timeseries: plugin('timeseries', Graph, 'palette-classic', GRAPH_DEFAULTS),
  stat: plugin('stat', Stat, 'thresholds', {}),
  table: plugin('table', Table, 'palette-classic', { filterable: false, hidden: false }),
};

export function cached(id: string) {
  if (!plugins[id]) {
    problems.push(`panel type: ${id}`);
  }
  return plugins[id];
}
