// Opens each page in a frame, in light and in dark, and writes what is wrong with it into <body data-found="…">.
const PAGES = /*pages*/[], WIDTH = /*width*/390, CONTRAST = 4.5;

const parse = c => {
  const n = (c.match(/[\d.]+/g) || []).map(Number);
  if (c.startsWith("color(")) return [...n.slice(0, 3).map(v => 255 * v), n.length > 3 ? n[3] : 1];
  return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1];
};
const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
const luminance = c => {
  const [r, g, b] = c.map(v => v / 255).map(v => (v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4));
  return .2126 * r + .7152 * g + .0722 * b;
};
const ratio = (a, b) => {  // WCAG 2.2, contrast ratio
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + .05) / (y + .05);
};

const once = f => {  // remember the answer for each element
  const known = new Map();
  const g = e => (e ? known.get(e) ?? (known.set(e, f(e, g)), known.get(e)) : null);
  return g;
};

function pale(view, page) {  // text that is hard to read
  const back = once((e, above) => {  // what lies behind, from the page's paper upwards
    const c = parse(view.getComputedStyle(e).backgroundColor);
    return c[3] === 1 ? c.slice(0, 3) : over(c, above(e.parentElement) || [255, 255, 255]);
  });
  const opacity = once((e, above) => Number(view.getComputedStyle(e).opacity) * (above(e.parentElement) ?? 1));
  const found = new Map(), walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  let words = 0;
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), e = walker.currentNode.parentElement;
    if (!text || ["SCRIPT", "STYLE", "NOSCRIPT", "TITLE"].includes(e.tagName)) continue;
    const style = view.getComputedStyle(e), box = e.getBoundingClientRect();
    if (style.visibility !== "visible" || box.width < 2 || box.height < 2 || e.closest(".katex-mathml, svg")) continue;
    words += 1;
    const paper = back(e), ink = parse(style.color);
    ink[3] *= opacity(e);
    const r = ratio(over(ink, paper), paper);
    const key = `${e.tagName}.${e.className} ${style.color} on ${paper.map(Math.round)}`;
    if (r < CONTRAST) found.set(key, `${r.toFixed(2)} ${key}: ${text.slice(0, 30)}`);
  }
  return [words, [...found.values()]];
}

function wide(view, page) {  // how far the page, or something that does not scroll inside itself, sticks out
  const held = once((e, above) => e.tagName !== "ARTICLE" &&
    (view.getComputedStyle(e).overflowX !== "visible" || above(e.parentElement) === true));
  let out = page.documentElement.scrollWidth - WIDTH;
  for (const e of page.querySelectorAll("article, article *"))
    if (!held(e)) out = Math.max(out, Math.round(e.getBoundingClientRect().right) - WIDTH);
  return out;
}

const open = (frame, url) => new Promise(done => { frame.onload = done; frame.src = url; });

addEventListener("load", async () => {
  const frame = document.querySelector("iframe"), results = [];
  frame.width = WIDTH;
  for (const url of PAGES) {
    await open(frame, url);
    const page = frame.contentDocument, view = frame.contentWindow;
    for (const d of page.querySelectorAll("details")) d.open = true;
    const sheet = page.createElement("style");
    sheet.textContent = "*, *::before, *::after { animation: none !important; transition: none !important; }";
    page.head.append(sheet);
    const sticks = wide(view, page);
    for (const theme of ["light", "dark"]) {
      page.body.dataset.theme = theme;
      const [words, hard] = pale(view, page);
      const shown = [...page.querySelectorAll("article img")].filter(i => i.getBoundingClientRect().width > 1);
      const broken = shown.filter(i => i.loading !== "lazy" && !i.naturalWidth).map(i => i.getAttribute("src"));
      const paper = view.getComputedStyle(page.body).backgroundColor;
      results.push({ url, theme, words, hard, wide: sticks, pictures: shown.length, broken, paper });
    }
  }
  document.body.setAttribute("data-found", encodeURIComponent(JSON.stringify(results)));
});
