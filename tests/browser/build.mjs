// Bundles src/ into the folder that is given.
import * as esbuild from 'esbuild';

const urls = ['.svg', '.ttf', '.woff', '.woff2', '.eot', '.png'];
await esbuild.build({
  entryPoints: ['src/main.tsx'],
  bundle: true,
  format: 'esm',
  splitting: true,
  minify: true,
  outdir: process.argv[2],
  loader: Object.fromEntries(urls.map((each) => [each, 'dataurl'])),
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  alias: { 'react-router-dom-v5-compat': 'react-router-dom' },
  logLevel: 'error',
});
