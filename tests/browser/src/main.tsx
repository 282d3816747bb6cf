// Draws dashboard.json, which is served beside this page.
import { ThemeContext } from '@grafana/data';
import { registerRuntimeDataSource } from '@grafana/scenes';
import { GlobalStyles } from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';
import { MemoryRouter } from 'react-router-dom';
import { problems, Prometheus } from './datasource';
import { theme } from './panels';
import { provide } from './runtime';
import { done, panels, scene } from './scene';

class Boundary extends React.Component<any, { error?: Error }> {
  state: { error?: Error } = {};

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  componentDidCatch(error: Error) {
    problems.push(`component: ${error.stack}`);
  }

  render() {
    return this.state.error ? <pre>{String(this.state.error)}</pre> : this.props.children;
  }
}

async function main() {
  const i18n = await import('@grafana/i18n');
  await i18n.initPluginTranslations('scenes');
  let root: any;
  const source = new Prometheus(() => root);
  registerRuntimeDataSource({ dataSource: source });
  provide(source, () => root);
  const json = await (await fetch('/dashboard.json')).json();
  root = scene(json, new URLSearchParams(window.location.search));
  Object.assign(window, {
    report: () => ({ problems, panels: panels(root) }),
    done: () => done(root),
  });
  createRoot(document.getElementById('root')!).render(
    <Boundary>
      <ThemeContext.Provider value={theme}>
        <GlobalStyles />
        <MemoryRouter>
          <root.Component model={root} />
        </MemoryRouter>
      </ThemeContext.Provider>
    </Boundary>
  );
}

Object.assign(window, { report: () => ({ problems, panels: [] }), done: () => problems.length > 0 });
main().catch((error) => problems.push(`start: ${error.stack}`));
