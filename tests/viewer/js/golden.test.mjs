/**
 * The drawing modules against pictures that were looked at, pixel by pixel and without a browser.
 * QKVAULT_GOLDEN=write draws them anew; look at them before they are committed.
 */

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { deflateSync, inflateSync } from "node:zlib";
import { makePictures } from "./pictures.mjs";

const file = (name) => new URL(`golden/${name}.png`, import.meta.url);

/** CRC-32 of a PNG's chunk. @param {Buffer} bytes */
function crc32(bytes) {
  let sum = -1;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

function chunk(kind, data) {
  const body = Buffer.concat([Buffer.from(kind, "latin1"), data]);
  const ends = Buffer.alloc(8);
  ends.writeUInt32BE(data.length, 0);
  ends.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
}

/** A PNG of RGBA rows without filters. */
function encode({ width, pixels }) {
  const height = pixels.length / 4 / width;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 6, 0, 0, 0], 8);
  const rows = Array.from({ length: height }, (_, y) => [Buffer.of(0), Buffer.from(pixels.subarray(4 * width * y, 4 * width * (y + 1)))]);
  return Buffer.concat([
    Buffer.of(137, 80, 78, 71, 13, 10, 26, 10), chunk("IHDR", header),
    chunk("IDAT", deflateSync(Buffer.concat(rows.flat()), { level: 9 })), chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** Pixels of a PNG that {@link encode} wrote. */
function decode(png) {
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  const rows = inflateSync(png.subarray(41, 41 + png.readUInt32BE(33)));
  const pixels = Buffer.alloc(4 * width * height);
  for (let y = 0; y < height; y += 1) rows.copy(pixels, 4 * width * y, y * (4 * width + 1) + 1, (y + 1) * (4 * width + 1));
  return { width, pixels };
}

for (const [name, picture] of Object.entries(await makePictures())) {
  test(`${name} are drawn as they were`, () => {
    if (process.env.QKVAULT_GOLDEN === "write") writeFileSync(file(name), encode(picture));
    const golden = decode(readFileSync(file(name)));
    assert.equal(picture.width, golden.width);
    assert.ok(golden.pixels.equals(Buffer.from(picture.pixels)), `${name} differs from golden/${name}.png`);
  });
}
