// serve_first.mjs BASE PICTURE... - how long a search by picture takes in the page of `kith serve`, in headless Chromium: from the drop of a
// picture to the first result in the grid, and until its thumbnail is there, too. Each picture once to warm up, then three times. For
// docs/perf.md; playwright-core is found by NODE_PATH, the browser by CHROMIUM.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const [base, ...pictures] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
const page = await (await browser.newContext({ viewport: { width: 1100, height: 800 } })).newPage();
await page.goto(base);
while (!await page.evaluate(() => document.querySelector("#about").textContent)) await new Promise((resolve) => setTimeout(resolve, 20));

// Runs in the page: milliseconds from the drop.
const drop = (base64) => new Promise((resolve) => {
  const grid = document.querySelector("#grid"), times = {};
  grid.replaceChildren();
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], "query.jpg", { type: "image/jpeg" }));
  const began = performance.now();
  new MutationObserver((_, observer) => {
    const image = grid.querySelector("img");
    if (!image) return;
    observer.disconnect();
    times.result = performance.now() - began;
    const seen = () => resolve({ ...times, thumbnail: performance.now() - began });
    if (image.complete) seen();
    else for (const event of ["load", "error"]) image.addEventListener(event, seen);
  }).observe(grid, { childList: true });
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
});

const times = { result: [], thumbnail: [] };
for (const picture of pictures) {
  const base64 = readFileSync(picture).toString("base64");
  for (let i = 0; i < 4; i++) {
    const told = await page.evaluate(drop, base64);
    for (const name in times) if (i > 0) times[name].push(told[name]);
  }
}
for (const [name, list] of Object.entries(times)) {
  list.sort((a, b) => a - b);
  const at = (q) => list[Math.min(list.length - 1, Math.floor(q * list.length))].toFixed(0);
  console.log(`${name}: ${list.length} searches, p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, at most ${at(1)} ms`);
}
await browser.close();
