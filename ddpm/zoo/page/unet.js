// The U-Net of Ho et al. (2020), with layers from kernels.c. It reads like ddpm/network.py.

// The compiled kernels, with arrays put into and read from their memory.
export async function loadKernels(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const kernels = instance.exports;
  const view = (pointer, n) => new Float32Array(kernels.memory.buffer, pointer, n);
  const put = array => {
    const pointer = kernels.alloc(array.byteLength);
    view(pointer, array.length).set(array);
    return pointer;
  };
  return { ...kernels, put, get: (pointer, n) => view(pointer, n).slice() };
}

// Columns of zeros until there are a multiple of four, which the kernels want.
function padded(array, columns) {
  const wide = (columns + 3) & ~3, rows = array.length / columns;
  if (wide === columns) return array;
  const out = new Float32Array(rows * wide);
  for (let i = 0; i < rows; i++) out.set(array.subarray(i * columns, (i + 1) * columns), i * wide);
  return out;
}

// [sin(t ω_i), cos(t ω_i)], ω_i = 10000^(-i/(dim/2 - 1)), in float32 like JAX
export function timeEmbedding(t, dim) {
  const half = dim / 2, out = new Float32Array(dim), f32 = Math.fround;
  const rate = f32(-Math.log(10000) / (half - 1));
  for (let i = 0; i < half; i++) {
    const angle = f32(t * f32(Math.exp(f32(rate * i))));
    out[i] = Math.sin(angle);
    out[half + i] = Math.cos(angle);
  }
  return out;
}

// Each p × p block of pixels becomes the channels of one position, and back. The image (H, W, C) is smaller than the
// `padded` one where levels do not divide it: zeros below and to the right.
function blocks(x, [H, W, C], padded, p, wide, inverse) {
  const [rows, columns] = padded.map(n => n / p);
  const out = new Float32Array(inverse ? H * W * C : rows * columns * p * p * C);
  for (let i = 0; i < H; i++)
    for (let j = 0; j < W; j++)
      for (let c = 0; c < C; c++) {
        const pixel = (i * W + j) * C + c, place = (i % p * p + j % p) * C + c;
        const position = Math.floor(i / p) * columns + Math.floor(j / p);
        if (inverse) out[pixel] = x[position * wide + place];
        else out[position * p * p * C + place] = x[pixel];
      }
  return out;
}

