// SPDX-License-Identifier: Apache-2.0
//
// The web page in a real browser: node page.mjs PLAYWRIGHT CHROMIUM URL PICTURES small|large
//
// "small": a running group of four ranks, its page used by mouse and keyboard. "large": how long until the heat maps of a
// large group are whole. Prints what was measured, how each case ended, and "N passed, N failed".
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [playwright, executablePath, url, pictures, kind] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
let passed = 0, failed = 0, pictured = 0;
const deadline = 60_000;

async function test(name, body) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 1000 } });
  const page = await context.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(`the page threw: ${error}`));
  page.on("console", (message) => { if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) problems.push(`console: ${message.text()}`); });
  page.on("request", (request) => { if (!request.url().startsWith(url)) problems.push(`asked elsewhere: ${request.url()}`); });
  page.setDefaultTimeout(deadline);
  const begun = performance.now();
  try {
    await body(page);
    assert.deepEqual(problems, []);
    ++passed;
    console.log(`${name}: ok (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
  } catch (error) {
    ++failed;
    await page.screenshot({ path: `${pictures}/failed-${failed}.png`, fullPage: true }).catch(() => {});
    console.log(`${name}: FAILED: ${error.stack}\n${problems.join("\n")}`);
  }
  await context.close();
}

const picture = (page, name) => page.screenshot({ path: `${pictures}/${++pictured}-${name}.png`, fullPage: true });
const drawn = (page, id) => page.waitForFunction((of) => {
  const canvas = document.querySelector(`#${of} canvas`);
  return canvas && Number(canvas.dataset.rows) > 0;
}, id);
// How many colours the image has.
const colours = (page, id) => page.evaluate((of) => {
  const canvas = document.querySelector(`#${of} canvas`);
  const data = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return new Set(data).size;
}, id);
const dialog = (page) => page.locator("dialog[open]");

