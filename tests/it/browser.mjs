// Drives a headless Chromium over its DevTools pipe: logs in to the statistics page, watches a counter move without a reload,
// drains a server with the form, and sees it drained. Usage: node browser.mjs CHROMIUM PAGE USER PASSWORD TRAFFIC [PICTURES]
// PICTURES: a directory for pictures of the page: wide and narrow, light and dark.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { browser, until } from "./devtools.mjs";

const [chromium, page, user, password, traffic, pictures] = process.argv.slice(2);

async function main({ tab, listeners }) {
  const problems = [];
  let asked = 0;
  listeners.push(({ method, params }) => {
    if (method === "Fetch.requestPaused") tab("Fetch.continueRequest", { requestId: params.requestId });
    if (method === "Fetch.authRequired") {
      asked += 1;
      const authChallengeResponse = { response: "ProvideCredentials", username: user, password };
      tab("Fetch.continueWithAuth", { requestId: params.requestId, authChallengeResponse });
    }
    if (method === "Runtime.exceptionThrown") problems.push(params.exceptionDetails.text);
    if (method === "Log.entryAdded" && params.entry.level === "error" && !/401/.test(params.entry.text)) {
      problems.push(`${params.entry.text} ${params.entry.url || ""}`);
    }
  });
  for (const domain of ["Page", "Runtime", "Log"]) await tab(`${domain}.enable`);
  await tab("Fetch.enable", { handleAuthRequests: true });
  const ask = async expression => {
    const { result, exceptionDetails } = await tab("Runtime.evaluate", { expression, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return result.value;
  };
  // The text of a cell, by the name of its proxy, of its row and its column.
  const cell = (proxy, row, column) => ask(`(() => {
    const body = [...document.querySelectorAll("tbody")].find(b => b.dataset.name === ${JSON.stringify(proxy)});
    const heads = [...document.querySelectorAll("thead th")].map(h => h.textContent);
    const line = [...body.rows].find(r => r.querySelector(".name")?.textContent === ${JSON.stringify(row)});
    return line.cells[heads.indexOf(${JSON.stringify(column)})].textContent;
  })()`);
  const picture = async (name, width, height, scheme) => {
    if (!pictures) return;
    await tab("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    await tab("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    await new Promise(resolve => setTimeout(resolve, 1200));
    const { data } = await tab("Page.captureScreenshot", { format: "png" });
    writeFileSync(join(pictures, name), Buffer.from(data, "base64"));
    await tab("Emulation.clearDeviceMetricsOverride");
  };

  await tab("Page.navigate", { url: page });
  const meters = 'document.querySelectorAll("#cores meter").length';
  await until("the page is live", async () => (await ask('document.getElementById("state")?.textContent')) === "live");
  if (!asked) throw new Error("it asked for no password");
  if ((await ask(meters)) !== 3) throw new Error("not a meter for each core");
  console.log("logged in");

  await ask("window.untouched = true");
  const before = Number(await cell("Public", "Frontend", "Requests"));
  for (let n = 0; n < 3; n++) await (await fetch(traffic)).text();
  await until("the counter moves", async () => Number(await cell("Public", "Frontend", "Requests")) === before + 3);
  if (!(await ask("window.untouched"))) throw new Error("the page was loaded again");
  console.log("a counter moved without a reload");

  if (pictures) {
    const end = Date.now() + 25000;
    while (Date.now() < end) {
      await Promise.all(Array.from({ length: 1 + (Date.now() / 1000) % 8 }, async () => (await fetch(traffic)).text()));
      await new Promise(resolve => setTimeout(resolve, 40));
    }
  }
  await ask(`document.querySelector('input[value="Web-Farm/Web0"]').click()`);
  await picture("stats-page.png", 1280, 620, "light");
  await ask(`document.querySelector('button[value="drain"]').click()`);
  await until("the form was answered", async () => (await ask("document.querySelector('.notice')?.textContent")) === "Done.");
  await until("it is drained", async () => (await cell("Web-Farm", "Web0", "State")) === "DRAIN");
  console.log("drained");

  for (const view of ["t", "l", "e", "h", "o"]) {
    await ask(`document.getElementById("v-${view}").click()`);
    const shown = await ask(`[...document.querySelectorAll("thead th")].filter(h => h.offsetParent).length`);
    if (shown < 5) throw new Error(`view ${view} shows ${shown} columns`);
    if (view === "l") await picture("stats-page-dark.png", 1280, 620, "dark");
  }
  await picture("stats-page-phone.png", 390, 844, "dark");
  const wide = `document.documentElement.scrollWidth > document.documentElement.clientWidth`;
  await tab("Emulation.setDeviceMetricsOverride", { width: 390, height: 844, deviceScaleFactor: 1, mobile: true });
  if (await ask(wide)) throw new Error("the page is wider than a phone");
  await ask(`(f => { f.value = "web1"; f.dispatchEvent(new Event("input")) })(document.getElementById("filter"))`);
  const left = await ask(`[...document.querySelectorAll("tr.server")].filter(r => r.offsetParent).map(r => r.cells[1].textContent).join()`);
  if (left !== "Web1") throw new Error(`the filter leaves ${left}`);
  if (problems.length) throw new Error(problems.join("; "));
  console.log("nothing was reported");
}

await browser(chromium, [], main);
