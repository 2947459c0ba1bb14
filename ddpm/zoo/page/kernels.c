/* The layers of the U-Net for a browser: WebAssembly with 128-bit SIMD, no library. Images are (H, W, C), kernels
   (k, k, in, out), all float32; channels come in fours. Compiled by zig 0.17.1:

       python -m ziglang cc -target wasm32-freestanding -mcpu=baseline+simd128+bulk_memory -O3 -ffreestanding -nostdlib \
           -Wl,--no-entry -Wl,--export-memory -Wl,-z,stack-size=65536 -Wl,-s -o kernels.wasm kernels.c
*/
#include <wasm_simd128.h>
#define EXPORT(name) __attribute__((export_name(#name)))
#define INLINE static inline __attribute__((always_inline))

typedef v128_t four;
INLINE four load(const float *p) { return wasm_v128_load(p); }
INLINE void store(float *p, four v) { wasm_v128_store(p, v); }
INLINE four all(float x) { return wasm_f32x4_splat(x); }
INLINE four plus(four a, four b) { return wasm_f32x4_add(a, b); }
INLINE four minus(four a, four b) { return wasm_f32x4_sub(a, b); }
INLINE four times(four a, four b) { return wasm_f32x4_mul(a, b); }
INLINE float sum(four v) {
  return wasm_f32x4_extract_lane(v, 0) + wasm_f32x4_extract_lane(v, 1) + wasm_f32x4_extract_lane(v, 2) +
         wasm_f32x4_extract_lane(v, 3);
}

/* --- memory: a stack that grows; `release` frees everything above a mark ------------------------------------------ */

extern unsigned char __heap_base;
static unsigned top = 0;

EXPORT(alloc) unsigned alloc(unsigned bytes) {
  if (!top) top = ((unsigned)&__heap_base + 63) & ~63u;
  unsigned start = top;
  top += (bytes + 63) & ~63u;
  unsigned have = __builtin_wasm_memory_size(0) << 16;
  if (top > have && __builtin_wasm_memory_grow(0, ((top - have) >> 16) + 1) == (unsigned long)-1) __builtin_trap();
  return start;
}
EXPORT(mark) unsigned mark(void) { return top; }
EXPORT(release) void release(unsigned to) { top = to; }

/* --- convolution -------------------------------------------------------------------------------------------------- */

/* Zeros around an image: lo above and to the left, hi below and to the right. */
EXPORT(pad) void pad(const float *x, float *y, int H, int W, int C, int lo, int hi) {
  int row = W + lo + hi;
  __builtin_memset(y, 0, (unsigned)((H + lo + hi) * row * C) * 4);
  for (int i = 0; i < H; i++)
    __builtin_memcpy(y + ((i + lo) * row + lo) * C, x + i * W * C, (unsigned)(W * C) * 4);
}

/* n neighbouring pixels times four output channels; n is a constant, so the sums stay in registers. */
INLINE void pixels(const int n, const float *x, const float *w, four b, float *y, int row, int in, int out, int k,
                   int step) {
  four acc[8];
  for (int p = 0; p < n; p++) acc[p] = b;
  for (int i = 0; i < k; i++)
    for (int j = 0; j < k; j++) {
      const float *source = x + (i * row + j) * in, *weight = w + (i * k + j) * in * out;
      for (int c = 0; c < in; c++, source++, weight += out) {
        four each = load(weight);
        for (int p = 0; p < n; p++) acc[p] = plus(acc[p], times(wasm_v128_load32_splat(source + p * step), each));
      }
    }
  for (int p = 0; p < n; p++) store(y + p * out, acc[p]);
}

/* y = x * w + b, with the padded row length `row`; rows are divided into equal pieces of at most eight pixels. */
EXPORT(conv) void conv(const float *x, const float *w, const float *b, float *y, int H, int W, int row, int in, int out,
                       int k, int stride) {
  int pieces = (W + 7) / 8, size = (W + pieces - 1) / pieces, step = stride * in;
  for (int o = 0; o < out; o += 4)
    for (int i = 0; i < H; i++)
      for (int j = 0; j < W; j += size) {
        const float *source = x + (i * stride * row + j * stride) * in;
        float *to = y + (i * W + j) * out + o;
        switch (W - j < size ? W - j : size) {
          case 1: pixels(1, source, w + o, load(b + o), to, row, in, out, k, step); break;
          case 2: pixels(2, source, w + o, load(b + o), to, row, in, out, k, step); break;
          case 3: pixels(3, source, w + o, load(b + o), to, row, in, out, k, step); break;
          case 4: pixels(4, source, w + o, load(b + o), to, row, in, out, k, step); break;
          case 5: pixels(5, source, w + o, load(b + o), to, row, in, out, k, step); break;
          case 6: pixels(6, source, w + o, load(b + o), to, row, in, out, k, step); break;
          case 7: pixels(7, source, w + o, load(b + o), to, row, in, out, k, step); break;
          default: pixels(8, source, w + o, load(b + o), to, row, in, out, k, step);
        }
      }
}

/* --- silu and normalisation --------------------------------------------------------------------------------------- */

