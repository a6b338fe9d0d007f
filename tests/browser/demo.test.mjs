// The demo page of `peal dev`, as people use it: several tabs, some of them closed for a while.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { after, before, test } from "node:test";

import { startBrowser } from "./chromium.mjs";
import { startPeal } from "./peal.mjs";

const PICTURES = new URL("../../build/browser/", import.meta.url).pathname;

let peal;
let browser;

before(async () => {
  await mkdir(PICTURES, { recursive: true });
  peal = await startPeal();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await peal?.stop();
});

// A person with a browser of their own; what the page reports as an error fails the test.
async function person(name, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, ...options });
  const problems = [];
  context.on("weberror", (event) => problems.push(event.error()));
  context.on("console", (message) => {
    if (message.type() === "error") problems.push(new Error(message.text()));
  });
  const page = await open(context);
  await page.fill("#name", name);
  await page.click("#signin");
  await online(page);
  return {
    page,
    context,
    async leave() {
      await context.close();
      assert.deepEqual(problems, [], `${name}: the page reports errors`);
    },
  };
}

async function open(context) {
  const page = await context.newPage();
  await page.goto(peal.url);
  return page;
}

async function online(page) {
  await page.waitForSelector('#status[data-state="online"]');
}

async function say(page, text) {
  await page.fill("#chat-text", text);
  await page.click("#chat-send");
}

async function sendNotice(page, to, text) {
  await page.fill("#notice-to", to);
  await page.fill("#notice-text", text);
  await page.click("#notice-send");
  await page.waitForFunction(
    (said) => document.getElementById("notice-note").textContent === said,
    `stored for ${to}`,
  );
}

// Waits until a list has this many rows; returns their texts from top to bottom.
async function texts(page, list, count) {
  const at = `${list} li .text`;
  await page.waitForFunction(
    ([at, count]) => document.querySelectorAll(at).length >= count,
    [at, count],
  );
  return page.locator(at).allTextContents();
}

async function badge(page, count) {
  await page.waitForFunction(
    (text) => document.getElementById("badge").textContent === text,
    String(count),
  );
}

async function origins(page) {
  return page.locator("#notices li").evaluateAll((rows) => rows.map((row) => row.dataset.origin));
}

test("chat_between_two_tabs_reaches_both_in_one_order", async () => {
  const alice = await person("alice");
  const bob = await person("bob");

  await say(alice.page, "hello bob");
  await texts(bob.page, "#chat", 1);
  await say(bob.page, "<b>hello</b> alice");
  const wanted = ["hello bob", "<b>hello</b> alice"];
  assert.deepEqual(await texts(alice.page, "#chat", 2), wanted);
  assert.deepEqual(await texts(bob.page, "#chat", 2), wanted);
  assert.equal(await alice.page.locator("#chat b").count(), 0, "payloads are text");

  await bob.page.screenshot({ path: `${PICTURES}chat.png` });
  await alice.leave();
  await bob.leave();
});

test("notices_for_who_is_away_wait_and_are_unread_until_marked", async () => {
  const dora = await person("dora");
  const carol = await person("carol");
  await carol.page.close();

  for (const text of ["first", "second", "third"]) await sendNotice(dora.page, "carol", text);

  // The same browser again, so the device is known; a new tab, so the page is not signed in.
  carol.page = await open(carol.context);
  await carol.page.fill("#name", "carol");
  await carol.page.click("#signin");
  await online(carol.page);
  assert.deepEqual(await texts(carol.page, "#notices", 3), ["third", "second", "first"]);
  await badge(carol.page, 3);
  await carol.page.waitForFunction(
    () => document.querySelectorAll('#notices li[data-origin="replayed"]').length === 3,
  );
  await carol.page.screenshot({ path: `${PICTURES}notices.png` });

  await carol.page.click("#mark-read");
  await badge(carol.page, 0);
  assert.equal(await carol.page.locator('#notices li[data-read="false"]').count(), 0);

  await carol.page.reload();
  await online(carol.page);
  assert.deepEqual(await texts(carol.page, "#notices", 3), ["third", "second", "first"]);
  await badge(carol.page, 0);
  assert.equal(await carol.page.locator('#notices li[data-read="false"]').count(), 0);
  assert.deepEqual(await origins(carol.page), ["earlier", "earlier", "earlier"]);

  await sendNotice(dora.page, "carol", "fourth");
  assert.deepEqual(await texts(carol.page, "#notices", 4), ["fourth", "third", "second", "first"]);
  await badge(carol.page, 1);
  assert.equal((await origins(carol.page))[0], "live");

  await dora.leave();
  await carol.leave();
});

test("read_on_one_device_clears_the_badge_on_the_other", async () => {
  const frank = await person("frank");
  const desk = await person("erin");
  const small = { viewport: { width: 390, height: 780 }, colorScheme: "dark" };
  const phone = await person("erin", small);

  await sendNotice(frank.page, "erin", "both devices");
  await badge(desk.page, 1);
  await badge(phone.page, 1);
  await phone.page.screenshot({ path: `${PICTURES}phone.png`, fullPage: true });
  await phone.page.click("#mark-read");
  await badge(desk.page, 0);
  assert.equal(await desk.page.locator('#notices li[data-read="false"]').count(), 0);

  await frank.leave();
  await desk.leave();
  await phone.leave();
});

test("page_cut_from_the_server_resumes_without_hole_or_repeat", async () => {
  const grace = await person("grace");
  const heidi = await person("heidi");
  await say(grace.page, "before");
  await heidi.page.waitForFunction(
    () => document.querySelector("#chat li:last-child .text")?.textContent === "before",
  );
  const known = await heidi.page.locator("#chat li .text").allTextContents();

  // Cut by hand: Chromium's offline mode leaves WebSockets alone.
  await heidi.page.evaluate(() => {
    dropSocket(1006, "cut by the test");
    clearTimeout(session.retry);
  });
  await say(grace.page, "while away 1");
  await say(grace.page, "while away 2");
  await sendNotice(grace.page, "heidi", "a notice while away");
  await heidi.page.evaluate(() => connect());

  await online(heidi.page);
  const all = await texts(heidi.page, "#chat", known.length + 2);
  assert.deepEqual(all, [...known, "while away 1", "while away 2"]);
  assert.deepEqual(await texts(heidi.page, "#notices", 1), ["a notice while away"]);
  await badge(heidi.page, 1);
  assert.equal(await heidi.page.locator("li.lost").count(), 0);

  await grace.leave();
  await heidi.leave();
});
