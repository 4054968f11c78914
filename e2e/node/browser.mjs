// A real browser for the tests: Chromium, by way of Playwright. Go starts it and says in lines of JSON what to do:
//
//   node browser.mjs /usr/bin/chromium
//   {"id": 1, "do": "window", "with": [{"colorScheme": "dark"}]}           {"id": 1, "value": 1}
//   {"id": 2, "do": "tab", "on": 1}                                       {"id": 2, "value": 2}
//   {"id": 3, "do": "goto", "on": 2, "with": ["http://…"]}                {"id": 3, "value": null}
//   {"id": 4, "do": "click", "on": 2, "with": ["text=Sign in"]}           {"id": 4, "error": "Timeout …"}
//
// A window has cookies of its own, as a private one has. What is not in commands below is a method of Playwright's
// BrowserContext or Page, or of a part of it: "keyboard.press". Commands run side by side, each answer names its id.
import { mkdirSync, mkdtempSync, readFileSync, rm, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const patience = 45_000; // milliseconds for whatever is waited for, on a busy machine

// Names below e2e.test lead here, too: unlike those below localhost, a browser does not trust them without TLS.
const how = {
  executablePath: process.argv[2],
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP *.e2e.test 127.0.0.1'],
};
const browser = await chromium.launch(how);
const things = [null]; // windows and tabs by number
const notes = new Map(); // what is noted of a tab

const commands = {
  async window(_, options) {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 900, height: 700 }, ...options });
    context.setDefaultTimeout(patience);
    return things.push(context) - 1;
  },
  // browser is a window of a browser of its own, with the arguments and preferences given.
  async browser(_, { args = [], preferences = {} }) {
    const folder = mkdtempSync(join(tmpdir(), 'oidc-browser-'));
    mkdirSync(join(folder, 'Default'));
    writeFileSync(join(folder, 'Default', 'Preferences'), JSON.stringify(preferences));
    const context = await chromium.launchPersistentContext(folder, { ...how, args: [...how.args, ...args], ignoreHTTPSErrors: true });
    context.on('close', () => setTimeout(() => rm(folder, { recursive: true, force: true }, () => {}), 500)); // it still writes there
    context.setDefaultTimeout(patience);
    return things.push(context) - 1;
  },
  async tab(context) {
    const page = await context.newPage();
    notes.set(page, note(page));
    return things.push(page) - 1;
  },
  // noted gives what note has collected since the last time.
  noted(page) {
    const { documents, complaints } = notes.get(page);
    return { documents: documents.splice(0), complaints: complaints.splice(0) };
  },
  // accessibility runs axe-core over a page and says what it finds wrong.
  async accessibility(page) {
    await page.evaluate(axe);
    const { violations } = await page.evaluate('axe.run({ resultTypes: ["violations"] })');
    return violations.map((rule) => `${rule.id}: ${rule.help}: ${rule.nodes.map((node) => node.html).join(', ')}`);
  },
  // frame waits until the first frame of a page has something, and tells its address.
  async frame(page) {
    await page.frames()[1].waitForURL(/^(?!about:)./);
    return page.frames()[1].url();
  },
  // seeInFrame waits until a text is to be read in the first frame of a page.
  seeInFrame: (page, text) => page.frames()[1].waitForSelector(`text="${text}"`),
  // stay answers the loading of an address with "no content", so that the page that leads there stays.
  stay: (page, address) => page.route(address, (route) => route.fulfill({ status: 204 })),
};

// note collects the documents that a tab is sent, also those that only redirect, and what the console says. It is no complaint
// that a page came with an error status, as our pages that report an error do, or that a site has no icon.
function note(page) {
  const documents = [], complaints = [];
  page.on('response', (response) => {
    if (!response.request().isNavigationRequest() || response.frame() !== page.mainFrame() || response.status() === 204) return;
    documents.push({ url: response.url(), status: response.status(), headers: response.headers() });
  });
  page.on('console', (message) => {
    const { url } = message.location();
    const isUsual = message.text().startsWith('Failed to load resource') && (url === page.url() || url.endsWith('/favicon.ico'));
    if (['error', 'warning'].includes(message.type()) && !isUsual) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  return { documents, complaints };
}

async function run({ do: name, on, with: args = [] }) {
  const thing = things[on ?? 0];
  if (Object.hasOwn(commands, name)) return commands[name](thing, ...args);
  const path = name.split('.');
  const method = path.pop();
  const part = path.reduce((object, member) => object[member], thing);
  const value = await part[method](...args);
  const isPlain = typeof value !== 'object' || Array.isArray(value) || value?.constructor === Object;
  return isPlain ? value : null; // what else Playwright gives stays here
}

const answer = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
for await (const line of createInterface(process.stdin)) {
  const { id, ...command } = JSON.parse(line);
  run(command).then((value) => answer({ id, value: value ?? null }), (error) => answer({ id, error: error.message }));
}
await browser.close();
