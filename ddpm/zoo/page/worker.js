// A worker holds the network and answers one request after the other; a newer request ends the one before.

import { loadKernels, makeUNet } from './unet.js';
import { typicality, walk } from './walk.js';

let model = null, newest = 0;
const WORK = { walk, typicality };

// The tensors of ddpm/zoo/web_page.py's `packed`: float32 first, then 16 and 2 bits of each whole number.
export function unpack(tensors, data) {
  const last = tensors.map(([, shape, first, length, scale]) => scale === null ? first + length : scale + shape.at(-1));
  const floats = new Float32Array(data.buffer, 0, Math.max(...last));
  const whole = tensors.filter(tensor => tensor[4] !== null).reduce((sum, tensor) => sum + tensor[3], 0), all = (whole + 7) & ~7;
  const low = new Uint16Array(data.buffer, floats.byteLength, all);
  const high = new Uint8Array(data.buffer, floats.byteLength + low.byteLength, all / 4);
  const read = ([name, shape, first, length, scale]) => {
    if (scale === null) return [name, { shape, data: floats.subarray(first, first + length) }];
    const out = new Float32Array(length), columns = shape.at(-1);
    for (let i = 0; i < length; i++) {
      const k = first + i, number = low[k] | (((high[k >> 2] >> (2 * (k & 3))) & 3) << 16);
      out[i] = (number - 131072) * floats[scale + i % columns];
    }
    return [name, { shape, data: out }];
  };
  return Object.fromEntries(tensors.map(read));
}

async function begin({ about, data, wasm }) {
  const kernels = await loadKernels(wasm);
  const net = makeUNet(kernels, unpack(about.tensors, data), about.unet);
  const [H, W, C] = about.unet.shape;
  model = { ...about, net, size: H * W * C, channels: C };
}

const pause = () => new Promise(resume => setTimeout(resume));          // lets the next message in

async function answer({ id, kind, request }) {
  newest = id;
  const begun = performance.now();
  for (const step of WORK[kind](model, request)) {
    postMessage({ id, kind, step, ms: performance.now() - begun });
    await pause();
    if (newest !== id) return;
  }
  postMessage({ id, kind, done: true, ms: performance.now() - begun });
}

let ready = Promise.resolve();
globalThis.onmessage = ({ data }) => {
  ready = data.about ? begin(data) : ready;
  ready.then(() => data.about || answer(data)).catch(error => postMessage({ id: data.id, error: String(error) }));
};
