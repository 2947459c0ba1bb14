// From noise to an image: guidance, clipping, and the steps of DDIM and DDPM. t = 1…T, t = 0 is clean, ᾱ_0 = 1.

import { foldIn, key, normal, randint, split } from './random.js';

const map = (f, ...arrays) => Float32Array.from(arrays[0], (_, i) => f(...arrays.map(a => a[i])));

// The network's answer as ε̂ and x̂0, by what it predicts
const READ = {
  eps: (x, out, a) => out,
  x0: (x, out, a) => map((x, x0) => (x - Math.sqrt(a) * x0) / Math.sqrt(1 - a), x, out),
  v: (x, out, a) => map((x, v) => Math.sqrt(1 - a) * x + Math.sqrt(a) * v, x, out),
};

// ε̂(x_t, t, c) of a model {net, predict, alphaBar, firstTime, classes}
export function denoiser(model) {
  const read = READ[model.predict];
  return (x, t, c) => read(x, model.net(x, t - 1 + model.firstTime, c), model.alphaBar[t]);
}

// ε̂_∅ + s (ε̂_c - ε̂_∅)   [Ho and Salimans 2022, Eq. 6, with s = 1 + w];  also what the class changes
export function guided(eps, x, t, c, s) {
  if (c === null) return { e: eps(x, t, null), difference: null };
  const conditional = s === 0 ? null : eps(x, t, c);
  const none = s === 1 ? null : eps(x, t, null);
  if (s === 1) return { e: conditional, difference: null };
  if (s === 0) return { e: none, difference: null };
  const difference = map((c, n) => c - n, conditional, none);
  return { e: map((n, d) => n + s * d, none, difference), difference };
}

// x̂0 in [-1, 1], and the ε̂ that belongs to it   [Ho et al. 2020, Eq. 15]
export function clipped(x, e, a) {
  const x0 = map((x, e) => Math.max(-1, Math.min(1, (x - Math.sqrt(1 - a) * e) / Math.sqrt(a))), x, e);
  return { x0, e: map((x, x0) => (x - Math.sqrt(a) * x0) / Math.sqrt(1 - a), x, x0) };
}

// Times from T down to 0 in N steps, rounded to even as NumPy does; `searched` holds better lists of few steps.
export function makeTimes(T, N, searched = {}, sampler = 'ddim') {
  if (sampler === 'ddim' && searched[N]) return searched[N];
  return Array.from({ length: N + 1 }, (_, i) => {
    const t = T - i * (T / N), low = Math.floor(t);
    return t - low === 0.5 ? low + (low & 1) : Math.round(t);
  });
}

// x_s = √ᾱ_s x̂0 + √(1-ᾱ_s-σ²) ε̂ + σ z,  σ = η √((1-ᾱ_s)/(1-ᾱ_t)) √(1-ᾱ_t/ᾱ_s)   [Song et al. 2021, Eqs. 12, 16]
export function ddimStep({ x0, e }, a_t, a_s, eta, z) {
  const sigma = eta * Math.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s));
  const rest = Math.sqrt(Math.max(0, 1 - a_s - sigma ** 2));
  if (!sigma) return map((x0, e) => Math.sqrt(a_s) * x0 + rest * e, x0, e);
  return map((x0, e, z) => Math.sqrt(a_s) * x0 + rest * e + sigma * z, x0, e, z);
}

// x_s ~ N(mean of q(x_s | x_t, x̂0), β̃)   [Ho et al. 2020, Alg. 2, Eqs. 6-7];  no noise at the last step
export function ddpmStep({ x0 }, x, a_t, a_s, z) {
  const beta = 1 - a_t / a_s, sigma = Math.sqrt(beta * (1 - a_s) / (1 - a_t));
  const [by0, byt] = [Math.sqrt(a_s) * beta / (1 - a_t), Math.sqrt(a_t / a_s) * (1 - a_s) / (1 - a_t)];
  return map((x0, x, z) => by0 * x0 + byt * x + sigma * z, x0, x, z);
}

// Walk from the noise of image `index` of `seed`, as `ddpm sample` does; each step yields {t, s, x, x0, difference}.
export function* walk(model, { c, guidance, eta, sampler, steps, seed, index = 0 }) {
  const eps = denoiser(model), [keyX, keyWalk] = split(key(seed)).map(k => foldIn(k, index));
  const times = makeTimes(model.T, steps, model.searched, sampler);
  let x = normal(keyX, model.size);
  for (let i = 0; i < times.length - 1; i++) {
    const [t, s] = [times[i], times[i + 1]], [a_t, a_s] = [model.alphaBar[t], model.alphaBar[s]];
    const { e, difference } = guided(eps, x, t, c, guidance);
    const both = clipped(x, e, a_t);
    const noisy = s > 0 && (sampler === 'ddpm' || eta > 0), z = noisy ? normal(foldIn(keyWalk, i), model.size) : x;
    const next = sampler === 'ddpm' ? ddpmStep(both, x, a_t, a_s, z) : ddimStep(both, a_t, a_s, noisy ? eta : 0, z);
    yield { i, t, s, x_t: x, x: next, x0: both.x0, difference };
    x = next;
  }
}

// T(x|c) = E[(ε - ε̂(x_t, t, ∅))² - (ε - ε̂(x_t, t, c))²]   [Siglidis et al. 2024], draw by draw, with its standard error;
// the draws are those of `ddpm.typicality.measure`, for t in (.1 T, .7 T]. Yields {k, value, stderr, map}.
export function* typicality(model, { x0, c, draws, seed }) {
  const eps = denoiser(model), window = [Math.round(0.1 * model.T) + 1, Math.round(0.7 * model.T) + 1];
  const total = new Float64Array(model.size);
  let mean = 0, squares = 0;
  for (let k = 0; k < draws; k++) {
    const [keyT, keyNoise] = split(foldIn(key(seed), k), 3);
    const t = randint(keyT, ...window), z = normal(keyNoise, model.size), a = model.alphaBar[t];
    const x = map((x0, z) => Math.sqrt(a) * x0 + Math.sqrt(1 - a) * z, x0, z);
    const [none, conditional] = [eps(x, t, null), eps(x, t, c)];
    let value = 0;
    for (let i = 0; i < model.size; i++) {
      const d = (z[i] - none[i]) ** 2 - (z[i] - conditional[i]) ** 2;
      total[i] += d;
      value += d / model.size;
    }
    const delta = value - mean;                                           // Welford's running mean and squares
    mean += delta / (k + 1);
    squares += delta * (value - mean);
    const C = model.channels, pixels = model.size / C;
    const shown = Float32Array.from({ length: pixels }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < C; j++) sum += total[i * C + j];
      return sum / C / (k + 1);
    });
    yield { k: k + 1, t, value: mean, stderr: k ? Math.sqrt(squares / k / (k + 1)) : NaN, map: shown };
  }
}
