/**
 * Drives a browser: each line of JSON on standard input is one step, and each line of output is its result.
 *
 *   node driver.mjs chrome|firefox PATH
 */

import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const [browserName, executablePath] = process.argv.slice(2);
const chrome = [
  "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--no-first-run",
];
const browser = await puppeteer.launch({
  browser: browserName, executablePath, headless: true, args: browserName === "chrome" ? chrome : [],
});
let page = null;
let errors = [];

const place = async (selector, [x, y]) => {
  const handle = await page.$(selector);
  await handle.evaluate((node) => node.scrollIntoView({ block: "center", behavior: "instant" }));
  const box = await handle.boundingBox();
  return [box.x + x * box.width, box.y + y * box.height];
};

/** Emulate media features; puppeteer cannot in Firefox, where only scripts see them, not styles. */
const emulate = async (media) => {
  if (browserName === "chrome") {
    await page.emulateMediaFeatures(Object.entries(media).map(([name, value]) => ({ name, value })));
    return;
  }
  await page.evaluateOnNewDocument((given) => {
    const real = window.matchMedia.bind(window);
    window.matchMedia = (query) => {
      const name = Object.keys(given).find((key) => query.includes(key));
      const found = real(query);
      if (name) Object.defineProperty(found, "matches", { value: query.includes(`${name}: ${given[name]}`) });
      return found;
    };
  }, media);
};

const steps = {
  /** Open a fresh page; every console error, exception and violation of the policy is recorded. */
  async open({ url, width = 1440, height = 1000, media = {} }) {
    await page?.close();
    page = await browser.newPage();
    errors = [];
    page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
    page.on("pageerror", (error) => errors.push(String(error.stack ?? error)));
    await page.evaluateOnNewDocument(() => {
      window.violations = [];
      document.addEventListener("securitypolicyviolation", (event) => {
        window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
      });
    });
    // Along with the size puppeteer sends a command that Firefox before 142 does not know.
    await page.setViewport({ width, height }).catch((error) => {
      if (!String(error).includes("setScreenOrientationOverride")) throw error;
    });
    await emulate(media);
    await page.goto(url);
  },
  eval: ({ js }) => page.evaluate(js),
  /** Wait until an expression is true; puppeteer's own way fails in Firefox under Node 20. */
  async wait({ js, timeout = 60_000 }) {
    const end = performance.now() + timeout;
    while (!(await page.evaluate(`(async () => Boolean(await (${js})))()`))) {
      if (performance.now() > end) throw new Error(`not within ${timeout} ms: ${js}`);
      await new Promise((done) => setTimeout(done, 30));
    }
    return true;
  },
  click: async ({ selector, at = [0.5, 0.5], count = 1 }) => page.mouse.click(...(await place(selector, at)), { count }),
  move: async ({ selector, at }) => page.mouse.move(...(await place(selector, at))),
  async drag({ selector, points }) {
    const places = [];
    for (const point of points) places.push(await place(selector, point));
    await page.mouse.move(...places[0]);
    await page.mouse.down();
    for (const spot of places.slice(1)) await page.mouse.move(...spot, { steps: 6 });
    await page.mouse.up();
  },
  /** Drag a slider's thumb from side to side with the pointer for some seconds; return the page's CPU seconds (Chromium only). */
  async sweep({ selector, seconds }) {
    await place(selector, [0.5, 0.5]);
    const { x, y, width, height } = await (await page.$(selector)).boundingBox();
    const at = (turn) => [x + width * (0.5 + 0.45 * Math.sin(turn)), y + height / 2];
    const client = await page.createCDPSession();
    await client.send("Performance.enable", { timeDomain: "threadTicks" });
    const cpu = async () => (await client.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration").value;
    const before = await cpu();
    await page.mouse.move(...at(0));
    await page.mouse.down();
    const began = performance.now();
    for (let now = 0; now < seconds; now = (performance.now() - began) / 1000) await page.mouse.move(...at(3 * now));
    await page.mouse.up();
    return (await cpu()) - before;
  },
  async keys({ keys }) {
    for (const key of keys) await page.keyboard.press(key);
  },
  focus: ({ selector }) => page.focus(selector),
  upload: async ({ selector, files }) => (await page.$(selector)).uploadFile(...files),
  shot: async ({ path, full = false }) => { await page.screenshot({ path, fullPage: full }); },
  errors: async () => [...errors, ...(await page.evaluate(() => window.violations))],
};

for await (const line of createInterface({ input: process.stdin })) {
  const { step, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await steps[step](given)) ?? null };
  } catch (error) {
    answer = { error: String(error.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
