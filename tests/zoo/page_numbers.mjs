// Run by test_web_page.py: numbers of the page's modules, for comparison with JAX's.   node page_numbers.mjs TASK.json
import fs from 'node:fs';
import { pathToFileURL } from 'node:url';

const task = JSON.parse(fs.readFileSync(process.argv[2]));
const load = name => import(pathToFileURL(`${task.folder}/${name}`));
const random = await load('random.js'), { loadKernels, makeUNet } = await load('unet.js'), walks = await load('walk.js');
globalThis.postMessage = () => {};
const { unpack } = await load('worker.js');
const out = {};

if (task.random) {
  const key = random.key(task.random.seed), { n } = task.random;
  out.split = random.split(key, 3);
  out.fold = random.foldIn(key, 12345);
  out.bits = [...random.bits(key, n)];
  out.normal = [...random.normal(key, n)];
  out.integers = Array.from({ length: 40 }, (_, i) => random.randint(random.foldIn(key, i), 101, 701));
  out.times = task.random.times.map(([T, N]) => walks.makeTimes(T, N));
}

for (const model of task.models ?? []) {
  const raw = fs.readFileSync(model.weights), bytes = raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length);
  const floats = model.packed ? null : new Float32Array(bytes);
  const weights = model.packed ? unpack(model.about.tensors, new Uint8Array(bytes)) : Object.fromEntries(
    model.about.tensors.map(([name, shape, first, length]) => [name, { shape, data: floats.subarray(first, first + length) }]));
  const [slope, byTime, byClass, shift] = model.linear ?? [], none = model.about.unet.num_classes;
  const linear = (x, t, c) => x.map(x => slope * x + byTime * t + byClass * (c ?? none) + shift);
  const net = model.linear ? linear : makeUNet(await loadKernels(fs.readFileSync(`${task.folder}/kernels.wasm`)), weights, model.about.unet);
  const [H, W, C] = model.about.unet.shape, whole = { ...model.about, net, size: H * W * C, channels: C };
  out[model.name] = { net: model.calls.map(({ x, t, c }) => [...net(Float32Array.from(x), t, c)]) };
  if (model.packed && !model.walks)
    out[model.name].weights = Object.fromEntries(Object.entries(weights).map(([name, { data }]) => [name, [...data]]));
  if (model.walks) out[model.name].walks = model.walks.map(request => [...[...walks.walk(whole, request)].at(-1).x]);
  if (model.typicality) {
    const { x0, ...request } = model.typicality;
    const last = [...walks.typicality(whole, { x0: Float32Array.from(x0), ...request })].at(-1);
    out[model.name].typicality = { ...last, map: [...last.map] };
  }
  if (model.times) {
    const x = Float32Array.from(model.calls[0].x), begun = process.cpuUsage();
    for (let i = 0; i < model.times; i++) net(x, 500, 0);
    const used = process.cpuUsage(begun);
    out[model.name].ms = (used.user + used.system) / 1000 / model.times;
  }
}
fs.writeFileSync(process.argv[3], JSON.stringify(out));
