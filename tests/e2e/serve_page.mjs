// serve_page.mjs BASE PICTURE SHOTS - the page in headless Chromium, as a user goes through it. playwright-core is found by NODE_PATH.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const [base, picture, shots] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
const wrong = [];

async function open(locale, viewport = { width: 1100, height: 800 }) {
  const context = await browser.newContext({ locale, viewport, acceptDownloads: true });
  const page = await context.newPage();
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (message) => { if (message.type() === "error") wrong.push(message.text()); });
  await page.goto(base);
  await until(page, () => document.querySelector("#about").textContent !== "");
  return page;
}
// page.waitForFunction would need the page to allow eval.
async function until(page, condition, argument) {
  for (let i = 0; i < 600; i++) {
    if (await page.evaluate(condition, argument).catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${condition} never came; ${await page.evaluate(() => document.body.innerText.slice(0, 500))}`);
}
const cards = (page) => page.locator("#grid li").count();
const told = (page, words) => until(page, (w) => document.querySelector("#status").textContent.includes(w), words);

// Drop a picture.
const page = await open("en-US");
const bytes = readFileSync(picture).toString("base64");
await page.evaluate((base64) => {
  const blob = new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type: "image/jpeg" });
  const transfer = new DataTransfer();
  transfer.items.add(new File([blob], "query.jpg", { type: "image/jpeg" }));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}, bytes);
await told(page, "pictures");
const whole = await cards(page);
assert.ok(whole >= 20, `${whole} results`);
assert.equal(await page.locator("#grid li .facts").first().textContent().then((t) => t.includes("score 1.000")), true);
await page.screenshot({ path: `${shots}/found.png` });
const firstPath = await page.locator("#grid li .path").first().textContent();
assert.ok(firstPath && firstPath !== "undefined", firstPath);

// Crop it.
await page.click("#crop");
const box = await page.locator("#canvas").boundingBox();
await page.mouse.move(box.x + box.width * 0.2, box.y + box.height * 0.2);
await page.mouse.down();
await page.mouse.move(box.x + box.width * 0.7, box.y + box.height * 0.7, { steps: 4 });
await page.mouse.up();
await page.screenshot({ path: `${shots}/crop.png` });
const [cropped] = await Promise.all([page.waitForResponse((r) => r.url().includes("/search/picture")), page.click("#crop-use")]);
const part = await cropped.json();
assert.ok(cropped.ok() && part.results[0].score < 1, "the crop was not searched for");

// A second picture to be like, one to be unlike, and a row beside them.
for (const [button, chips] of [["#addLike", 2], ["#addUnlike", 3]]) {
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.click(button)]);
  const [mixed] = await Promise.all([page.waitForResponse((r) => r.url().endsWith("/search")), chooser.setFiles(picture)]);
  assert.ok(mixed.ok(), await mixed.text());
  await until(page, (n) => document.querySelectorAll("#chips li").length === n, chips);
}
assert.equal(await page.locator("#chips li.minus").count(), 1);
// While the vector of a picture is asked for it is cropped: the answer for the whole of it, which comes last, must not count.
const isSearch = (r) => r.url().endsWith("/search");
let release, late = new Promise((resolve) => { release = resolve; });
let asked, wasAsked = new Promise((resolve) => { asked = resolve; });
await page.route(/vector=1$/, async (route) => { asked(); await late; await route.continue(); }, { times: 1 });
const [another] = await Promise.all([page.waitForEvent("filechooser"), page.click("#addLike")]);
await another.setFiles(picture);
await wasAsked;
await page.click("#crop");
const [ofPart] = await Promise.all([page.waitForRequest(isSearch), page.click("#crop-use")]);
await told(page, "pictures");
await Promise.all([page.waitForResponse((r) => r.url().endsWith("vector=1")), release()]);
const [after] = await Promise.all([page.waitForRequest(isSearch), page.fill("#filter", "width > 0")]);
assert.deepEqual(after.postDataJSON().vector, ofPart.postDataJSON().vector, "the whole picture was searched for in place of the crop");
await page.fill("#filter", "");
await page.locator("#chips li button").last().click();
await until(page, () => document.querySelectorAll("#chips li").length === 3);
const [beside] = await Promise.all([page.waitForResponse((r) => r.url().endsWith("/search")), page.locator("#grid .like").nth(1).click()]);
assert.ok(beside.ok(), await beside.text());
await told(page, `${whole - 1} pictures`);
assert.equal(await page.locator("#chips li").count(), 4);
await page.screenshot({ path: `${shots}/several.png` });

// Click through to a result, and add an example of what is not wanted; Back goes back.
await page.locator("#grid .picture").nth(2).click();
await told(page, `${whole - 1} pictures`);
assert.equal(await page.locator("#chips li").count(), 1);
await page.locator("#grid .unlike").nth(4).click();
await until(page, () => document.querySelectorAll("#chips li").length === 2);
await told(page, `${whole - 2} pictures`);
await page.goBack();
await told(page, `${whole - 1} pictures`);

// Filter, slider, near-duplicates, selection.
const wide = await page.evaluate(async (name) => (await (await fetch(`/v1/collections/${name}/count?filter=${encodeURIComponent("width >= 300")}`)).json()).count, "album");
await page.fill("#filter", "width >= 300");
await until(page, ([most, all]) => { const n = document.querySelectorAll("#grid li").length; return n <= most && n < all; }, [wide, whole + 1]);
await page.fill("#filter", "width >");
await page.waitForSelector("#status.wrong");
await page.fill("#filter", "");
await told(page, `${whole - 1} pictures`);
await page.check("#collapse");
await until(page, (n) => document.querySelectorAll("#grid li").length < n, whole - 1);
await page.uncheck("#collapse");
await page.locator("#similarity").fill(await page.locator("#similarity").getAttribute("max"));
await until(page, (n) => document.querySelectorAll("#grid li").length < n, whole - 1);
await page.locator("#similarity").fill(await page.locator("#similarity").getAttribute("min"));
await told(page, `${whole - 1} pictures`); // at the left end nothing is left out
await page.locator("#grid .pick input").first().check();
const [file] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
assert.match(file.suggestedFilename(), /^\d+\.(jpg|png|webp|gif|tif)$/);
const mark = page.url();
await page.click("#again");
assert.equal(await page.locator("#download").evaluate((e) => e.disabled && getComputedStyle(e).opacity < 1), true, "nothing is selected any more, and Download looks so");
await page.goto(mark);
await told(page, `${whole - 1} pictures`);

// Duplicates, map, index, statistics.
await page.click("[data-view=duplicates]");
await page.waitForSelector(".group li.keep");
await page.screenshot({ path: `${shots}/duplicates.png` });
await page.click("[data-view=vectors]");
await page.waitForSelector("#map");
await page.screenshot({ path: `${shots}/map.png` });
await page.fill("#key", "5");
await page.press("#key", "Enter");
await told(page, `${whole - 1} pictures`);
await page.click("[data-view=index]");
await page.waitForSelector("#view-body h3");
await page.locator("#view-body button").nth(1).click();
await page.waitForSelector("#view-body progress");
await until(page, () => /recall · done/.test(document.querySelector("#view-body").textContent));
await page.click("[data-view=stats]");
await until(page, () => document.querySelectorAll("#view-body .bars").length === 2);
await page.screenshot({ path: `${shots}/stats.png` });
await page.reload();
await page.waitForSelector("#view-body .bars"); // the address says which view it is

// Vectors: keys of 64 bits stay what they are, and what has a score below 0 is shown.
await page.goto(`${base}/#in=cities&view=vectors`);
await page.waitForSelector("#map");
await page.fill("#key", "9007199254740993");
const [fromKey] = await Promise.all([page.waitForRequest(isSearch), page.press("#key", "Enter")]);
assert.match(fromKey.postData(), /"like":\[9007199254740993\]/);
await until(page, () => document.querySelectorAll("#grid li").length === 3);
await told(page, "3 rows");
assert.equal(await page.locator("#chips img").count(), 0);
assert.equal(await page.locator("#grid li .facts").last().textContent().then((t) => /-1\.000/.test(t)), true);
assert.ok(Number(await page.locator("#similarity").getAttribute("min")) <= -1);
const [fromCard] = await Promise.all([page.waitForRequest(isSearch), page.locator('[data-key="9007199254740992"] .picture').click()]);
assert.match(fromCard.postData(), /"like":\[9007199254740992\]/);
await page.goBack();
await until(page, () => document.querySelectorAll("#grid li").length === 3 && document.querySelector('[data-key="9007199254740992"]'));
const [fromLink] = await Promise.all([page.waitForRequest(isSearch), page.reload()]);
assert.match(fromLink.postData(), /"like":\[9007199254740993\]/);

// Keys alone: a tab is reached and pressed.
await page.focus("[data-view=search]");
await page.keyboard.press("Enter");
await page.waitForSelector("#search:not([hidden])");

// Chinese; dark; a phone.
const chinese = await open("zh-CN", { width: 390, height: 800 });
await chinese.emulateMedia({ colorScheme: "dark" });
assert.equal(await chinese.locator("html").getAttribute("lang"), "zh-CN");
assert.ok((await chinese.textContent("#ask")).includes("把图片拖到这里"));
await chinese.goto(`${base}/#in=album&like=1`);
await chinese.reload();
await told(chinese, "张图片");
const tooWide = await chinese.evaluate(() => document.documentElement.scrollWidth - innerWidth);
assert.ok(tooWide <= 0, `the page is ${tooWide} pixels too wide for a phone`);
// The controls are folded there: results begin in the upper half of the screen.
const top = await chinese.locator("#grid").evaluate((e) => e.getBoundingClientRect().top);
assert.ok(top < 450, `the results begin at ${top}`);
await chinese.click("#fold summary");
await chinese.fill("#filter", "width >");
await told(chinese, "请求有误");
await chinese.fill("#filter", "");
await told(chinese, "张图片");
await chinese.screenshot({ path: `${shots}/chinese.png` });
// No word is missing in either language.
const missing = await chinese.evaluate(async () => (await import("./words.js")).missing);
assert.deepEqual(missing, []);

// A server that has nothing, to one who may only read; one that asks for a token.
const page2 = await (await browser.newContext({ locale: "en-US" })).newPage();
const answer = (json) => (route) => route.fulfill({ json });
await page2.route("**/v1/collections", answer({ collections: [], max_k: 100, role: "read" }));
await page2.goto(base);
await told(page2, "no collection here yet");
assert.equal(await page2.locator("#drop").isVisible(), false);
await page2.unrouteAll();
const real = await (await fetch(`${base}/v1/collections`)).json();
assert.equal(real.role, "admin");
await page2.route("**/v1/collections", answer({ ...real, role: "read" }));
await page2.goto(`${base}/#in=album&view=index`);
await page2.reload();
await page2.waitForSelector("#view-body h3");
assert.equal(await page2.locator("#view-body button").count(), 0, "who may only read is offered no work");
await page2.unrouteAll();
await page2.route("**/v1/collections", async (route) => {
  const cookie = (await route.request().allHeaders()).cookie ?? "";
  return cookie.includes("kith_token=good") ? route.fulfill({ json: real }) : route.fulfill({ status: 401, json: { detail: "a token is needed" } });
});
await page2.goto(base);
await page2.reload();
await page2.waitForSelector("#login[open]");
assert.equal(await page2.locator("#token-wrong").isVisible(), false);
await page2.keyboard.press("Escape");
await told(page2, "without a token");
assert.equal(await page2.locator("#login").isVisible(), false, "the dialog stays closed");
await page2.reload();
await page2.fill("#token", "bad");
await page2.keyboard.press("Enter");
await page2.waitForSelector("#token-wrong:not([hidden])");
await page2.fill("#token", "good");
await page2.keyboard.press("Enter");
await until(page2, () => document.querySelector("#about").textContent !== "");

await browser.close();
// A filter that is wrong is answered 400, which the console tells.
assert.deepEqual(wrong.filter((line) => !/status of 400/.test(line)), []);
console.log("the page: keys whole, dropped, cropped, searched, filtered, folded, downloaded; duplicates, map, index, statistics; Chinese");
