"use strict";
(() => {
  const {points, classes, colours, shapes, tile, columns, review} = JSON.parse(document.getElementById("data").textContent);
  const sheet = document.getElementById("sheet");
  const canvas = document.getElementById("map");
  const context = canvas.getContext("2d");
  const tip = document.getElementById("tip");
  const onlyMisses = document.getElementById("misses");
  const hidden = new Set();
  const view = {scale: 1, x: 0, y: 0};
  const selected = new Set();
  let width = 0, height = 0, hovered = -1, scheduled = false, lasso = null;

  const isShown = point => !hidden.has(point.c) && (!onlyMisses.checked || point.m);
  // On a narrow screen, the buttons have a margin of their own.
  const buttons = document.querySelector(".zoom");
  const margin = () => width < 640 ? buttons.offsetWidth + 10 : 0;
  const middle = () => (width - margin()) / 2;
  const base = () => Math.min(width - margin(), height) - 48;
  const toScreen = point => [
    middle() + view.x + (point.x - .5) * base() * view.scale,
    height / 2 + view.y + (.5 - point.y) * base() * view.scale,
  ];
  // Thumbnails once there is room for them between the points.
  const side = () => Math.min(64, .45 * base() * view.scale / Math.sqrt(points.length));

  // One of four shapes, so that classes can be told apart without their colours.
  const outline = (shape, x, y, r) => {
    context.beginPath();
    if (shape === "square") context.rect(x - r * .9, y - r * .9, 1.8 * r, 1.8 * r);
    else if (shape === "circle") context.arc(x, y, r, 0, 7);
    else {
      const corners = shape === "triangle" ? [[0, -1.2], [1.1, .8], [-1.1, .8]] : [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]];
      corners.forEach(([dx, dy], number) => context[number ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
      context.closePath();
    }
  };

  const draw = () => {
    scheduled = false;
    const density = devicePixelRatio || 1;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    const ink = getComputedStyle(document.body).color;
    const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    const size = side();
    const asPicture = size >= 12 && sheet.complete && sheet.naturalWidth;
    const radius = Math.max(2.5, Math.min(6, size / 2));
    const order = hovered >= 0 ? [...points.keys()].filter(i => i !== hovered).concat(hovered) : points.keys();
    for (const number of order) {
      const point = points[number];
      if (!isShown(point)) continue;
      const [x, y] = toScreen(point);
      if (x < -size || y < -size || x > width + size || y > height + size) continue;
      const big = number === hovered ? 1.5 : 1;
      context.fillStyle = colours[point.c];
      if (asPicture) {
        const half = size * big / 2;
        context.fillRect(x - half - 2, y - half - 2, 2 * half + 4, 2 * half + 4);
        context.drawImage(sheet, number % columns * tile, Math.floor(number / columns) * tile, tile, tile, x - half, y - half, 2 * half, 2 * half);
      } else {
        outline(shapes[point.c], x, y, radius * big);
        context.fill();
      }
      if (selected.has(number)) {
        context.strokeStyle = accent;
        context.lineWidth = 3;
        context.strokeRect(x - (asPicture ? size / 2 : radius) - 3, y - (asPicture ? size / 2 : radius) - 3, 2 * (asPicture ? size / 2 : radius) + 6, 2 * (asPicture ? size / 2 : radius) + 6);
      }
      if (point.m) {
        context.strokeStyle = ink;
        context.lineWidth = 2;
        context.beginPath();
        context.arc(x, y, asPicture ? size * big * .78 : radius * big + 2.5, 0, 7);
        context.stroke();
      }
    }
    if (lasso) {
      context.strokeStyle = accent;
      context.lineWidth = 2;
      context.setLineDash([6, 4]);
      context.beginPath();
      lasso.forEach(([x, y], number) => context[number ? "lineTo" : "moveTo"](x, y));
      context.closePath();
      context.stroke();
      context.setLineDash([]);
    }
  };
  const redraw = () => { if (!scheduled) { scheduled = true; requestAnimationFrame(draw); } };

  const zoom = (factor, x = width / 2, y = height / 2) => {
    const next = Math.min(400, Math.max(.5, view.scale * factor));
    const ratio = next / view.scale;
    view.x = x - middle() - (x - middle() - view.x) * ratio;
    view.y = y - height / 2 - (y - height / 2 - view.y) * ratio;
    view.scale = next;
    redraw();
  };
  const reset = () => { Object.assign(view, {scale: 1, x: 0, y: 0}); redraw(); };

  const nearest = (x, y) => {
    let best = -1, least = Math.max(10, side() / 2) ** 2;
    points.forEach((point, number) => {
      if (!isShown(point)) return;
      const [px, py] = toScreen(point);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) { least = distance; best = number; }
    });
    return best;
  };
  const hover = (x, y) => {
    const number = nearest(x, y);
    if (number !== hovered) { hovered = number; redraw(); }
    tip.hidden = number < 0;
    if (number < 0) return;
    const point = points[number];
    const small = tip.querySelector("canvas");
    const pen = small.getContext("2d");
    pen.clearRect(0, 0, small.width, small.height);
    pen.drawImage(sheet, number % columns * tile, Math.floor(number / columns) * tile, tile, tile, 0, 0, small.width, small.height);
    const said = `${point.s} ${Math.round(point.q * 100)}%`;
    tip.querySelector("strong").textContent = point.m ? `${classes[point.c]} → ${said}` : said;
    tip.querySelector("span").textContent = point.p;
    tip.style.left = `${Math.max(4, Math.min(x + 16, width - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 16, height - tip.offsetHeight - 8))}px`;
  };

  // ---- selecting a region, and what to do with it
  const byId = id => document.getElementById(id);
  const isSelecting = () => byId("select").getAttribute("aria-pressed") === "true";
  // How often a line from the point to the right crosses the polygon: odd inside (Shimrat, 1962).
  const isInside = ([x, y], polygon) => polygon.reduce((inside, [ax, ay], number) => {
    const [bx, by] = polygon[(number + 1) % polygon.length];
    return (ay > y) !== (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax ? !inside : inside;
  }, false);
  const choose = isIn => {
    points.forEach((point, number) => { if (point.h && isShown(point) && isIn(toScreen(point))) selected.add(number); });
    showSelection();
  };
  const showSelection = () => {
    const counts = new Map();
    for (const number of selected) counts.set(points[number].l, (counts.get(points[number].l) ?? 0) + 1);
    const names = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${name || "no label"} ${count}`);
    byId("selection").hidden = !selected.size;
    byId("selected").textContent = `${selected.size} selected: ${names.join(", ")}`;
    redraw();
  };
  const rows = action => [...selected].map(number => points[number]).map(point => ({
    path: point.p, label: point.l, predicted: point.s, probability: point.q, issue_type: "", reason: "selected on the map", sha256: point.h, file: point.f,
    action: action === `relabel:${point.l}` ? "keep" : action,
  }));
  byId("select").addEventListener("click", () => {
    byId("select").setAttribute("aria-pressed", String(!isSelecting()));
    canvas.classList.toggle("selecting", isSelecting());
  });
  byId("visible").addEventListener("click", () => choose(([x, y]) => x >= 0 && y >= 0 && x <= width && y <= height));
  byId("none").addEventListener("click", () => { selected.clear(); showSelection(); });
  byId("save").addEventListener("click", () => downloadReview(review, rows(byId("action").value)));

  const fingers = new Map();
  const place = event => [event.offsetX, event.offsetY];
  canvas.addEventListener("pointerdown", event => {
    fingers.set(event.pointerId, place(event));
    canvas.setPointerCapture(event.pointerId);
    if (isSelecting()) { lasso = [place(event)]; return; }
    if (event.pointerType !== "mouse") hover(...place(event));
  });
  canvas.addEventListener("pointermove", event => {
    const before = fingers.get(event.pointerId);
    if (!before) { hover(...place(event)); return; }
    const now = place(event);
    if (lasso) { lasso.push(now); redraw(); return; }
    if (fingers.size === 1) {
      view.x += now[0] - before[0];
      view.y += now[1] - before[1];
      redraw();
    } else {
      const [, other] = [...fingers].find(([id]) => id !== event.pointerId);
      const reach = point => Math.hypot(point[0] - other[0], point[1] - other[1]);
      zoom(reach(now) / Math.max(1, reach(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
    fingers.set(event.pointerId, now);
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, event => {
    fingers.delete(event.pointerId);
    if (!lasso) return;
    const polygon = lasso;
    lasso = null;
    if (kind === "pointerup" && polygon.length > 2) choose(point => isInside(point, polygon)); else redraw();
  });
  canvas.addEventListener("pointerleave", () => { hovered = -1; tip.hidden = true; redraw(); });
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * .0016), ...place(event));
  }, {passive: false});
  canvas.addEventListener("keydown", event => {
    const step = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]}[event.key];
    if (step) { view.x += step[0]; view.y += step[1]; redraw(); }
    else if (event.key === "+" || event.key === "=") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0") reset();
    else return;
    event.preventDefault();
  });
  document.getElementById("in").addEventListener("click", () => zoom(1.6));
  document.getElementById("out").addEventListener("click", () => zoom(1 / 1.6));
  document.getElementById("all").addEventListener("click", reset);
  onlyMisses.addEventListener("change", redraw);
  for (const button of document.querySelectorAll("[data-class]")) {
    button.addEventListener("click", () => {
      const number = Number(button.dataset.class);
      const hide = !hidden.delete(number);
      if (hide) hidden.add(number);
      button.setAttribute("aria-pressed", String(!hide));
      redraw();
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  sheet.addEventListener("load", redraw);
  new ResizeObserver(() => {
    ({width, height} = canvas.getBoundingClientRect());
    canvas.width = width * (devicePixelRatio || 1);
    canvas.height = height * (devicePixelRatio || 1);
    draw();
  }).observe(canvas);
})();
