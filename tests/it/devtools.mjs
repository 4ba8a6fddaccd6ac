// A headless Chromium, driven over its DevTools pipe. `browser(chromium, flags, main)` starts it, runs `main({ tab, listeners })` in a
// new tab, ends it, and exits with 1 if `main` threw.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const DEADLINE_MS = 30000;

export async function until(what, look) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    if (await look().catch(() => false)) return;
    if (Date.now() > end) throw new Error(`${what}: not within ${DEADLINE_MS} ms`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

export async function browser(chromium, more, main) {
  const profile = mkdtempSync(join(tmpdir(), "browser-"));
  const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
    "--remote-debugging-pipe", `--user-data-dir=${profile}`, ...more, "about:blank"];
  const child = spawn(chromium, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const [toBrowser, fromBrowser] = [child.stdio[3], child.stdio[4]];

  // Messages are JSON, each ended by a zero byte.
  let number = 0, rest = Buffer.alloc(0);
  const waiting = new Map(), listeners = [];
  fromBrowser.on("data", block => {
    rest = Buffer.concat([rest, block]);
    for (let end; (end = rest.indexOf(0)) >= 0; rest = rest.subarray(end + 1)) {
      const message = JSON.parse(rest.subarray(0, end));
      if (message.id) {
        const [resolve, reject] = waiting.get(message.id);
        waiting.delete(message.id);
        message.error ? reject(new Error(message.error.message)) : resolve(message.result);
      } else {
        listeners.forEach(listener => listener(message));
      }
    }
  });
  function send(method, params = {}, sessionId) {
    const id = ++number;
    toBrowser.write(JSON.stringify({ id, method, params, sessionId }) + "\0");
    return new Promise((resolve, reject) => waiting.set(id, [resolve, reject]));
  }

  let failed = false;
  try {
    const { targetId } = await send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
    await main({ tab: (method, params) => send(method, params, sessionId), listeners });
  } catch (error) {
    failed = true;
    console.error(String(error.stack || error));
  }
  child.kill("SIGKILL");
  await new Promise(resolve => (child.exitCode === null && child.signalCode === null ? child.once("exit", resolve) : resolve()));
  // Its helper processes may write for a moment longer.
  await until("the profile to go", async () => (rmSync(profile, { recursive: true, force: true }), true));
  process.exit(failed ? 1 : 0);
}
