// What Grafana's core provides to the libraries at run time.
import * as data from '@grafana/data';
import * as runtime from '@grafana/runtime';
import { sceneGraph } from '@grafana/scenes';
import { catchError, map, of } from 'rxjs';
import { problems, Prometheus, UID } from './datasource';
import { cached, theme } from './panels';

const SETTINGS = {
  uid: UID,
  name: 'Prometheus',
  type: 'prometheus',
  meta: { id: 'prometheus' },
};

function option(id: string, process: any, defaultValue?: any) {
  return {
    id,
    path: id,
    name: id,
    description: '',
    editor: () => null,
    override: () => null,
    process,
    defaultValue,
    shouldApply: () => true,
    category: ['Standard options'],
  };
}

export function provide(source: Prometheus, root: () => any) {
  const d: any = data;
  runtime.config.theme2 = theme as any;
  (runtime.config as any).featureToggles = {};
  runtime.setRunRequest(((asked: any, request: any) =>
    asked.query(request).pipe(
      map((answer: any) => ({
        state: data.LoadingState.Done,
        series: answer.data,
        timeRange: request.range,
        request,
        annotations: [],
      })),
      catchError((error: any) => {
        problems.push(`query: ${error.message}`);
        return of({
          state: data.LoadingState.Error,
          series: [],
          timeRange: request.range,
          error: { message: error.message },
        });
      })
    )) as any);
  runtime.setDataSourceSrv({
    get: async () => source,
    getInstanceSettings: () => SETTINGS,
    getList: () => [SETTINGS],
    reload() {},
    registerRuntimeDataSource() {},
  } as any);
  runtime.setAppEvents(new data.EventBusSrv() as any);
  runtime.setTemplateSrv({
    replace: (text: any, scoped: any, format: any) =>
      sceneGraph.interpolate(root(), text, scoped, format),
    getVariables: () => [],
    containsTemplate: () => false,
    updateTimeRange() {},
  } as any);
  runtime.setPluginImportUtils({
    importPanelPlugin: async (id: string) => {
      const found = cached(id);
      if (!found) {
        throw new Error(`panel type: ${id}`);
      }
      return found;
    },
    getPanelPluginFromCache: cached,
  });
  data.standardEditorsRegistry.setInit(() => []);
  data.standardFieldConfigEditorRegistry.setInit(
    () =>
      [
        option('unit', d.unitOverrideProcessor),
        option('min', d.numberOverrideProcessor),
        option('max', d.numberOverrideProcessor),
        option('decimals', d.numberOverrideProcessor),
        option('displayName', d.displayNameOverrideProcessor),
        option('noValue', d.stringOverrideProcessor),
        option('thresholds', d.thresholdsOverrideProcessor),
        option('mappings', d.valueMappingsOverrideProcessor, []),
        option('color', d.identityOverrideProcessor),
        option('links', d.dataLinksOverrideProcessor),
        option('filterable', d.booleanOverrideProcessor),
        option('actions', d.identityOverrideProcessor),
      ] as any
  );
  const t: any = data.standardTransformers;
  data.standardTransformersRegistry.setInit(() =>
    [t.mergeTransformer, t.organizeFieldsTransformer, t.orderFieldsTransformer].map(
      (each: any) => ({
        id: each.id,
        name: each.name,
        transformation: () => Promise.resolve(each),
        editor: () => null,
      })
    ) as any
  );
}
