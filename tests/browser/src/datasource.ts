// Prometheus over its HTTP API. Grafana's own data source needs Grafana's back end.
import { createDataFrame, FieldType, LoadingState } from '@grafana/data';
import { RuntimeDataSource, sceneGraph } from '@grafana/scenes';
import { from } from 'rxjs';

export const UID = 'prometheus';
const SCRAPE_SECONDS = 60;

export const problems: string[] = [];

export async function ask(path: string, parameters: Record<string, string>): Promise<any> {
  const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`);
  const body = await answer.json();
  if (body.status !== 'success') {
    problems.push(`query: ${parameters.query ?? path}: ${body.error}`);
    throw new Error(body.error);
  }
  return body.data;
}

function legend(format: string | undefined, metric: Record<string, string>): string {
  if (format) {
    return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => metric[label] ?? '');
  }
  const labels = Object.entries(metric).filter(([name]) => name !== '__name__');
  return labels.map(([name, value]) => `${name}="${value}"`).join(', ') || 'Value';
}

// As Grafana puts several values of a variable into a regular expression.
function many(value: string | string[]): string {
  return Array.isArray(value) ? `(${value.join('|')})` : value;
}

function table(refId: string, several: boolean, result: any[]) {
  const labels = [...new Set(result.flatMap((row) => Object.keys(row.metric)))].sort();
  const name = several ? `Value #${refId}` : 'Value';
  return createDataFrame({
    refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: result.map((row) => row.value[0] * 1000) },
      ...labels.map((label) => ({
        name: label,
        type: FieldType.string,
        values: result.map((row) => row.metric[label] ?? ''),
      })),
      { name, type: FieldType.number, values: result.map((row) => +row.value[1]) },
    ],
  });
}

function frame(target: any, metric: any, points: Array<[number, string]>, step?: number) {
  const name = legend(target.legendFormat, metric);
  return createDataFrame({
    refId: target.refId,
    name,
    fields: [
      {
        name: 'Time',
        type: FieldType.time,
        config: step ? { interval: step * 1000 } : {},
        values: points.map(([time]) => time * 1000),
      },
      {
        name: 'Value',
        type: FieldType.number,
        labels: metric,
        config: { displayNameFromDS: name },
        // A gap, as Grafana's back end tells it.
        values: points.map(([, value]) => (value === 'NaN' ? null : +value)),
      },
    ],
  });
}

export class Prometheus extends RuntimeDataSource {
  constructor(private readonly root: () => any) {
    super('prometheus', UID);
  }

  query(request: any): any {
    return from(this.answer(request).then((data) => ({ data, state: LoadingState.Done })));
  }

  private async answer(request: any) {
    const end = request.range.to.valueOf() / 1000;
    const start = request.range.from.valueOf() / 1000;
    const step = Math.max(SCRAPE_SECONDS, Math.ceil(request.intervalMs / 1000));
    const rate = `${Math.max(4 * SCRAPE_SECONDS, step + SCRAPE_SECONDS)}s`;
    const frames = [];
    for (const target of request.targets) {
      const variables = { ...request.scopedVars, __rate_interval: { value: rate } };
      const query = sceneGraph.interpolate(this.root(), target.expr, variables, many);
      if (target.instant) {
        const { result } = await ask('/api/v1/query', { query, time: String(end) });
        if (target.format === 'table') {
          frames.push(table(target.refId, request.targets.length > 1, result));
        } else {
          frames.push(...result.map((row: any) => frame(target, row.metric, [row.value])));
        }
      } else {
        const times = { start: String(start), end: String(end), step: String(step) };
        const { result } = await ask('/api/v1/query_range', { query, ...times });
        frames.push(...result.map((row: any) => frame(target, row.metric, row.values, step)));
      }
    }
    return frames;
  }

  async metricFindQuery(query: any) {
    const text = sceneGraph.interpolate(
      this.root(),
      typeof query === 'string' ? query : query.query,
      undefined,
      many
    );
    const match = /^label_values\((.+),\s*(\w+)\)$/.exec(text);
    if (!match) {
      problems.push(`variable: ${text}`);
      return [];
    }
    const values = await ask(`/api/v1/label/${match[2]}/values`, { 'match[]': match[1] });
    return values.map((value: string) => ({ text: value }));
  }

  testDatasource(): any {
    return Promise.resolve({ status: 'success', message: '' });
  }
}
