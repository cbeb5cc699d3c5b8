// SPDX-License-Identifier: Apache-2.0
//
// One scale from light to dark that reads alike with every kind of colour vision: its lightness falls evenly, and it
// goes from yellow to blue.

const stops: [number, number, number][] = [
  [255, 250, 205], [233, 214, 107], [180, 167, 111], [124, 123, 120], [87, 93, 109], [38, 77, 110], [0, 32, 77],
];

// 256 colours as 32-bit pixels, for ImageData.
export const pixels: Uint32Array = (() => {
  const scale = new Uint32Array(256);
  for (let i = 0; i < 256; ++i) {
    const at = (i / 255) * (stops.length - 1);
    const low = stops[Math.floor(at)]!, high = stops[Math.ceil(at)]!, part = at - Math.floor(at);
    const [r, g, b] = low.map((value, c) => Math.round(value + (high[c]! - value) * part)) as [number, number, number];
    scale[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return scale;
})();

export const lines = { realised: "#0f5fa6", predicted: "#8a8a8a", initial: "#c8790b", moves: "#0f5fa6" };