async function small() {
  await test("a running group is shown live: figures, heat, ranks, history", async (page) => {
    await page.goto(url);
    await page.waitForSelector("#connection.live");
    assert.equal(await page.locator("#group").inputValue(), "tinymoe");
    await drawn(page, "expert-heat");
    await drawn(page, "rank-heat");
    assert.ok(await colours(page, "expert-heat") > 8, "the heat map of experts is blank");
    await page.waitForFunction(() => /^[1-9]\.\d{3}$/.test(document.querySelector("#overview .value")?.textContent ?? ""));
    assert.equal(await page.locator("#ranks tbody tr").count(), 4);
    assert.equal(await page.locator("#ranks tbody tr", { hasText: "serving" }).count(), 4);
    assert.ok(await page.locator("#imbalance-chart canvas").isVisible());
    const first = await page.locator("#overview").textContent();
    await page.waitForFunction((before) => document.querySelector("#overview").textContent !== before, first);
    await picture(page, "overview");
  });

  await test("a layer is chosen by keyboard alone, and told in words", async (page) => {
    await page.goto(url);
    await drawn(page, "expert-heat");
    const canvas = page.locator("#expert-heat canvas");
    await canvas.focus();
    for (const key of ["ArrowDown", "ArrowDown", "ArrowRight", "Enter"]) await page.keyboard.press(key);
    await page.waitForFunction(() => document.querySelector("#layer-title").textContent === "Layer 2");
    assert.match(await page.locator("#expert-heat output").textContent(), /^layer 2, expert 1: [\d.]+k? tokens$/);
    await page.waitForFunction(() => document.querySelectorAll("#layer tbody tr").length === 64);
    assert.equal(await page.locator("#layer figure canvas").count(), 3);
    assert.match(await page.locator("#layer tbody").textContent(), /rank \d slot \d+ \d+\.\d%/);
    await picture(page, "layer");
    // Everything that acts can be reached with Tab.
    const reached = new Set();
    for (let i = 0; i < 60; ++i) {
      await page.keyboard.press("Tab");
      reached.add(await page.evaluate(() => document.activeElement?.id || document.activeElement?.getAttribute("aria-label") || document.activeElement?.tagName));
    }
    for (const wanted of ["Drain rank 0", "rearrange", "pause"]) assert.ok(reached.has(wanted), `Tab does not reach ${wanted}: ${[...reached]}`);
  });

  await test("nothing is changed without a second word, and Escape takes it back", async (page) => {
    await page.goto(url);
    await page.waitForSelector("#connection.live");
    await page.click("#rearrange");
    assert.match(await dialog(page).textContent(), /Rearrange tinymoe now\?/);
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Leave it");
    await picture(page, "confirm");
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => !document.querySelector("dialog[open]"));
    const answer = await page.request.post(`${url}v1/ListOperations`, { data: { group: "tinymoe" } });
    const { operations } = await answer.json();
    assert.deepEqual(operations.filter((operation) => operation.cause === "OPERATION_CAUSE_OPERATOR"), []);
  });

  await test("a pause is seen, kept from planning, and ended", async (page) => {
    await page.goto(url);
    await page.waitForSelector("#connection.live");
    await page.waitForFunction(() => document.querySelector("#ranks tbody tr"));
    await page.click("#pause");
    await dialog(page).getByText("Pause", { exact: true }).click();
    await page.waitForFunction(() => /paused by an operator: from the web page/.test(document.querySelector("#alerts").textContent));
    await picture(page, "paused");
    assert.equal(await page.locator("#pause").textContent(), "Resume…");
    await page.click("#pause");
    await dialog(page).getByText("Resume", { exact: true }).click();
    await page.waitForFunction(() => document.querySelector("#pause").textContent === "Pause…");
    assert.doesNotMatch(await page.locator("#alerts").textContent(), /paused/);
  });

  await test("a rearrangement is begun, followed and explained", async (page) => {
    await page.goto(url);
    await page.waitForSelector("#connection.live");
    await page.click("#rearrange");
    await dialog(page).getByText("Rearrange", { exact: true }).click();
    await page.waitForFunction(() => !document.querySelector("dialog[open]"));
    const row = page.locator("#operations tbody tr", { hasText: "operator" });
    await row.first().waitFor();
    await page.waitForFunction(() => [...document.querySelectorAll("#operations tbody tr")].some((r) => /done/.test(r.children[1].textContent) && /operator/.test(r.children[2].textContent)));
    await page.waitForFunction(() => document.querySelectorAll("#why .counts li").length > 0);
    await page.locator("#why summary").click();
    assert.equal(await page.locator("#why tbody tr").count(), 4);
    await picture(page, "decided");
  });

  await test("what cannot be done is told in the dialog, and nothing happens", async (page) => {
    await page.goto(url);
    await page.getByLabel("Drain rank 3").click();
    await dialog(page).getByText("Drain it", { exact: true }).click();
    await page.waitForFunction(() => (document.querySelector("dialog [role=alert]")?.textContent ?? "") !== "");
    assert.match(await page.locator("dialog [role=alert]").textContent(), /room|expert/);
    await picture(page, "refused");
  });

  await test("the shades can be told apart without colour", async (page) => {
    await page.goto(url);
    await drawn(page, "expert-heat");
    const session = await page.context().newCDPSession(page);
    for (const type of ["achromatopsia", "deuteranopia", "protanopia", "tritanopia"]) {
      await session.send("Emulation.setEmulatedVisionDeficiency", { type });
      await page.locator("#expert-heat").screenshot({ path: `${pictures}/vision-${type}.png` });
    }
    // Lightness falls from each step of the scale to the next: so it reads as one scale in grey too.
    const light = await page.evaluate(() => {
      const canvas = document.querySelector("#expert-heat canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const seen = new Map();
      for (let i = 0; i < data.length; i += 4) {
        const [r, g, b] = [data[i], data[i + 1], data[i + 2]];
        if (r === 209 && g === 0) continue;  // the frame of the chosen layer
        seen.set(`${r},${g},${b}`, 0.2126 * r + 0.7152 * g + 0.0722 * b);
      }
      return [...seen.values()];
    });
    assert.ok(new Set(light.map((value) => Math.round(value / 4))).size > 8, `only ${light.length} shades`);
  });
}

async function large() {
  await test("the heat maps of 61 layers x 256 experts x 320 ranks are whole soon", async (page) => {
    const session = await page.context().newCDPSession(page);
    await session.send("Performance.enable", { timeDomain: "threadTicks" });
    const worked = async () => (await session.send("Performance.getMetrics")).metrics.find((one) => one.name === "TaskDuration").value;
    const waits = [], works = [];
    for (let i = 0; i < 5; ++i) {
      const begun = performance.now();
      const before = i === 0 ? 0 : await worked();
      await page.goto(`${url}?${i}`, { waitUntil: "commit" });
      await page.waitForFunction(() => ["expert-heat", "rank-heat"].every((id) => document.querySelector(`#${id} canvas`)?.dataset.rows === "61"), null, { polling: "raf" });
      waits.push(performance.now() - begun);
      const after = await worked();
      works.push(1000 * (after >= before ? after - before : after));
    }
    const columns = await page.evaluate(() => ["expert-heat", "rank-heat"].map((id) => document.querySelector(`#${id} canvas`).dataset.columns));
    assert.deepEqual(columns, ["256", "320"]);
    assert.ok(await colours(page, "expert-heat") > 32);
    await page.waitForFunction(() => document.querySelectorAll("#ranks tbody tr").length === 320);
    await picture(page, "large");
    const told = (values) => { values.sort((x, y) => x - y); return `median ${values[2].toFixed(0)} ms, from ${values[0].toFixed(0)} to ${values[4].toFixed(0)} ms`; };
    console.log(`heat maps whole after ${told(waits)} (goal 1000 ms on an idle machine); CPU time of the page's thread for it: ${told(works)}`);
    // Time that others take from this machine is not the page's.
    assert.ok(works[2] < 1000, "the page itself works for more than a second");
  });
}

await (kind === "large" ? large() : small());
await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
