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

  const filters = document.getElementById("filters");
  if (!filters) return;
  const find = document.getElementById("find");
  const pickClass = document.getElementById("pick-class");
  const pickIssue = document.getElementById("pick-issue");
  const groups = all(".group").map(element => ({
    element,
    classes: [element.dataset.true, element.dataset.predicted],
    title: element.querySelector("h3").textContent.toLowerCase(),
    entries: all(".entry", element).map(entry => ({
      entry, issues: [entry.dataset.issue, "new" in entry.dataset ? "new" : ""], text: entry.querySelector(".path").textContent.toLowerCase(),
    })),
    details: element.querySelector("details"),
  }));
  const total = groups.reduce((sum, group) => sum + group.entries.length, 0);

  const apply = () => {
    const text = find.value.trim().toLowerCase();
    const isAll = !text && !pickClass.value && !pickIssue.value;
    let found = 0;
    for (const group of groups) {
      const inClass = !pickClass.value || group.classes.includes(pickClass.value);
      const inTitle = group.title.includes(text);
      let shown = 0;
      for (const {entry, issues, text: path} of group.entries) {
        const show = inClass && (!pickIssue.value || issues.includes(pickIssue.value)) && (inTitle || path.includes(text));
        entry.hidden = !show;
        shown += show;
      }
      group.element.hidden = !isAll && !shown;
      if (group.details && !isAll) group.details.open = true;
      found += shown;
    }
    document.getElementById("found").textContent = isAll ? "" : `${found} of ${total}`;
    document.getElementById("nothing").hidden = isAll || found > 0;
  };

  const showAll = () => { filters.reset(); apply(); };
  filters.hidden = false;
  filters.addEventListener("input", apply);
  filters.addEventListener("change", apply);
  filters.addEventListener("submit", event => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(apply));
  document.addEventListener("click", event => {
    const link = event.target.closest("a[href^='#']");
    if (!link) return;
    if (link.dataset.showIssue) { filters.reset(); pickIssue.value = link.dataset.showIssue; apply(); return; }
    // A jump to a group that the filter hides shows everything again.
    const target = document.getElementById(link.getAttribute("href").slice(1));
    if (target?.hidden) showAll();
    target?.focus({preventScroll: true});
  });
  apply();
})();
