// node decode.js explore.html latents.json: decodes latents with the page's script, without a browser; prints JSON.
const fs = require("fs"), vm = require("vm");
const [page, latents] = process.argv.slice(2).map((path) => fs.readFileSync(path, "utf8"));
const content = (pattern) => page.match(pattern)[1];
vm.runInThisContext(content(/<script>\n("use strict";[^]*?)<\/script>/));
const payload = readPayload(content(/id="payload">([^]*?)<\/script>/), content(/id="numbers">([^]*?)<\/script>/));
const model = createModel(payload, pixelMean(payload));
const decode = (one) => model.decode(one.map((group) => Float32Array.from(group)));
const plain = ({ image, window }) => ({ image: Array.from(image), window: window || null });
console.log(JSON.stringify(JSON.parse(latents).map((one) => decode(one).map(plain))));
