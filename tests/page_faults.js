// Looks at the page as it is laid out now and returns its faults, one line each.
// The argument is the least size of text, in CSS pixels.
const leastText = arguments[0];
const faults = [];
const name = (e) => {
  const words = (e.textContent || "").trim().replace(/\s+/g, " ").slice(0, 40);
  return `<${e.tagName.toLowerCase()} class="${e.getAttribute("class") || ""}"> ${words}`;
};
const isShown = (e) =>
  e.checkVisibility({ opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true });
const isOff = (e) => {
  for (let at = e; at instanceof Element; at = at.parentElement)
    if (getComputedStyle(at).clipPath === "inset(50%)") return true;
  return false;
};

// --- Layout ---
const page = document.documentElement;
if (page.scrollWidth > innerWidth)
  faults.push(`scrolls sideways: ${page.scrollWidth} px wide in ${innerWidth} px`);
for (const e of document.querySelectorAll("body *")) {
  const flow = getComputedStyle(e).overflowX;
  if (isShown(e) && ["auto", "scroll"].includes(flow) && e.scrollWidth > e.clientWidth
      && e.tabIndex < 0) faults.push(`scrolls, but not by keyboard: ${name(e)}`);
}

// --- Plots ---
const spill = 1;
for (const svg of document.querySelectorAll("svg")) {
  if (!isShown(svg)) continue;
  const frame = svg.getBoundingClientRect();
  if (frame.width < 50 || frame.height < 30) faults.push(`plot without size: ${name(svg)}`);
  const marks = [...svg.querySelectorAll(".mark, .line")];
  if (!marks.length) faults.push(`plot without marks: ${name(svg)}`);
  for (const mark of marks) {
    const box = mark.getBoundingClientRect();
    if (!(box.width > 0 || box.height > 0)) faults.push(`mark without size in ${name(svg)}`);
    if (box.left < frame.left - 4 || box.right > frame.right + 4
        || box.top < frame.top - 4 || box.bottom > frame.bottom + 4)
      faults.push(`mark outside its plot: ${name(svg)}`);
  }
  const texts = [...svg.querySelectorAll("text")].map((t) => [t, t.getBoundingClientRect()]);
  texts.forEach(([text, box], i) => {
    if (box.left < frame.left - spill || box.right > frame.right + spill
        || box.top < frame.top - spill || box.bottom > frame.bottom + spill)
      faults.push(`text outside its plot: ${name(text)}`);
    for (const [other, its] of texts.slice(i + 1)) {
      // A line's box is taller than its letters: only what is deeper than that is an overlap.
      const across = Math.min(box.right, its.right) - Math.max(box.left, its.left);
      const down = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
      if (across > spill && down > 0.35 * Math.min(box.height, its.height))
        faults.push(`texts overlap: ${name(text)} and ${name(other)}`);
    }
  });
}

// --- Contrast ---
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
// The colour behind everything, which the scheme decides where the page does not.
const probe = document.body.appendChild(document.createElement("i"));
probe.style.backgroundColor = "Canvas";
const backdrop = rgba(getComputedStyle(probe).backgroundColor);
probe.remove();
const over = (top, under) => {
  const share = top[3] / 255;
  return [0, 1, 2].map((i) => top[i] * share + under[i] * (1 - share)).concat(255);
};
const paper = (e) => {
  const layers = [];
  for (let at = e; at; at = at.parentElement) {
    layers.push(rgba(getComputedStyle(at).backgroundColor));
    if (layers.at(-1)[3] === 255) break;
  }
  return layers.reverse().reduce((under, top) => over(top, under), backdrop);
};
const luminance = (c) => {
  const [r, g, b] = c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
};
const seen = new Set();
const check = (e, colour, least, what) => {
  const under = paper(e);
  const found = contrast(over(rgba(colour), under), under);
  const line = `${what} has contrast ${found.toFixed(2)}, under ${least}: ${name(e)}`;
  if (found < least && !seen.has(line)) faults.push(line);
  seen.add(line);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !isShown(e) || isOff(e)) continue;
  if (["STYLE", "SCRIPT", "title", "desc"].includes(e.tagName)) continue;
  const style = getComputedStyle(e);
  const inPlot = e instanceof SVGElement;
  const scale = inPlot ? e.ownerSVGElement.getScreenCTM().a : 1;
  const size = parseFloat(style.fontSize) * scale;
  const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  check(e, inPlot ? style.fill : style.color, isLarge ? 3 : 4.5, "text");
  if (size < leastText) faults.push(`text of ${size.toFixed(1)} px: ${name(e)}`);
}
for (const mark of document.querySelectorAll("svg .mark, svg .bar, svg .line")) {
  if (!isShown(mark)) continue;
  const style = getComputedStyle(mark);
  check(mark, style.stroke === "none" ? style.fill : style.stroke, 3, "mark");
}

// --- For keyboards and screen readers ---
if (!page.lang) faults.push("the page names no language");
if (!document.title) faults.push("the page has no title");
let level = 0;
const heads = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(isShown);
if (heads.filter((h) => h.tagName === "H1").length !== 1) faults.push("the page needs one h1");
for (const head of heads) {
  const own = Number(head.tagName[1]);
  if (own > level + 1) faults.push(`heading skips a level: ${name(head)}`);
  level = own;
}
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i)))
  faults.push(`two elements have the id ${id}`);
const refers = (e, key) => (e.getAttribute(key) || "").split(/\s+/).filter(Boolean);
for (const key of ["aria-labelledby", "aria-describedby"])
  for (const e of document.querySelectorAll(`[${key}]`))
    for (const id of refers(e, key))
      if (!document.getElementById(id)) faults.push(`${key} names nothing: ${id}`);
for (const th of document.querySelectorAll("th"))
  if (!th.scope) faults.push(`table head without scope: ${name(th)}`);
for (const svg of document.querySelectorAll("svg"))
  if (!svg.querySelector("title")?.textContent || !svg.querySelector("desc")?.textContent)
    faults.push(`plot without title or description: ${name(svg)}`);
for (const figure of document.querySelectorAll("figure"))
  if (!figure.querySelector("figcaption")?.textContent.trim())
    faults.push(`figure without caption: ${name(figure)}`);
for (const e of document.querySelectorAll("img:not([alt]), [role=region]:not([aria-label]):not([aria-labelledby])"))
  faults.push(`element without a name: ${name(e)}`);
return faults;
