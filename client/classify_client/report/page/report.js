"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Pictures of a few pixels are shown as they are, without smoothing.
  for (const image of all(".pic img")) {
    const mark = () => image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) <= 48);
    if (image.complete) mark(); else image.addEventListener("load", mark);
  }

  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    const heads = all("thead th", table);
    const value = (row, column) => {
      const cell = row.cells[column];
      const text = cell.dataset.value ?? cell.textContent.trim();
      const number = Number(text.replaceAll(",", ""));
      return text !== "" && !Number.isNaN(number) ? number : text;
    };
    const order = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const first = head.classList.contains("n") ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const direction = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach(each => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", direction);
        const sign = direction === "ascending" ? 1 : -1;
        body.append(...[...body.rows].sort((a, b) => sign * order(value(a, column), value(b, column))));
      });
    });
  }

  const byId = id => document.getElementById(id);
  const [filters, find, pickClass, pickIssue, pickSort] = ["filters", "find", "pick-class", "pick-issue", "pick-sort"].map(byId);
  if (!filters) return;
  const misses = byId("misses");
  const flat = byId("flat");
  const rest = flat.querySelector("details");
  const groups = all(".group").map(element => {
    const names = all("h3 .name", element).map(name => name.textContent);
    const group = {
      element, names,
      cell: element.id.replace("pair-", ""),
      classes: [element.dataset.true, element.dataset.predicted],
      title: element.querySelector("h3").textContent.toLowerCase(),
      cards: element.querySelector(".cards"),
      list: element.querySelector(".files"),
      details: element.querySelector("details"),
    };
    group.entries = all(".entry", element).map(node => ({
      node, group,
      isCard: node.matches(".card"),
      issues: [node.dataset.issue, "new" in node.dataset ? "new" : ""],
      path: node.querySelector(".path").textContent,
      text: node.querySelector(".path").textContent.toLowerCase(),
      rank: Number(node.dataset.rank),
      probability: Number(node.dataset.p),
      same: node.dataset.same,
    }));
    return group;
  });
  const entries = groups.flatMap(group => group.entries);
  const compare = new Intl.Collator(undefined, {numeric: true}).compare;
  const flatOrders = {
    suspicious: (a, b) => a.rank - b.rank,
    confident: (a, b) => b.probability - a.probability || a.rank - b.rank,
    unsure: (a, b) => a.probability - b.probability || a.rank - b.rank,
    file: (a, b) => compare(a.path, b.path),
  };
  const groupOrders = {
    true: (a, b) => compare(a.names[0], b.names[0]) || compare(a.names[1], b.names[1]),
    predicted: (a, b) => compare(a.names[1], b.names[1]) || compare(a.names[0], b.names[0]),
    pairs: () => 0,
  };
  const number = count => count.toLocaleString("en");
  let cell = "";
  let arranged = "pairs";
  let frames = [];

  // Misses with the same content under different labels are shown in one frame, at the place of the first of them.
  const frame = members => {
    const box = document.createElement("div");
    const caption = document.createElement("p");
    box.className = "same-picture";
    caption.textContent = `The same picture under ${members.length} labels`;
    box.append(caption, ...members.map(entry => entry.node));
    frames.push({box, members});
    return box;
  };

  const arrangeFlat = order => {
    const sorted = [...entries].sort(order);
    const families = new Map();
    for (const entry of sorted) {
      const key = `${entry.same ?? `own-${entry.rank}`} ${entry.isCard}`;
      if (!families.has(key)) families.set(key, []);
      families.get(key).push(entry);
    }
    const cards = [];
    const names = [];
    for (const members of families.values()) {
      const nodes = members.map(entry => entry.node);
      if (!members[0].isCard) names.push(...nodes);
      else if (members.length > 1) cards.push(frame(members));
      else cards.push(...nodes);
    }
    flat.querySelector(".cards").append(...cards);
    rest.querySelector("ul").append(...names);
    rest.open = !cards.length;
  };

  const arrangeGroups = order => {
    for (const {cards, list, entries: own} of groups) {
      cards?.append(...own.filter(entry => entry.isCard).map(entry => entry.node));
      list?.prepend(...own.filter(entry => !entry.isCard).map(entry => entry.node));
    }
    byId("groups").append(...[...groups].sort(order).map(group => group.element));
  };

  const arrange = sort => {
    if (sort === arranged) return;
    arranged = sort;
    const isFlat = sort in flatOrders;
    const old = frames;
    frames = [];
    if (isFlat) arrangeFlat(flatOrders[sort]); else arrangeGroups(groupOrders[sort]);
    for (const {box} of old) box.remove();
    flat.hidden = !isFlat;
    byId("groups").hidden = isFlat;
    byId("grouped").hidden = sort !== "pairs";
  };

  // The address names classes, not their numbers, so that it still fits the report of a later run.
  const selectedClass = () => pickClass.value && pickClass.selectedOptions[0].textContent;
  const anchor = () => location.hash.slice(1).split("&")[0];
  const writeAddress = () => {
    const values = new URLSearchParams();
    const pair = groups.find(group => group.cell === cell)?.names ?? ["", ""];
    const named = {find: find.value.trim(), class: selectedClass(), issue: pickIssue.value, true: pair[0], predicted: pair[1]};
    for (const [name, value] of Object.entries(named)) if (value) values.set(name, value);
    if (pickSort.selectedIndex) values.set("sort", pickSort.value);
    const at = !anchor() || anchor().startsWith("pair-") ? "misses" : anchor();
    const address = `${values}` ? `#${at}&${values}` : location.hash && `#${at}`;
    if (address !== location.hash) history.replaceState(null, "", address || location.pathname);
  };
  const choose = (select, matches) => {
    select.selectedIndex = Math.max(0, [...select.options].findIndex(matches));
  };
  const readAddress = () => {
    const values = new URLSearchParams(location.hash.split("&").slice(1).join("&"));
    const pair = [values.get("true"), values.get("predicted")];
    find.value = values.get("find") ?? "";
    choose(pickClass, option => option.value && option.textContent === values.get("class"));
    choose(pickIssue, option => option.value === values.get("issue"));
    choose(pickSort, option => option.value === values.get("sort"));
    cell = groups.find(({names}) => names[0] === pair[0] && names[1] === pair[1])?.cell ?? "";
  };

  const apply = () => {
    arrange(pickSort.value);
    const text = find.value.trim().toLowerCase();
    const isAll = !text && !pickClass.value && !pickIssue.value && !cell;
    let found = 0;
    let named = 0;
    for (const group of groups) {
      const inClass = (!pickClass.value || group.classes.includes(pickClass.value)) && (!cell || group.cell === cell);
      const inTitle = group.title.includes(text);
      let shown = 0;
      for (const {node, isCard, issues, text: path} of group.entries) {
        const show = inClass && (!pickIssue.value || issues.includes(pickIssue.value)) && (inTitle || path.includes(text));
        node.hidden = !show;
        shown += show;
        named += show && !isCard;
      }
      group.element.hidden = !isAll && !shown;
      if (group.details && !isAll) group.details.open = true;
      found += shown;
    }
    for (const {box, members} of frames) {
      const shown = members.filter(entry => !entry.node.hidden).length;
      box.hidden = !shown;
      box.classList.toggle("whole", shown === members.length);
    }
    rest.hidden = !named;
    rest.querySelector("summary").textContent = `${number(named)} without a picture here`;
    if (!isAll) rest.open = true;
    byId("found").textContent = isAll ? `${number(entries.length)} shown` : `${number(found)} of ${number(entries.length)} shown`;
    byId("nothing").hidden = isAll || found > 0;
    const pair = groups.find(group => group.cell === cell)?.names;
    byId("cell").hidden = !pair;
    byId("cell").textContent = pair ? `${pair[0]} → ${pair[1]} ×` : "";
    byId("cell").setAttribute("aria-label", pair ? `Remove the filter ${pair[0]} → ${pair[1]}` : "");
    writeAddress();
  };

  const clear = () => { find.value = pickClass.value = pickIssue.value = cell = ""; };
  const showCell = name => { clear(); cell = name; apply(); misses.scrollIntoView(); misses.focus({preventScroll: true}); };
  filters.hidden = false;
  filters.addEventListener("input", apply);
  filters.addEventListener("change", apply);
  filters.addEventListener("submit", event => event.preventDefault());
  byId("show-all").addEventListener("click", () => { clear(); apply(); });
  byId("cell").addEventListener("click", () => { cell = ""; apply(); pickSort.focus(); });
  document.addEventListener("click", event => {
    const link = event.target.closest("a[href^='#']");
    if (!link) return;
    const id = link.getAttribute("href").slice(1);
    if (id.startsWith("pair-")) { event.preventDefault(); showCell(id.replace("pair-", "")); return; }
    if (link.dataset.showIssue) { clear(); pickIssue.value = link.dataset.showIssue; apply(); return; }
    // A jump to a miss that the filter hides shows everything again.
    if (byId(id)?.closest("[hidden]")) { clear(); apply(); }
    byId(id)?.focus({preventScroll: true});
  });
  const arrive = () => {
    if (anchor().startsWith("pair-")) { showCell(anchor().replace("pair-", "")); return; }
    if (location.hash.includes("&")) {
      readAddress();
      // The browser finds no element of this name.
      byId(anchor())?.scrollIntoView();
    }
    apply();
  };
  window.addEventListener("hashchange", arrive);
  arrive();
})();
