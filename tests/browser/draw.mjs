// node draw.mjs URL PNG WIDTH dashboard|page|dark: take a picture, tell what went wrong.
import { chromium } from 'playwright-core';
import { readFileSync } from 'node:fs';

const WAIT_MS = 60_000;
const SETTLE_MS = 1_500; // of what is drawn once the data is there
const [url, png, width, kind] = process.argv.slice(2);
const said = [];
const requests = [];

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
});
try {
  const page = await browser.newPage({
    viewport: { width: Number(width), height: 900 },
    colorScheme: kind === 'page' ? 'light' : 'dark',
    timezoneId: 'UTC',
    locale: 'en-US',
    bypassCSP: false,
  });
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) {
      said.push(`console: ${message.text().slice(0, 500)}`);
    }
  });
  page.on('pageerror', (error) => said.push(`page: ${String(error.stack).slice(0, 900)}`));
  page.on('request', (request) => requests.push(request.url()));
  page.on('requestfailed', (request) => {
    const why = request.failure()?.errorText;
    if (why !== 'net::ERR_ABORTED') {
      said.push(`failed: ${request.url()}: ${why}`);
    }
  });
  page.on('response', (response) => {
    if (response.status() >= 400) {
      said.push(`status ${response.status()}: ${response.url()}`);
    }
  });
  await page.goto(url, { waitUntil: 'load' });
  let report = {};
  if (kind === 'dashboard') {
    await page.waitForFunction(() => window.done?.(), undefined, { timeout: WAIT_MS });
    const height = await page.evaluate(() =>
      Math.max(
        ...[...document.querySelectorAll('.react-grid-layout')].map(
          (grid) => grid.getBoundingClientRect().bottom
        )
      )
    );
    if (Number.isFinite(height)) {
      await page.setViewportSize({ width: Number(width), height: Math.ceil(height) + 24 });
    }
    await page.waitForTimeout(SETTLE_MS);
    report = await page.evaluate(() => window.report());
    report.text = await page.evaluate(() => document.body.innerText);
    report.canvases = await page.evaluate(() => document.querySelectorAll('canvas').length);
    await page.screenshot({ path: png });
  } else {
    report.overflow = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth
    );
    report.smallest = await page.evaluate(() =>
      Math.min(
        ...[...document.querySelectorAll('body *')]
          .filter((each) => each.innerText)
          .map((each) => parseFloat(getComputedStyle(each).fontSize))
      )
    );
    await page.screenshot({ path: png });
    // The page's own policy forbids scripts: axe is put in past it, as by a debugger.
    const context = await browser.newContext({
      bypassCSP: true,
      colorScheme: kind === 'page' ? 'light' : 'dark',
      viewport: { width: Number(width), height: 900 },
    });
    const copy = await context.newPage();
    await copy.goto(url);
    const axe = new URL('node_modules/axe-core/axe.min.js', import.meta.url);
    await copy.addScriptTag({ content: readFileSync(axe, 'utf-8') });
    const found = await copy.evaluate(() => window.axe.run());
    report.violations = found.violations.map(
      (each) => `${each.id}: ${each.nodes.map((node) => node.html).join(' ')}`
    );
    report.passes = found.passes.length;
  }
  console.log(JSON.stringify({ ...report, said, requests }));
} finally {
  await browser.close();
}
