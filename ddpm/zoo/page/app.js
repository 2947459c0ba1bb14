// The page: controls, pictures and the workers that compute them.

const about = JSON.parse(document.getElementById('about').textContent);

// Python's base 85, five characters for four bytes, with , . / in place of < & >
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%/()*+-;,=.?@^_`{|}~';
function bytes(id) {
  const text = document.getElementById(id).textContent.trim(), out = new DataView(new ArrayBuffer(text.length / 5 * 4));
  const digit = new Uint8Array(128);
  [...DIGITS].forEach((c, i) => { digit[c.charCodeAt(0)] = i; });
  for (let i = 0; i < text.length; i += 5) {
    let word = 0;
    for (let j = 0; j < 5; j++) word = word * 85 + digit[text.charCodeAt(i + j)];
    out.setUint32(i / 5 * 4, word);
  }
  return new Uint8Array(out.buffer);
}
const data = bytes('weights'), wasm = bytes('kernels').slice(0, about.wasm);
const source = URL.createObjectURL(new Blob([document.getElementById('engine').textContent], { type: 'text/javascript' }));
const $ = id => document.getElementById(id);
const [height, width, channels] = about.unet.shape, pixels = height * width, classes = about.unet.num_classes;

// --- workers ---------------------------------------------------------------------------------------------------------

let requests = 0;
class Helper {                                                         // one worker, and the newest request to it
  constructor() {
    this.worker = new Worker(source);
    this.worker.postMessage({ about, data, wasm });
    this.worker.onmessage = ({ data }) => {
      if (data.error) return fail(data.error);
      if (data.id === this.id) this.listen(data);
    };
    this.worker.onerror = event => fail(event.message);
  }
  ask(kind, request, listen) {
    Object.assign(this, { id: ++requests, listen });
    this.worker.postMessage({ id: this.id, kind, request });
  }
}
const main = new Helper(), others = [];

function fail(message) {
  document.documentElement.dataset.state = 'failed';
  say('status', `This browser cannot run it: ${message}`);
}

// --- pictures --------------------------------------------------------------------------------------------------------

const grey = v => Math.round(Math.max(0, Math.min(255, (v + 1) * 127.5)));
function show(canvas, x) {                                                // an image in [-1, 1], grey or colour
  Object.assign(canvas, { width, height });
  canvas.style.aspectRatio = `${width} / ${height}`;
  const context = canvas.getContext('2d'), data = context.createImageData(width, height), C = x.length / pixels;
  for (let i = 0; i < pixels; i++) {
    for (let k = 0; k < 3; k++) data.data[4 * i + k] = grey(x[C * i + (C === 3 ? k : 0)]);
    data.data[4 * i + 3] = 255;
  }
  context.putImageData(data, 0, 0);
}
function showSigned(canvas, x) {                                          // blue below 0, white, red above
  const C = x.length / pixels, colours = new Float32Array(3 * pixels);
  const values = Float32Array.from({ length: pixels }, (_, i) => x.subarray(i * C, i * C + C).reduce((a, b) => a + b) / C);
  const most = values.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9);
  values.forEach((v, i) => {
    const pale = 1 - 2 * Math.abs(v) / most;
    colours.set(v > 0 ? [1, pale, pale] : [pale, pale, 1], 3 * i);
  });
  show(canvas, colours);
  return most;
}
const say = (id, text) => { $(id).textContent = text; };

// --- the walk and its slider -----------------------------------------------------------------------------------------

let steps = [], image = null, took = 0;
const value = id => Number($(id).value);
const label = () => (classes && $('class').value !== '' ? value('class') : null);
const named = c => (c === null ? 'no class' : about.classes[c]);

function asked(c = label(), index = 0) {
  return {
    c, index, guidance: c === null ? 1 : value('guidance'), eta: value('eta'), sampler: $('sampler').value,
    steps: value('steps'), seed: value('seed'),
  };
}

// Numbers that a browser calls invalid, such as a negative seed, are refused with their range.
function valid(...ids) {
  const wrong = ids.map($).find(e => !e.validity.valid || e.value === '');
  if (wrong) say(wrong.id === 'draws' ? 'typicality' : 'status', `${wrong.id}: give a whole number in ${wrong.min}…${wrong.max}`);
  return !wrong;
}

function draw() {
  if (!valid('seed')) return;
  document.documentElement.dataset.state = 'drawing';
  steps = [];
  image = null;
  $('time').max = value('steps');
  $('time').value = value('steps');
  forgetMap();
  main.ask('walk', asked(), data => {
    if (data.done) {
      took = data.ms;
      image = steps.at(-1).x;
      document.documentElement.dataset.state = 'done';
      return look();
    }
    steps.push(data.step);
    $('time').value = steps.length;
    look();
  });
}

function look() {                                                         // what the slider points at
  const at = Math.min(value('time'), steps.length);
  if (!steps.length) return;
  const { x_t, x0, difference, t, s } = steps[Math.max(0, at - 1)], x = at ? steps[at - 1].x : x_t;
  show($('xt'), x);
  show($('x0'), x0);
  say('x0-caption', 'x̂0, the predicted image');
  $('difference-figure').hidden = !difference;
  if (difference) showSigned($('difference'), difference);
  const calls = steps.length * (difference ? 2 : 1), c = named(label());
  say('time-out', at ? `t = ${s}` : `t = ${t}`);
  $('xt').setAttribute('aria-label', `x at t = ${at ? s : t}, ${c}`);
  $('x0').setAttribute('aria-label', `the predicted image at t = ${t}, ${c}`);
  const speed = took ? `, ${(took / calls).toFixed(1)} ms a call` : '';
  say('status', `${c}: ${steps.length} of ${value('steps')} steps, ${calls} calls of the network${speed}`);
}

// --- typicality ------------------------------------------------------------------------------------------------------

function forgetMap() {
  $('map-figure').hidden = true;
  say('typicality', '');
}

function measure() {
  if (!image || label() === null) return say('typicality', 'Choose a class, and draw an image or give a picture.');
  if (!valid('draws', 'seed')) return;
  document.documentElement.dataset.state = 'measuring';
  main.ask('typicality', { x0: image, c: label(), draws: value('draws'), seed: value('seed') }, data => {
    if (data.done) {
      document.documentElement.dataset.state = 'done';
      return;
    }
    const { k, value: T, stderr, map } = data.step;
    $('map-figure').hidden = false;
    const most = showSigned($('map'), map);
    $('map').setAttribute('aria-label', `typicality, pixel by pixel, ${named(label())}; darkest colour ${most.toFixed(3)}`);
    const error = Number.isNaN(stderr) ? '' : ` ± ${stderr.toFixed(5)}`;
    say('typicality', `T(x|${named(label())}) = ${T.toFixed(5)}${error}, ${k} draws`);
  });
}

async function picture(file) {                                            // one's own: its middle, scaled
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return say('typicality', `${file.name} is no picture that this browser reads.`);
  }
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const scale = Math.min(bitmap.width / width, bitmap.height / height), [w, h] = [width * scale, height * scale];
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, (bitmap.width - w) / 2, (bitmap.height - h) / 2, w, h, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height), sign = $('invert').checked ? -1 : 1;
  image = new Float32Array(pixels * channels);
  for (let i = 0; i < pixels; i++) {
    const [r, g, b] = data.subarray(4 * i, 4 * i + 3);
    if (channels === 1) image[i] = sign * ((0.299 * r + 0.587 * g + 0.114 * b) / 127.5 - 1);
    else image.set([r, g, b].map(v => sign * (v / 127.5 - 1)), 3 * i);
  }
  show($('x0'), image);
  say('x0-caption', 'your picture');
  $('x0').setAttribute('aria-label', `your picture ${file.name}`);
  say('status', `your picture ${file.name}, ${height} × ${width} pixels`);
  measure();
}

// --- a row of all classes --------------------------------------------------------------------------------------------

function row() {
  if (!valid('seed')) return;
  const cores = Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1));
  while (others.length < cores) others.push(new Helper());
  document.documentElement.dataset.row = 'drawing';
  const left = about.classes.map((_, c) => c);
  let open = left.length;
  const canvases = left.map(c => {
    const figure = document.createElement('figure'), canvas = document.createElement('canvas');
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', about.classes[c]);
    const caption = document.createElement('figcaption');
    caption.textContent = about.classes[c];
    figure.append(canvas, caption);
    return figure;
  });
  $('row').replaceChildren(...canvases);
  const next = worker => {
    const c = left.shift();
    if (c === undefined) return;
    let x;
    worker.ask('walk', asked(c, c), data => {
      if (!data.done) {
        x = data.step.x;
        return;
      }
      show(canvases[c].firstChild, x);
      if (!--open) document.documentElement.dataset.row = 'done';
      next(worker);
    });
  };
  others.forEach(next);
}

// --- controls --------------------------------------------------------------------------------------------------------

about.classes.forEach((name, c) => $('class').add(new Option(name, c)));
if (!classes) for (const id of ['class-control', 'guidance-control', 'more']) $(id).hidden = true;
$('steps').max = Math.min(250, about.T);
$('class').value = classes ? classes - 1 : '';
$('guidance').value = about.guidance;
for (const [id, wanted] of new URLSearchParams(location.search))          // page.html?steps=5&guidance=4
  if (['class', 'guidance', 'eta', 'sampler', 'steps', 'seed'].includes(id)) $(id).value = wanted;
const outputs = { guidance: 1, eta: 2, steps: 0 };
function write() {
  for (const [id, digits] of Object.entries(outputs)) say(`${id}-out`, value(id).toFixed(digits));
  $('eta').disabled = $('sampler').value !== 'ddim';
}
let waiting = 0;
function changed() {
  write();
  clearTimeout(waiting);
  waiting = setTimeout(draw, 150);                                        // the last of several movements
}
for (const id of ['class', 'guidance', 'eta', 'sampler', 'steps', 'seed']) $(id).addEventListener('input', changed);
$('time').addEventListener('input', look);
$('measure').addEventListener('click', measure);
$('all').addEventListener('click', row);
$('file').addEventListener('change', () => $('file').files[0] && picture($('file').files[0]));
$('invert').addEventListener('change', () => $('file').files[0] && picture($('file').files[0]));
document.addEventListener('dragover', event => event.preventDefault());
document.addEventListener('drop', event => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) picture(event.dataTransfer.files[0]);
});
write();
draw();
