// A dashboard's JSON as a scene: what Grafana's core does with what it loads.
import {
  DataSourceVariable,
  EmbeddedScene,
  QueryVariable,
  SceneControlsSpacer,
  SceneDataTransformer,
  SceneGridItem,
  SceneGridLayout,
  SceneGridRow,
  sceneGraph,
  SceneQueryRunner,
  SceneTimePicker,
  SceneTimeRange,
  SceneVariableSet,
  VariableValueSelectors,
  VizPanel,
} from '@grafana/scenes';
import { problems, UID } from './datasource';

const DATASOURCE = { uid: UID, type: 'prometheus' };

function variable(json: any, chosen: URLSearchParams) {
  if (json.type === 'datasource') {
    const value = { value: UID, text: 'Prometheus' };
    return new DataSourceVariable({
      name: json.name,
      label: json.label,
      pluginId: json.query,
      ...value,
    });
  }
  const given = chosen.get(json.name);
  const all = json.includeAll && !given;
  return new QueryVariable({
    name: json.name,
    label: json.label,
    datasource: DATASOURCE,
    query: json.query,
    isMulti: json.multi,
    includeAll: json.includeAll,
    allValue: json.allValue,
    defaultToAll: Boolean(all),
    value: all ? ['$__all'] : (given ?? ''),
    text: all ? ['All'] : (given ?? ''),
  });
}

function body(panel: any) {
  const queries = new SceneQueryRunner({
    datasource: DATASOURCE,
    queries: panel.targets,
    maxDataPoints: 300,
  });
  return new VizPanel({
    key: `panel-${panel.id}`,
    title: panel.title,
    description: panel.description,
    pluginId: panel.type,
    pluginVersion: '1',
    options: panel.options ?? {},
    fieldConfig: panel.fieldConfig ?? { defaults: {}, overrides: [] },
    $data: panel.transformations?.length
      ? new SceneDataTransformer({ $data: queries, transformations: panel.transformations })
      : queries,
  });
}

function moment(milliseconds: string | null): string | null {
  return milliseconds && new Date(Number(milliseconds)).toISOString();
}

export function scene(json: any, chosen: URLSearchParams): EmbeddedScene {
  const children = json.panels.map((panel: any) => {
    const { x, y, w, h } = panel.gridPos;
    if (panel.type === 'row') {
      return new SceneGridRow({ title: panel.title, y, isCollapsed: false, children: [] });
    }
    return new SceneGridItem({
      x,
      y,
      width: w,
      height: h,
      isResizable: false,
      isDraggable: false,
      body: body(panel),
    });
  });
  return new EmbeddedScene({
    $timeRange: new SceneTimeRange({
      from: moment(chosen.get('from')) ?? json.time.from,
      to: moment(chosen.get('to')) ?? json.time.to,
      timeZone: 'utc',
    }),
    $variables: new SceneVariableSet({
      variables: json.templating.list.map((each: any) => variable(each, chosen)),
    }),
    controls: [
      new VariableValueSelectors({}),
      new SceneControlsSpacer(),
      new SceneTimePicker({}),
    ],
    body: new SceneGridLayout({ isLazy: false, children }),
  });
}

// What each panel got: "Done" or not, how many numbers or rows.
export function panels(root: EmbeddedScene) {
  const found = sceneGraph.findAllObjects(root, (each) => each instanceof VizPanel);
  return (found as VizPanel[]).map((panel) => {
    const data = sceneGraph.getData(panel).state.data;
    const series = data?.series ?? [];
    const values = series.flatMap((frame: any) =>
      frame.fields.flatMap((field: any) => [...field.values].filter((v) => v !== null))
    );
    const numbers = series.flatMap((frame: any) =>
      frame.fields
        .filter((field: any) => field.type === 'number')
        .flatMap((field: any) => [...field.values].filter(Number.isFinite))
    );
    const graph = panel.state.pluginId !== 'table';
    return {
      title: panel.state.title,
      state: String(data?.state),
      columns: series[0]?.fields
        .filter((field: any) => !field.config?.custom?.hidden)
        .map((field: any) => field.config?.displayName ?? field.state?.displayName ?? field.name),
      points: graph ? numbers.length : values.length,
    };
  });
}

export function done(root: EmbeddedScene): boolean {
  if (problems.length) {
    return true;
  }
  const all = panels(root);
  return all.length > 0 && all.every((panel) => ['Done', 'Error'].includes(panel.state));
}
