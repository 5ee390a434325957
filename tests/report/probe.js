// What a reader would notice: text over text, a page wider than the screen, an error, a request, tiny letters.
const seen = {errors: [], requests: [], overlaps: [], small: []};
addEventListener("error", event => seen.errors.push(String(event.message)));
console.error = (...words) => seen.errors.push(words.join(" "));

function meet(a, b, wide, high) {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  return width > wide && height > high;
}

function boxes(selector, inside = document) {
  const found = [...inside.querySelectorAll(selector)].map(e => [e, e.getBoundingClientRect()]);
  return found.filter(([, box]) => box.width > 0 && box.height > 0);
}

function look() {
  for (const [svg, frame] of boxes("svg.fig")) {
    const texts = boxes("text", svg);
    texts.forEach(([text, a], i) => {
      if (a.left < frame.left - 2 || a.right > frame.right + 2 || a.bottom > frame.bottom + 2) {
        seen.overlaps.push("outside: " + text.textContent);
      }
      if (a.height < 8) seen.small.push(text.textContent + " " + a.height);
      for (const [other, b] of texts.slice(i + 1)) {
        // the boxes of turned texts cross although their letters do not
        const turned = text.getAttribute("transform")?.includes("rotate(-50");
        if (!turned && meet(a, b, 2, 3)) seen.overlaps.push(text.textContent + " / " + other.textContent);
      }
    });
  }
  const blocks = boxes("h1, h2, p, li, .panel, .scroll, pre, .key");
  blocks.forEach(([e, a], i) => {
    for (const [f, b] of blocks.slice(i + 1)) {
      if (!e.contains(f) && !f.contains(e) && meet(a, b, 2, 2)) seen.overlaps.push(e.tagName + " / " + f.tagName);
    }
  });
}

addEventListener("load", () => setTimeout(async () => {
  /* action */
  seen.wide = document.scrollingElement.scrollWidth - innerWidth;
  seen.inner = innerWidth;
  const loaded = performance.getEntriesByType("resource").map(entry => entry.name);
  seen.requests = loaded.filter(name => !name.startsWith("data:"));
  seen.interactive = Math.round(performance.getEntriesByType("navigation")[0].domInteractive);
  look();
  parent.postMessage(JSON.stringify(seen), "*");
}, 50));
