// Does the main jobs of the console in a real Chromium, by clicking and by keyboard, and lets axe-core judge each page at two widths and in
// both themes. Usage: console.mjs ADMIN_URL TOKEN FOLDER_FOR_SCREENSHOTS; prints one line of JSON.
//
// The gateway it visits has a channel `orders`, an event `order-17` that `audit` took and `broken` gave up, and two dead letters.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import puppeteer from "puppeteer-core";

const [admin, token, folder] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const executablePath = process.env.CHROMIUM || "/usr/bin/chromium";
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const violations = [], errors = [], foreign = [];
let checked = 0;

const fail = (what) => { throw new Error(what); };

async function open() {
  const page = await browser.newPage();
  page.setDefaultTimeout(20000);
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error" && !/40[0-9]/.test(message.text())) errors.push(message.text()); });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(admin) && !url.startsWith("data:")) foreign.push(url);
  });
  return page;
}

// Each page at two widths and in both themes.
async function judge(page, name) {
  for (const width of [1280, 390]) {
    for (const scheme of ["light", "dark"]) {
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      // The policy of the page forbids inline scripts, also ours: the driver speaks to the browser itself.
      const result = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
      for (const violation of result.violations) {
        const nodes = violation.nodes.slice(0, 2).map((node) => `${node.html} ${node.failureSummary}`);
        violations.push(`${name} ${width} ${scheme}: ${violation.id}: ${nodes.join(" | ")}`);
      }
      const wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
      if (wide > 0) violations.push(`${name} ${width} ${scheme}: the page is ${wide} pixels wider than the window`);
      if (folder) await page.screenshot({ path: `${folder}/${name}-${width}-${scheme}.png`, fullPage: true });
      checked += 1;
    }
  }
  await page.setViewport({ width: 1280, height: 900 });
}

async function click(page, text) {
  const found = await page.waitForSelector(`::-p-xpath(//*[self::a or self::button][contains(normalize-space(.), "${text}")])`);
  await Promise.all([page.waitForNavigation(), found.click()]);
}

const title = (page) => page.$eval("h1", (h1) => h1.textContent);

try {
  const page = await open();
  // Why was order-17 not delivered? From the home page, by keyboard alone.
  await page.goto(`${admin}/`);
  await judge(page, "flow");
  for (let key = 0; key < 40; key += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate('document.activeElement.id === "search"')) break;
  }
  await page.keyboard.type("order-17");
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  const story = await page.$eval("#story", (story) => story.textContent);
  for (const part of ["Stored in", "delivered to default/audit", "failed to default/broken", "Dead letter of default/broken"]) {
    if (!story.includes(part)) fail(`the story lacks ${part}: ${story}`);
  }
  await judge(page, "event");

  // Back to its channel and forward through the list; what arrives appears by itself.
  await click(page, "default/orders");
  await judge(page, "channel");
  await page.evaluate(() => { window.wasNotLoadedAgain = true; });
  console.error("send");
  await page.waitForFunction('document.querySelector("#events").textContent.includes("order-live")');
  if (!(await page.evaluate("window.wasNotLoadedAgain === true"))) fail("the page was loaded again");

  // A reason leads to its text.
  await click(page, "Dead letters");
  await judge(page, "dead-letters");
  await click(page, "SinkError");
  await click(page, "SinkError");
  if (!(await title(page)).includes("SinkError")) fail("the reason has no page");
  await judge(page, "reason");
  await page.goBack();

  // Reading is open, changing asks for the token; then the way goes on.
  await click(page, "Deliver again");
  await click(page, "Log in with the operate token");
  await judge(page, "login");
  await page.type("#token", token);
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  await judge(page, "redrive");
  await click(page, "again");
  await page.waitForFunction('document.querySelector("#progress").textContent.includes("Done")');
  await judge(page, "job");

  await page.goto(`${admin}/ui/subscriptions/default/audit`);
  await judge(page, "subscription");
  await click(page, "Pause");
  await page.waitForFunction('document.querySelector("#state").textContent.includes("Paused")');
  await click(page, "Resume");
  for (const [name, path] of [
    ["replay", "/ui/subscriptions/default/audit/replay?from=earliest"],
    ["sources", "/ui/sources"], ["documents", "/ui/documents"], ["health", "/ui/health"],
  ]) {
    await page.goto(admin + path);
    await judge(page, name);
  }

  // Without JavaScript the same page has the same content.
  const plain = await open();
  await plain.setJavaScriptEnabled(false);
  await plain.goto(`${admin}/ui/events/order-17`);
  const text = await (await plain.$("#story")).evaluate((node) => node.textContent).catch(() => plain.content());
  if (!text.includes("Stored in")) fail("without JavaScript the story is missing");
} finally {
  await browser.close();
}
console.log(JSON.stringify({ checked, violations, errors, foreign }));
