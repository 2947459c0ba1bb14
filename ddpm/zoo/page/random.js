// jax.random in JavaScript: the same key gives the same bits, so the same seed draws the same image.

const f32 = Math.fround;

// Threefry-2x32 with 20 rounds: a key and a counter, two words each, give two words.   [Salmon et al. 2011]
export function threefry(key, high, low) {
  const rotations = [[13, 15, 26, 6], [17, 29, 16, 24]];
  const keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1bd11bda];
  let a = (high + keys[0]) | 0, b = (low + keys[1]) | 0;
  for (let round = 0; round < 5; round++) {
    for (const r of rotations[round & 1]) {
      a = (a + b) | 0;
      b = ((b << r) | (b >>> (32 - r))) ^ a;
    }
    a = (a + keys[(round + 1) % 3]) | 0;
    b = (b + keys[(round + 2) % 3] + round + 1) | 0;
  }
  return [a >>> 0, b >>> 0];
}

export const key = seed => [0, seed >>> 0];                              // jax.random.key(seed), seed < 2^32
export const foldIn = (k, i) => threefry(k, 0, i >>> 0);                 // jax.random.fold_in
export const split = (k, n = 2) => Array.from({ length: n }, (_, i) => threefry(k, 0, i));

// 32 random bits for each of n numbers: the two words of counter i, combined.
export function bits(k, n) {
  const out = new Uint32Array(n);
  for (let i = 0; i < n; i++) {
    const [a, b] = threefry(k, 0, i);
    out[i] = a ^ b;
  }
  return out;
}

// Uniform in (-1, 1): 23 bits are the fraction of a float in [1, 2).
const fraction = new Uint32Array(1), asFloat = new Float32Array(fraction.buffer);
function uniform(word, low, width) {
  fraction[0] = (word >>> 9) | 0x3f800000;
  return Math.max(low, f32(f32(f32(asFloat[0] - 1) * width) + low));
}

// The inverse error function in float32.   [Giles 2010, Table 4]
const NEAR = [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
  -0.00417768164, 0.246640727, 1.50140941].map(f32);
const FAR = [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
  0.00943887047, 1.00167406, 2.83297682].map(f32);
export function erfInv(x) {
  let w = f32(-Math.log1p(f32(-f32(x * x))));
  const near = w < 5, p = near ? NEAR : FAR;
  w = near ? f32(w - 2.5) : f32(f32(Math.sqrt(w)) - 3);
  let y = p[0];
  for (let i = 1; i < 9; i++) y = f32(p[i] + y * w);                     // a fused multiply-add: one rounding
  return f32(y * x);
}

// jax.random.normal(k, (n,)): √2 erf⁻¹(u). The bits and u are JAX's own; the last digits of log1p may differ.
export function normal(k, n) {
  const low = f32(-0.99999994), root = f32(Math.SQRT2);
  return Float32Array.from(bits(k, n), word => f32(root * erfInv(uniform(word, low, 2))));
}

// jax.random.randint(k, (), low, high): two draws of 32 bits, so that their remainder is even.
export function randint(k, low, high) {
  const [first, second] = split(k), span = (high - low) >>> 0;
  const power = Number(((1n << 16n) % BigInt(span)) ** 2n % BigInt(span));
  const [a] = bits(first, 1), [b] = bits(second, 1);
  return low + Number(((BigInt(a % span) * BigInt(power)) % (1n << 32n) + BigInt(b % span)) % (1n << 32n) % BigInt(span));
}