/* e^x to float32 precision: x = n ln 2 + r, and Cephes' polynomial of r. */
INLINE four exponential(four x) {
  x = wasm_f32x4_min(wasm_f32x4_max(x, all(-87)), all(88));
  four n = wasm_f32x4_floor(plus(times(x, all(1.44269504f)), all(.5f)));
  four r = plus(minus(x, times(n, all(.693359375f))), times(n, all(2.12194440e-4f)));
  four p = all(1.9875691500e-4f);
  p = plus(times(p, r), all(1.3981999507e-3f));
  p = plus(times(p, r), all(8.3334519073e-3f));
  p = plus(times(p, r), all(4.1665795894e-2f));
  p = plus(times(p, r), all(1.6666665459e-1f));
  p = plus(times(p, r), all(5.0000001201e-1f));
  p = plus(plus(times(times(p, r), r), r), all(1));
  four power = wasm_i32x4_shl(wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(n), wasm_i32x4_splat(127)), 23);
  return times(p, power);
}
INLINE four silu4(four x) { return wasm_f32x4_div(x, plus(all(1), exponential(wasm_f32x4_neg(x)))); }

EXPORT(silu) void silu(const float *x, float *y, int n) {
  for (int i = 0; i < n; i += 4) store(y + i, silu4(load(x + i)));
}

enum { WIDEST = 4096 };
static float means[WIDEST], scales[WIDEST];

/* (x - mean)/√(var + 1e-6) over each group of channels and all N pixels, then scale and bias, and silu if asked. Two
   passes, pixels first, as ddpm.tools.ops.group_norm does. */
EXPORT(group_norm) void group_norm(const float *x, const float *scale, const float *bias, float *y, int N, int C,
                                   int groups, int act) {
  int width = C / groups;
  for (int pass = 0; pass < 2; pass++) {
    float *total = pass ? scales : means;
    for (int c = 0; c < C; c += 4) {
      four s = all(0), m = load(means + c);
      for (int i = 0; i < N; i++) {
        four v = load(x + i * C + c);
        if (pass) v = times(minus(v, m), minus(v, m));
        s = plus(s, v);
      }
      store(total + c, s);
    }
    for (int g = 0; g < groups; g++) {
      float s = 0;
      for (int c = 0; c < width; c++) s += total[g * width + c];
      s /= (float)(N * width);
      for (int c = 0; c < width; c++) total[g * width + c] = pass ? 1 / __builtin_sqrtf(s + 1e-6f) : s;
    }
  }
  for (int c = 0; c < C; c++) scales[c] *= scale[c];
  for (int i = 0; i < N; i++)
    for (int c = 0; c < C; c += 4) {
      four h = plus(times(minus(load(x + i * C + c), load(means + c)), load(scales + c)), load(bias + c));
      store(y + i * C + c, act ? silu4(h) : h);
    }
}

/* --- what joins the layers ---------------------------------------------------------------------------------------- */

EXPORT(add) void add(float *x, const float *y, int n) {
  for (int i = 0; i < n; i += 4) store(x + i, plus(load(x + i), load(y + i)));
}
/* The same vector (C) added to each of N pixels. */
EXPORT(add_to_all) void add_to_all(float *x, const float *v, int N, int C) {
  for (int i = 0; i < N; i++) add(x + i * C, v, C);
}
/* silu(x (1 + scale) + shift), scale and shift (C) the same for all pixels. */
EXPORT(scale_shift) void scale_shift(float *x, const float *v, int N, int C) {
  for (int i = 0; i < N; i++)
    for (int c = 0; c < C; c += 4) {
      four h = plus(times(load(x + i * C + c), plus(all(1), load(v + c))), load(v + C + c));
      store(x + i * C + c, silu4(h));
    }
}
EXPORT(linear) void linear(const float *x, const float *w, const float *b, float *y, int N, int in, int out) {
  conv(x, w, b, y, 1, N, N, in, out, 1, 1);
}
EXPORT(concat) void concat(const float *a, const float *b, float *y, int N, int A, int B) {
  for (int i = 0; i < N; i++) {
    __builtin_memcpy(y + i * (A + B), a + i * A, (unsigned)A * 4);
    __builtin_memcpy(y + i * (A + B) + A, b + i * B, (unsigned)B * 4);
  }
}
EXPORT(upsample) void upsample(const float *x, float *y, int H, int W, int C) {
  for (int i = 0; i < 2 * H; i++)
    for (int j = 0; j < 2 * W; j++)
      __builtin_memcpy(y + (i * 2 * W + j) * C, x + (i / 2 * W + j / 2) * C, (unsigned)C * 4);
}

static float logits[WIDEST];

/* softmax(q kᵀ/√C) v over N positions, row by row. */
EXPORT(attend) void attend(const float *q, const float *k, const float *v, float *y, int N, int C) {
  float root = 1 / __builtin_sqrtf((float)C);
  for (int i = 0; i < N; i++) {
    float most = -1e30f, total = 0;
    for (int j = 0; j < N; j++) {
      four s = all(0);
      for (int c = 0; c < C; c += 4) s = plus(s, times(load(q + i * C + c), load(k + j * C + c)));
      logits[j] = sum(s) * root;
      if (logits[j] > most) most = logits[j];
    }
    for (int j = N; j & 3; j++) logits[j] = -1e30f;
    for (int j = 0; j < N; j += 4) {
      four e = exponential(minus(load(logits + j), all(most)));
      store(logits + j, e);
      for (int p = 0; p < 4 && j + p < N; p++) total += logits[j + p];
    }
    for (int c = 0; c < C; c += 4) {
      four s = all(0);
      for (int j = 0; j < N; j++) s = plus(s, times(all(logits[j]), load(v + j * C + c)));
      store(y + i * C + c, times(s, all(1 / total)));
    }
  }
}
