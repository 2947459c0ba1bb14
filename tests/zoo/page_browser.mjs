// Run by test_web_page.py: opens the page in Chromium over its debugging pipe, moves every control, and writes what it
// saw.   node page_browser.mjs TASK.json OUT.json
import { spawn } from 'node:child_process';
import fs from 'node:fs';

const task = JSON.parse(fs.readFileSync(process.argv[2]));
const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', `--user-data-dir=${task.profile}`];
const chromium = spawn(task.browser, [...flags, '--remote-debugging-pipe', 'about:blank'],
  { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
const [, , , to, from] = chromium.stdio;
let last = 0, buffer = '';
const waiting = new Map(), events = [];
from.on('data', data => {
  buffer += data;
  for (let end; (end = buffer.indexOf('\0')) >= 0; buffer = buffer.slice(end + 1)) {
    const message = JSON.parse(buffer.slice(0, end));
    if (message.id) waiting.get(message.id)(message);
    else events.push(message);
  }
});
const send = (method, params = {}, sessionId) => new Promise((resolve, reject) => {
  waiting.set(++last, m => (m.error ? reject(new Error(`${method}: ${m.error.message}`)) : resolve(m.result)));
  to.write(`${JSON.stringify({ id: last, method, params, sessionId })}\0`);
});
const out = { pages: [] };

async function visit({ width, scheme, full }) {
  const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
  const ask = (method, params) => send(method, params, sessionId);
  const run = async expression => {
    const { result, exceptionDetails } = await ask('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  for (const domain of ['Page', 'Runtime', 'Network', 'Log', 'DOM']) await ask(`${domain}.enable`);
  await ask('Emulation.setDeviceMetricsOverride', { width, height: 1000, deviceScaleFactor: 1, mobile: width < 600 });
  await ask('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
  await ask('Page.navigate', { url: task.url });
  while (!events.some(e => e.method === 'Page.loadEventFired' && e.sessionId === sessionId)) await new Promise(go => setTimeout(go, 20));
  const until = (name, value) => run(`new Promise((yes, no) => { const end = Date.now() + 60000; (function look() {
    const now = document.documentElement.dataset.${name};
    if (now === '${value}') yes(true);
    else if (now === 'failed' || Date.now() > end) no(new Error('${name} is ' + now + ': ' + document.getElementById('status')?.textContent));
    else setTimeout(look, 20); })(); })`);
  const pixels = id => run(`(() => { const c = document.getElementById('${id}');
    return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 0); })()`);
  const text = id => run(`document.getElementById('${id}').textContent`);
  const set = (id, value, event = 'input') => run(`(() => { const e = document.getElementById('${id}'); e.value = '${value}';
    e.dispatchEvent(new Event('${event}')); document.documentElement.dataset.state = 'asked'; })()`);
  await until('state', 'done');
  const seen = { width, scheme, drawn: {}, status: await text('status') };
  if (full) {
    await set('steps', task.steps);
    await until('state', 'done');
    for (const [id, value] of task.controls) {                             // each control changes the picture
      await set(id, value);
      await until('state', 'done');
      seen.drawn[`${id}=${value}`] = await pixels('xt');
    }
    seen.status = await text('status');
    await run("document.getElementById('time').value = 0; document.getElementById('time').dispatchEvent(new Event('input'))");
    seen.noise = await pixels('xt');
    seen.noiseTime = await text('time-out');
    await set('draws', 5);
    await run("document.getElementById('measure').click()");
    await until('state', 'done');
    seen.typicality = await text('typicality');
    seen.map = await pixels('map');
    await run("document.getElementById('all').click()");
    await until('row', 'done');
    seen.row = await run("[...document.querySelectorAll('#row figcaption')].map(e => e.textContent)");
    const { root } = await ask('DOM.getDocument'), { nodeId } = await ask('DOM.querySelector', { nodeId: root.nodeId, selector: '#file' });
    await run("document.documentElement.dataset.state = 'asked'");
    await ask('DOM.setFileInputFiles', { nodeId, files: [task.picture] });
    await until('state', 'done');
    seen.own = { pixels: await pixels('x0'), typicality: await text('typicality') };
  }
  seen.wide = await run('document.documentElement.scrollWidth');
  seen.unnamed = await run(`[...document.querySelectorAll('select, input, button, canvas')].filter(e => !e.labels?.length &&
    !e.textContent.trim() && !e.getAttribute('aria-label') && e.offsetParent).map(e => e.id || e.outerHTML)`);
  seen.paper = await run('getComputedStyle(document.body).backgroundColor');
  if (task.pictures) {
    const { data } = await ask('Page.captureScreenshot', { captureBeyondViewport: true });
    fs.writeFileSync(`${task.pictures}/page-${width}-${scheme}.png`, Buffer.from(data, 'base64'));
  }
  out.pages.push(seen);
  await send('Target.closeTarget', { targetId });
}

try {
  for (const way of task.ways) await visit(way);
  out.requests = events.filter(e => e.method === 'Network.requestWillBeSent').map(e => e.params.request.url)
    .filter(url => url !== task.url && !/^(blob|data):/.test(url));
  out.errors = events.filter(e => ['Runtime.exceptionThrown', 'Log.entryAdded'].includes(e.method)).map(e => JSON.stringify(e.params))
    .filter(text => !/"level":"warning"/.test(text));
} catch (error) {
  out.failed = `${error.stack}\n${events.filter(e => /exception|entryAdded/.test(e.method)).map(e => JSON.stringify(e.params)).join('\n')}`;
}
fs.writeFileSync(process.argv[3], JSON.stringify(out));
chromium.kill();
process.exit(0);
