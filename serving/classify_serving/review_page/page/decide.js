"use strict";
(() => {
  const byId = id => document.getElementById(id);
  const root = byId("decide");
  const block = byId("review-data");
  if (!root || !block) return;
  const data = JSON.parse(block.textContent);
  const served = document.documentElement.hasAttribute("data-served");
  const number = count => count.toLocaleString("en");
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const keyOf = row => JSON.stringify([row.sha256, row.label, row.path]);

  // ---- rows and decisions
  let rows = data.rows;
  const details = new Map(data.rows.map(row => [keyOf(row), row]));
  const history = [];
  const times = [];
  let shown = [];
  let current = 0;
  let version = 0;
  let isHeatShown = false;
  const canBeGiven = label => !data.labels.length || data.labels.includes(label);
  const isDecided = row => /^\s*(keep|delete|relabel\s*:.*\S.*)\s*$/i.test(row.action);
  const actionFor = (row, label) => label === row.label ? "keep" : `relabel:${label}`;
  const labelOf = action => action.startsWith("relabel:") ? action.slice(8) : "";
  const actionText = action => {
    if (action.trim() === "") return "Not decided";
    if (labelOf(action)) return `Relabel to ${labelOf(action)}`;
    return {keep: "Keep the label", delete: "Delete the image"}[action.trim().toLowerCase()] ?? `Not decided: "${action}" is no action`;
  };

  // ---- where decisions are kept: in the browser, or by the server that sent this page
  const storeName = `classify-review:${data.id}`;
  const stored = () => { try { return JSON.parse(localStorage.getItem(storeName)) ?? {}; } catch { return {}; } };
  const say = (text, isBad = false) => { const out = byId("decide-saved"); out.textContent = text; out.className = isBad ? "bad" : ""; };
  const keepInBrowser = (name, value) => {
    try {
      const all = stored();
      if (value === null) delete all[name]; else all[name] = value;
      localStorage.setItem(storeName, JSON.stringify(all));
      return true;
    } catch { return false; }
  };
  const waiting = new Map();
  const PAUSE = 3000;
  let isSending = false;
  const send = async () => {
    if (isSending || !waiting.size) return;
    isSending = true;
    let pause = 0;
    const batch = [...waiting.entries()];
    try {
      const answer = await fetch("decisions", {
        method: "POST",
        headers: {"Content-Type": "application/json"},
        body: JSON.stringify({version, decisions: batch.map(([name, action]) => ({key: JSON.parse(name), action}))}),
      });
      const result = await answer.json();
      if (!answer.ok) throw new Error(result.error);
      for (const [name, action] of batch) if (waiting.get(name) === action) { waiting.delete(name); keepInBrowser(name, null); }
      take(result);
      const refused = new Set((result.refused ?? []).map(key => JSON.stringify(key)));
      const lost = rows.find(row => refused.has(keyOf(row)));
      say(refused.size ? `Not saved: ${lost ? `"${lost.action}" is no decision` : "the image is no longer in review.csv"}` : "Saved in review.csv", refused.size > 0);
    } catch (error) {
      const reason = error instanceof TypeError ? "the server does not answer" : error.message;
      say(`Not saved (${reason}); it is kept here and sent again`, true);
      // The server may not come back.
      byId("decide-download").hidden = false;
      pause = PAUSE;
    }
    // New decisions join those that wait for the next attempt.
    setTimeout(() => { isSending = false; send(); }, waiting.size ? pause : 0);
  };
  // Decisions of other windows, and rows that appeared since.
  const take = result => {
    version = result.version;
    if (result.rows) setRows(result.rows);
    for (const [name, action] of result.changes ?? []) {
      const row = rows.find(each => keyOf(each) === JSON.stringify(name));
      if (row && !waiting.has(keyOf(row))) row.action = action;
    }
    if (result.rows || result.changes?.length) { fillFilters(); filter(true); }
  };
  const setRows = fresh => { rows = fresh.map(row => ({...details.get(keyOf(row)), ...row})); };
  const poll = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(`decisions?since=${version}`);
        if (answer.ok) take(await answer.json());
      } catch { /* the next decision tells */ }
    }
    setTimeout(poll, 4000);
  };
  const save = row => {
    if (served) { waiting.set(keyOf(row), row.action); keepInBrowser(keyOf(row), row.action); send(); return; }
    const isKept = keepInBrowser(keyOf(row), row.action);
    say(isKept ? "Kept in this browser; download review.csv to apply it" : "This browser keeps nothing: download review.csv before you close this page", !isKept);
  };

  const decide = (row, wanted) => {
    if (!row) return;
    const last = history.at(-1);
    // A key that is pressed twice by mistake; later, the same decision once more takes it back.
    if (last?.name === keyOf(row) && last.after === wanted && row.action === wanted) return;
    const action = row.action === wanted ? "" : wanted;
    history.push({name: keyOf(row), before: row.action, after: action});
    times.push(Date.now());
    row.action = action;
    save(row);
    closePicker();
    if (action === "") { draw("Not decided"); return; }
    const next = shown.findIndex((each, place) => place > current && !isDecided(each));
    const other = next >= 0 ? next : shown.findIndex(each => !isDecided(each));
    if (other >= 0) current = other;
    draw(actionText(action));
  };
  const undo = () => {
    const last = history.pop();
    if (!last) return;
    times.pop();
    const row = rows.find(each => keyOf(each) === last.name);
    if (!row || row.action !== last.after) { draw("Not undone: it was decided elsewhere meanwhile"); return; }
    row.action = last.before;
    save(row);
    show(row);
    draw("Undone");
  };
  const onCard = action => () => { action(); if (byId("decide-picker").hidden) byId("decide-card").focus({preventScroll: true}); };
  const step = by => { current = Math.min(shown.length - 1, Math.max(0, current + by)); closePicker(); draw(); };

  // ---- filters
  const pairOf = row => row.predicted ? `${row.label} → ${row.predicted}` : "";
  const SUSPICIOUS = "suspicious";
  const isSuspicious = row => !["confusion", "confirmed", "unreadable"].includes(row.issue_type);
  const counted = values => { const counts = new Map(); for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1); return counts; };
  const isOfIssue = issue => row => issue === "" || (issue === SUSPICIOUS ? isSuspicious(row) : row.issue_type === issue);
  const has = (select, value) => [...select.options].some(option => option.value === value);
  const fillFilters = () => {
    const issue = byId("decide-issue"), pair = byId("decide-pair");
    // At first, those that are probably wrong.
    const [oldIssue, oldPair] = issue.options.length ? [issue.value, pair.value] : [SUSPICIOUS, ""];
    const suspicious = rows.filter(isSuspicious).length;
    const issues = counted(rows.map(row => row.issue_type));
    issue.replaceChildren(
      ...(suspicious ? [new Option(`to look at first (${number(suspicious)})`, SUSPICIOUS)] : []),
      new Option(`all (${number(rows.length)})`, ""),
      ...Object.entries(data.issues).filter(([type]) => issues.has(type)).map(([type, name]) => new Option(`${name} (${number(issues.get(type))})`, type)),
    );
    if (has(issue, oldIssue)) issue.value = oldIssue;
    const pairs = [...counted(rows.filter(isOfIssue(issue.value)).map(pairOf).filter(Boolean))].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    pair.replaceChildren(new Option("all", ""), ...pairs.map(([name, count]) => new Option(`${name} (${number(count)})`, name)));
    if (has(pair, oldPair)) pair.value = oldPair;
  };
  const filter = (keepsPlace = false) => {
    const here = shown[current] && keyOf(shown[current]);
    const issue = byId("decide-issue").value, pair = byId("decide-pair").value, isOpenOnly = byId("decide-open").checked;
    shown = rows.filter(row => isOfIssue(issue)(row) && (pair === "" || pairOf(row) === pair) && (!isOpenOnly || !isDecided(row)));
    const place = keepsPlace ? shown.findIndex(row => keyOf(row) === here) : shown.findIndex(row => !isDecided(row));
    current = Math.max(0, place);
    draw();
  };

  // Go to an image, without filters if these leave it out.
  const show = row => {
    if (!shown.includes(row)) { byId("decide-issue").value = ""; byId("decide-pair").value = ""; byId("decide-open").checked = false; filter(); }
    current = shown.indexOf(row);
  };

  // ---- drawing
  const minutesLeft = open => {
    const gaps = times.slice(1).map((time, place) => Math.min(60000, time - times[place]));
    const each = gaps.length >= 3 ? gaps.slice(-20).sort((a, b) => a - b)[Math.floor(Math.min(20, gaps.length) / 2)] : 4000;
    const minutes = Math.ceil(open * each / 60000);
    return minutes <= 1 ? "about a minute" : `about ${number(minutes)} minutes`;
  };
  const thumbnailOf = row => row.picture || byId(row.card ?? "")?.querySelector("img")?.src || "";
  const pictureOf = (row, caption) => {
    const frame = element("div", {className: "frame"});
    const small = thumbnailOf(row);
    const text = `${row.path}, labelled ${row.label}`;
    const full = served ? `image/${row.sha256}` : row.href;
    frame.append(small ? element("img", {alt: text, src: small}) : element("p", {className: "missing", textContent: row.path}));
    if (full && row.issue_type !== "unreadable") {
      const large = element("img", {alt: text, src: full});
      large.onload = () => frame.replaceChildren(large, ...[...frame.children].filter(child => child.classList.contains("heat")));
    }
    const heat = row.heat || byId(row.card ?? "")?.querySelector("img.heat")?.src;
    if (heat && isHeatShown) frame.append(element("img", {src: heat, className: "heat", alt: "Regions that led to the prediction"}));
    return element("figure", {}, frame, ...(caption ? [element("figcaption", {textContent: caption})] : []));
  };
  const draw = (message = "") => {
    const total = shown.length, open = shown.filter(row => !isDecided(row)).length;
    const count = total ? `${number(total - open)} of ${number(total)} decided${open ? `, ${minutesLeft(open)} left` : ""}` : "No image matches";
    byId("decide-count").textContent = message ? `${message}. ${count}` : count;
    byId("decide-done").value = total ? (total - open) / total : 0;
    byId("decide-undo").disabled = !history.length;
    const row = shown[current];
    byId("decide-card").hidden = !row;
    drawStrip();
    if (!row) return;
    const copies = rows.filter(other => other !== row && row.same?.includes(other.path));
    byId("decide-pictures").replaceChildren(
      pictureOf(row, copies.length ? `this copy: ${row.path}, labelled ${row.label}` : ""),
      ...copies.slice(0, 2).map(other => pictureOf(other, `other copy: ${other.path}, labelled ${other.label}${isDecided(other) ? ` (${actionText(other.action)})` : ""}`)));
    byId("decide-labels").replaceChildren("Labelled ", element("b", {textContent: row.label}), ...(row.predicted && row.predicted !== row.label && row.top?.[0][0] !== row.label ? [", looks like ", element("b", {textContent: row.predicted})] : []));
    byId("decide-reason").textContent = [data.issues[row.issue_type], row.reason].filter(Boolean).join(": ");
    const top = row.top ?? (row.predicted ? [[row.predicted, Number(row.probability)]] : []);
    byId("decide-top").replaceChildren(...top.slice(0, 9).map(([name, probability], place) => {
      const isGiven = name === row.label;
      // A class that several folders were merged into has no folder: one of them has to be chosen.
      const onclick = isGiven || canBeGiven(name) ? onCard(() => decide(row, actionFor(row, name))) : openPicker;
      const button = element("button", {type: "button", onclick},
        element("kbd", {textContent: place + 1}), element("span", {className: "name", textContent: name, title: name}),
        element("small", {textContent: `${isGiven ? "its label, " : ""}${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)}%`}));
      button.style.setProperty("--p", probability.toFixed(3));
      button.classList.toggle("given", isGiven);
      button.setAttribute("aria-pressed", row.action === actionFor(row, name));
      return element("li", {}, button);
    }));
    byId("decide-keep").setAttribute("aria-pressed", row.action === "keep");
    byId("decide-delete").setAttribute("aria-pressed", row.action === "delete");
    const isOffered = !isDecided(row) && row.proposed;
    byId("decide-state").replaceChildren(...(isOffered
      ? [element("button", {type: "button", onclick: onCard(() => decide(row, row.proposed))}, `Proposed: ${actionText(row.proposed)} `, element("kbd", {textContent: "Enter"}))]
      : [row.action.trim() ? actionText(row.action) : ""]));
    byId("decide-path").textContent = row.file || row.path;
    byId("decide-card").setAttribute("aria-label", `Image ${current + 1} of ${total}: ${row.path}, labelled ${row.label}${row.predicted ? `, looks like ${row.predicted}` : ""}. ${actionText(row.action)}`);
    const near = row.nearest ?? [];
    const isOneLabel = new Set(near.map(each => each.label)).size === 1;
    const nearTitle = isOneLabel ? `Most similar images labelled ${near[0].label}` : "Most similar images in the dataset";
    byId("decide-near").replaceChildren(...(near.length ? [element("p", {textContent: nearTitle})] : []),
      ...near.map(each => {
        const caption = element("figcaption", {title: each.path}, ...(isOneLabel ? [] : [element("b", {textContent: each.label}), " "]), each.path);
        if (!each.picture) return element("figure", {}, caption);
        return element("figure", {}, element("img", {alt: `${each.path}, labelled ${each.label}`, src: each.picture}), caption);
      }));
  };
  const STRIP = 21;
  const drawStrip = () => {
    const width = Math.max(3, Math.min(STRIP, Math.floor((byId("decide-strip").clientWidth - 8) / 62) || 9));
    const first = Math.max(0, Math.min(current - Math.floor(width / 2), shown.length - width));
    byId("decide-strip").replaceChildren(...shown.slice(first, first + width).map((row, offset) => {
      const place = first + offset;
      const button = element("button", {type: "button", title: row.path, onclick: () => { current = place; closePicker(); draw(); byId("decide-card").focus({preventScroll: true}); }});
      const source = thumbnailOf(row) || (served && row.issue_type !== "unreadable" ? `image/${row.sha256}` : "");
      if (source) button.append(element("img", {alt: "", src: source}));
      if (isDecided(row)) button.append(element("span", {className: "mark", textContent: labelOf(row.action) ? "→" : row.action === "delete" ? "×" : "✓"}));
      button.setAttribute("aria-label", `Image ${place + 1}: ${row.path}. ${actionText(row.action)}`);
      if (place === current) button.setAttribute("aria-current", "true");
      return element("li", {}, button);
    }));
  };

  // ---- choosing another label by typing a part of it
  const picker = byId("decide-picker"), input = byId("decide-input"), options = byId("decide-options");
  let chosen = 0;
  // Without accents, which not every keyboard has.
  const plain = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const matches = () => {
    const text = plain(input.value.trim());
    const found = data.labels.filter(label => plain(label).includes(text));
    return found.sort((a, b) => plain(b).startsWith(text) - plain(a).startsWith(text)).slice(0, 50);
  };
  const drawOptions = () => {
    const found = matches();
    // Nothing is chosen before anything is typed, so that Enter alone does nothing.
    chosen = Math.min(Math.max(chosen, input.value.trim() ? 0 : -1), found.length - 1);
    options.replaceChildren(...found.map((label, place) => {
      const option = element("li", {textContent: label, id: `decide-option-${place}`, onclick: () => pick(label)});
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", place === chosen);
      return option;
    }));
    if (!found.length) options.append(element("li", {textContent: "No such label in this dataset"}));
    input.setAttribute("aria-activedescendant", chosen >= 0 ? `decide-option-${chosen}` : "");
    options.children[chosen]?.scrollIntoView({block: "nearest"});
  };
  const openPicker = () => { picker.hidden = false; input.value = ""; chosen = -1; drawOptions(); input.focus(); };
  const closePicker = () => { if (!picker.hidden) { picker.hidden = true; byId("decide-card").focus({preventScroll: true}); } };
  const pick = label => decide(shown[current], actionFor(shown[current], label));
  input.addEventListener("input", () => { chosen = -1; drawOptions(); });
  input.addEventListener("keydown", event => {
    event.stopPropagation();
    const found = matches();
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); chosen += event.key === "ArrowDown" ? 1 : -1; drawOptions(); }
    else if (event.key === "Enter" && found[chosen]) { event.preventDefault(); pick(found[chosen]); }
    else if (event.key === "Escape") closePicker();
  });

  // ---- keys, buttons and touch
  const onKey = event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input,select,textarea,summary,pre")) return;
    const row = shown[current], key = event.key;
    const digit = "123456789".indexOf(key);
    const isButton = event.target.closest("button") !== null;
    if (key === "ArrowLeft") step(-1);
    else if (key === "ArrowRight") step(1);
    else if (key === "k" || key === "K") decide(row, "keep");
    else if (key === "d" || key === "D") decide(row, "delete");
    else if (key === "r" || key === "R") openPicker();
    else if (key === "u" || key === "U") undo();
    else if (key === "h" || key === "H") { isHeatShown = !isHeatShown; draw(); }
    else if (key === "Enter" && !isButton && row?.proposed) decide(row, row.proposed);
    else if (key.length === 1 && digit >= 0) byId("decide-top").children[digit]?.querySelector("button").click();
    else return;
    event.preventDefault();
  };
  root.addEventListener("keydown", onKey);
  byId("decide-keep").addEventListener("click", onCard(() => decide(shown[current], "keep")));
  byId("decide-delete").addEventListener("click", onCard(() => decide(shown[current], "delete")));
  byId("decide-undo").addEventListener("click", onCard(undo));
  byId("decide-relabel").addEventListener("click", () => picker.hidden ? openPicker() : closePicker());
  byId("decide-previous").addEventListener("click", onCard(() => step(-1)));
  byId("decide-next").addEventListener("click", onCard(() => step(1)));
  byId("decide-issue").addEventListener("change", () => { fillFilters(); filter(); });
  for (const id of ["decide-pair", "decide-open"]) byId(id).addEventListener("change", () => filter());
  let touched = null;
  const pictures = byId("decide-pictures");
  pictures.addEventListener("touchstart", event => { touched = event.changedTouches[0]; }, {passive: true});
  pictures.addEventListener("touchend", event => {
    const across = event.changedTouches[0].clientX - touched.clientX, down = event.changedTouches[0].clientY - touched.clientY;
    if (Math.abs(across) > 50 && Math.abs(across) > 2 * Math.abs(down)) step(across < 0 ? 1 : -1);
  }, {passive: true});
  window.addEventListener("resize", drawStrip);

  byId("decide-download").addEventListener("click", () => {
    downloadReview(data.columns, rows);
    say("Downloaded. Apply it: classify-train apply ~/Downloads/review.csv --dataset DATASET");
  });

  // ---- applying to the dataset, by the server
  const plan = byId("decide-plan");
  let shownPlan = "";
  const askServer = async isDryRun => {
    const shown = isDryRun ? "" : shownPlan;
    const [title, text] = [plan.querySelector("h3"), plan.querySelector("pre")];
    plan.hidden = false;
    plan.focus();
    byId("decide-do").hidden = true;
    if (waiting.size) { title.textContent = "Not done"; text.textContent = "Some decisions are not saved yet. Try again in a moment; if the server has ended, start it again."; return; }
    title.textContent = isDryRun ? "Looking what would change" : "Changing the dataset";
    text.textContent = "";
    try {
      const answer = await fetch("apply", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({dry_run: isDryRun, shown})});
      const result = await answer.json();
      if (!answer.ok) throw new Error(result.error);
      title.textContent = isDryRun ? (result.has_changes ? "This would change; nothing has changed yet" : "Nothing to change") : "Done. Audit, train or classify again for a new list";
      text.textContent = result.text;
      // The last lines say how much it is, and how to undo it.
      text.scrollTop = text.scrollHeight;
      shownPlan = isDryRun ? result.text : "";
      byId("decide-do").hidden = !(isDryRun && result.has_changes);
    } catch (error) {
      title.textContent = "Not done";
      text.textContent = error instanceof TypeError ? "The server does not answer: start it again." : error.message;
    }
  };
  byId("decide-apply").addEventListener("click", () => askServer(true));
  byId("decide-do").addEventListener("click", () => askServer(false));
  byId("decide-cancel").addEventListener("click", () => { plan.hidden = true; byId("decide-card").focus({preventScroll: true}); });

  // ---- start
  const open = card => {
    root.hidden = false;
    const place = rows.findIndex(row => row.card === card);
    if (place >= 0) show(rows[place]);
    draw();
    byId("decide-card").scrollIntoView({block: "center"});
    byId("decide-card").focus({preventScroll: true});
  };
  for (const row of rows) {
    const caption = byId(row.card ?? "")?.querySelector("figcaption");
    if (caption) caption.append(element("button", {type: "button", className: "decide-open-button", textContent: "Decide", onclick: () => open(row.card)}));
  }
  const start = async () => {
    const kept = stored();
    for (const row of rows) if (Object.hasOwn(kept, keyOf(row))) { row.action = kept[keyOf(row)]; if (served) waiting.set(keyOf(row), row.action); }
    if (served) {
      byId("decide-how").textContent = "Every decision is written to review.csv at once.";
      byId("decide-download").hidden = true;
      byId("decide-apply").hidden = false;
      try { take(await (await fetch("decisions?since=-1")).json()); } catch { say("The server does not answer", true); }
      for (const [name, action] of waiting) { const row = rows.find(each => keyOf(each) === name); if (row) row.action = action; else waiting.delete(name); }
      send();
      setTimeout(poll, 4000);
    } else {
      byId("decide-how").textContent = "Decisions are kept in this browser until you download them as review.csv.";
    }
    if (!rows.length) return;
    root.hidden = false;
    fillFilters();
    filter();
    if (served && !location.hash) root.scrollIntoView();
    if (served || document.documentElement.hasAttribute("data-decide-first")) byId("decide-card").focus({preventScroll: true});
  };
  start();
})();
