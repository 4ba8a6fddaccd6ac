// A headless Chromium speaks TLS: loads a page and what it fetches over one connection of HTTP/2, and over HTTP/1.1 where that is all
// there is. Prints a line for each URL: protocol, version, cipher, key exchange, text. Usage: node browser_tls.mjs CHROMIUM SPKI URL...
// SPKI: SHA-256 in base64 of the public key that is trusted, whoever signed the certificate.
import { browser } from "./devtools.mjs";

const [chromium, spki, ...urls] = process.argv.slice(2);
// The names of the test are on this machine.
const flags = [`--ignore-certificate-errors-spki-list=${spki}`, "--host-resolver-rules=MAP * 127.0.0.1"];

await browser(chromium, flags, async ({ tab, listeners }) => {
  const seen = new Map();
  listeners.push(({ method, params }) => {
    if (method === "Network.responseReceived") seen.set(params.response.url, params.response);
  });
  for (const domain of ["Page", "Runtime", "Network"]) await tab(`${domain}.enable`);
  for (const url of urls) {
    const loaded = new Promise(resolve => listeners.push(({ method }) => method === "Page.loadEventFired" && resolve()));
    const { errorText } = await tab("Page.navigate", { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
    await loaded;
    const expression = `Promise.all([...Array(20).keys()].map(async n => (await fetch("/" + n)).text())).then(all => all.join())`;
    const { result, exceptionDetails } = await tab("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    const { protocol, securityDetails: tls } = seen.get(url);
    console.log([protocol, tls.protocol, tls.cipher, tls.keyExchangeGroup || tls.keyExchange, result.value].join(" "));
  }
});
