// The variants of pictures by sharp, with the settings of adapters/pictures/encoding.py.
// node images.mjs FOLDER-OF-SHARP OUT FILE... makes each file once, then again by the clock; prints one line of JSON.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const [folder, out, ...files] = process.argv.slice(2);
const sharp = createRequire(join(folder, "package.json"))("sharp");
sharp.concurrency(1);
sharp.cache(false);

const WIDTHS = [1920, 1280, 640, 320];

async function make(file) {
  const { autoOrient } = await sharp(file).metadata();
  const widths = [...new Set(WIDTHS.map((width) => Math.min(width, autoOrient.width)))];
  const fallback = widths.find((width) => width <= 1280) ?? widths.at(-1);
  let source = sharp(file).autoOrient();
  for (const width of widths) {
    const { data, info } = await source.resize({ width }).raw().toBuffer({ resolveWithObject: true });
    const raw = () => sharp(data, { raw: info });
    await raw().avif({ quality: 50, effort: 0, chromaSubsampling: "4:2:0" }).toFile(join(out, `${width}.avif`));
    await raw().webp({ quality: 78, effort: 2 }).toFile(join(out, `${width}.webp`));
    if (width === fallback) await raw().jpeg({ quality: 80 }).toFile(join(out, `${width}.jpg`));
    source = raw();
  }
}

for (const file of files) await make(file);
const began = performance.now();
for (const file of files) await make(file);
const seconds = (performance.now() - began) / 1000;
const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
console.log(JSON.stringify({ seconds, peak }));