// weights: {name: {shape, data: Float32Array}};  config: the fields of UNetConfig, with `shape` (H, W, C) and `padded`
// (H, W) of the image  ->  net(x_t, t, c), x_t (H, W, C)
export function makeUNet(kernels, weights, config) {
  const place = {}, shapes = {};
  for (const [name, { shape, data }] of Object.entries(weights)) {
    shapes[name] = shape;
    place[name] = kernels.put(padded(data, shape[shape.length - 1]));
  }
  const base = kernels.mark(), has = name => `${name}/bias` in place;
  const floats = n => kernels.alloc(4 * ((n + 3) & ~3)), four = n => (n + 3) & ~3;
  const { groups, patch, channels, multipliers } = config;

  function conv(x, name, H, W, stride = 1) {
    const [k, , C, wanted] = shapes[`${name}/kernel`], out = four(wanted), y = floats(H * W * out / stride ** 2);
    const [w, b] = [place[`${name}/kernel`], place[`${name}/bias`]];
    if (k === 1) {
      kernels.conv(x, w, b, y, H, W, W, C, out, 1, 1);
      return y;
    }
    const lo = stride === 1 ? 1 : 0, framed = floats((H + lo + 1) * (W + lo + 1) * C);   // SAME, as TensorFlow pads
    kernels.pad(x, framed, H, W, C, lo, 1);
    kernels.conv(framed, w, b, y, H / stride, W / stride, W + lo + 1, C, out, k, stride);
    return y;
  }
  function linear(x, name, N) {
    const [from, to] = shapes[`${name}/kernel`], y = floats(N * to);
    kernels.linear(x, place[`${name}/kernel`], place[`${name}/bias`], y, N, from, to);
    return y;
  }
  function norm(x, name, N, act) {
    const C = shapes[`${name}/scale`][0], y = floats(N * C);
    kernels.group_norm(x, place[`${name}/scale`], place[`${name}/bias`], y, N, C, groups, act ? 1 : 0);
    return y;
  }

  // x + conv(silu(norm(conv(silu(norm(x))) + time)))
  function resBlock(x, time, name, H, W) {
    const N = H * W, C = shapes[`${name}/conv2/bias`][0];
    let h = conv(norm(x, `${name}/norm1`, N, true), `${name}/conv1`, H, W);
    const t = linear(time, `${name}/time_emb_proj`, 1);
    if (config.scale_shift) {
      h = norm(h, `${name}/norm2`, N, false);
      kernels.scale_shift(h, t, N, C);
    } else {
      kernels.add_to_all(h, t, N, C);
      h = norm(h, `${name}/norm2`, N, true);
    }
    h = conv(h, `${name}/conv2`, H, W);
    kernels.add(h, has(`${name}/conv_shortcut`) ? conv(x, `${name}/conv_shortcut`, H, W) : x, N * C);
    return h;
  }
  // x + softmax(q kᵀ/√C) v
  function attention(x, name, N) {
    const C = shapes[`${name}/group_norm/scale`][0], h = norm(x, `${name}/group_norm`, N, false), y = floats(N * C);
    const [q, k, v] = ['to_q', 'to_k', 'to_v'].map(part => linear(h, `${name}/${part}`, N));
    kernels.attend(q, k, v, y, N, C);
    const out = linear(y, `${name}/to_out/0`, N);
    kernels.add(out, x, N * C);
    return out;
  }
  const attended = (h, name, N) => has(`${name}/to_q`) ? attention(h, name, N) : h;

  return function net(x, t, c) {
    kernels.release(base);
    // The embeddings of time and class
    const d = 4 * channels;
    let time = linear(kernels.put(timeEmbedding(t, channels)), 'time_embedding/linear_1', 1);
    kernels.silu(time, time, d);
    time = linear(time, 'time_embedding/linear_2', 1);
    if (config.num_classes) kernels.add(time, place.class_embedding + 4 * d * (c ?? config.num_classes), d);
    kernels.silu(time, time, d);
    // Down, keeping every activation as a skip
    let [H, W] = config.padded.map(n => n / patch), C = channels * multipliers[0];
    let h = conv(kernels.put(blocks(x, config.shape, config.padded, patch)), 'conv_in', H, W);
    const skips = [[h, C]], last = multipliers.length - 1;
    multipliers.forEach((m, i) => {
      for (let j = 0; j < config.blocks; j++) {
        h = resBlock(h, time, `down_blocks/${i}/resnets/${j}`, H, W);
        h = attended(h, `down_blocks/${i}/attentions/${j}`, H * W);
        skips.push([h, C = channels * m]);
      }
      if (i < last) {
        h = conv(h, `down_blocks/${i}/downsamplers/0/conv`, H, W, 2);
        [H, W] = [H / 2, W / 2];
        skips.push([h, C]);
      }
    });
    // The middle
    h = resBlock(h, time, 'mid_block/resnets/0', H, W);
    h = attention(h, 'mid_block/attentions/0', H * W);
    h = resBlock(h, time, 'mid_block/resnets/1', H, W);
    // Up, joined with the skips
    for (let i = 0; i <= last; i++) {
      for (let j = 0; j <= config.blocks; j++) {
        const [skip, wide] = skips.pop(), both = floats(H * W * (C + wide));
        kernels.concat(h, skip, both, H * W, C, wide);
        h = resBlock(both, time, `up_blocks/${i}/resnets/${j}`, H, W);
        h = attended(h, `up_blocks/${i}/attentions/${j}`, H * W);
        C = channels * multipliers[last - i];
      }
      if (i < last) {
        const doubled = floats(4 * H * W * C);
        kernels.upsample(h, doubled, H, W, C);
        [H, W] = [2 * H, 2 * W];
        h = conv(doubled, `up_blocks/${i}/upsamplers/0/conv`, H, W);
      }
    }
    h = conv(norm(h, 'conv_norm_out', H * W, true), 'conv_out', H, W);
    const wide = four(config.image_channels * patch ** 2);
    return blocks(kernels.get(h, H * W * wide), config.shape, config.padded, patch, wide, true);
  };
}
