// The page: whatever comes from the site is set as text, never as markup.
"use strict";

const KEY = "fedrec-session";
const WAYS = {
  mmr: { name: "unlike items (MMR)", start: 0.5, note: "The next item is good and unlike those before it, by its text. 0: scores alone." },
  calibrated: { name: "genres as in the history", start: 0.03, note: "The list’s genres are like those of the history. 0: scores alone." },
  cap: { name: "exposure cap", start: 0.1, note: "No item in more than this share of lists: shown as after 200 of the site’s users got theirs." },
};
const $ = (id) => document.getElementById(id);
const chosen = new Map();
let asked = 0, looked = 0, active = -1, shown = {};

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

async function call(path, body) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` };
  const options = { headers };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  let answer, content;
  try {
    answer = await fetch(path, options);
    content = await answer.json();
  } catch {
    throw new Error("The page’s command does not answer; is it still running in the terminal?");
  }
  if (answer.ok) return content;
  if (answer.status === 401) lock("This session is over. Open the newest link from the terminal.");
  throw new Error(content.error ?? "The request failed.");
}

function say(id, text) {
  $(id).textContent = text;
  $(id).hidden = !text;
}

function lock(text) {
  sessionStorage.removeItem(KEY);
  $("form").hidden = $("results").hidden = true;
  say("locked", text);
}

async function begin() {
  const code = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  try {
    if (code) sessionStorage.setItem(KEY, (await call("api/login", { code })).session);
    if (!sessionStorage.getItem(KEY)) return lock("Open this page by the link that stands in the terminal; each link works once.");
    welcome(await call("api/site"));
  } catch (error) {
    if ($("locked").hidden) lock(error.message);
  }
}

function welcome(site) {
  $("site").textContent = `Site ${site.site} · adapter ${site.adapter} of run ${site.run} · ${site.items} items. On this machine alone; nothing here leaves it.`;
  for (const option of [...$("way").options]) if (!site.ways.includes(option.value)) option.remove();
  for (const name of site.attributes) {
    const field = element("div", undefined, "field"), label = element("label", `${name} (the model reads it)`);
    const input = element("input");
    input.id = `attribute-${name}`;
    input.dataset.attribute = name;
    input.maxLength = 200;
    label.htmlFor = input.id;
    field.append(label, input);
    $("attributes").append(field);
  }
  $("k").max = site.most;
  say("locked", "");
  $("form").hidden = false;
  choose();
  $("user").focus();
}

function kind() {
  return document.querySelector("input[name=kind]:checked").value;
}

function who() {
  if (kind() === "user") return { user: $("user").value };
  const attributes = {};
  for (const input of document.querySelectorAll("[data-attribute]")) {
    if (input.value.trim()) attributes[input.dataset.attribute] = input.value.trim();
  }
  return { items: [...chosen.keys()], attributes };
}

function choose() {
  const way = WAYS[$("way").value];
  $("strength").value = way.start;
  $("strength").min = $("way").value === "cap" ? 0.01 : 0;
  $("way-note").textContent = way.note;
  tell();
}

function tell() {
  const value = Number($("strength").value).toFixed(2);
  $("strength-value").textContent = value;
}

async function show(event) {
  event.preventDefault();
  const mine = ++asked, button = $("form").querySelector("button[type=submit]");
  const person = who(), k = Number($("k").value), most = Number($("k").max);
  say("fault", "");
  if (person.user !== undefined && !person.user.trim()) return fail("Type a user’s id, or choose titles instead.", $("user"));
  if (person.items && $("title").value.trim()) return fail("Choose a title from those found, or clear the field.", $("title"));
  if (!Number.isInteger(k) || k < 1 || k > most) return fail(`The length must be a whole number from 1 to ${most}.`, $("k"));
  button.setAttribute("aria-busy", "true");
  try {
    const found = await call("api/lists", { ...person, k, policy: `${$("way").value}:${Number($("strength").value)}` });
    if (mine !== asked) return;
    draw(person, found);
    const ids = [...new Set([...found.greedy.items, ...found.chosen.items].map((item) => item.item_id))];
    const reasons = await call("api/reasons", { ...person, item_ids: ids });
    if (mine !== asked) return;
    for (const line of document.querySelectorAll(".why")) line.textContent = reasons[line.dataset.item] ?? "";
  } catch (error) {
    if (mine === asked) fail(error.message, kind() === "user" ? $("user") : $("title"));
  } finally {
    if (mine === asked) button.removeAttribute("aria-busy");
  }
}

function fail(text, field) {
  $("results").hidden = true;
  say("fault", text);
  field.focus();
}

function draw(person, found) {
  shown = person;
  const name = `${WAYS[found.chosen.policy.split(":")[0]]?.name ?? found.chosen.policy}, ${found.chosen.policy.split(":")[1]}`;
  const length = found.history.length;
  $("whose").textContent = person.user !== undefined ? `Lists for user ${person.user.trim()}` : "Lists for somebody new";
  $("history").textContent = length
    ? `${length} ${length === 1 ? "item" : "items"} in the history; newest first: ${found.history.recent.join(" · ")}${length > found.history.recent.length ? " …" : ""}`
    : "No history: popularity and texts decide.";
  $("other-name").textContent = `With ${name}`;
  $("effect-policy").textContent = name;
  const before = found.greedy.items.map((item) => item.item_id), after = found.chosen.items.map((item) => item.item_id);
  const rows = [
    ["items that are not in the other list", after.filter((id) => !before.includes(id)).length, after.filter((id) => !before.includes(id)).length],
    ["mean score", number(found.greedy.score), number(found.chosen.score)],
    ["variety: mean distance of two items’ texts, 0 to 2", number(found.greedy.distance), number(found.chosen.distance)],
    ["genres missed: divergence from the history’s", number(found.greedy.genres_missed), number(found.chosen.genres_missed)],
  ];
  $("effect").tBodies[0].replaceChildren(...rows.map(([label, ...values]) => {
    const row = element("tr"), head = element("th", label);
    head.scope = "row";
    row.append(head, ...values.map((value) => element("td", value)));
    return row;
  }));
  list("greedy", found.greedy.items, after, "left out");
  list("other", found.chosen.items, before, "new");
  $("results").hidden = false;
}

function number(value) {
  return value === null ? "–" : value.toFixed(3);
}

function list(id, items, others, word) {
  $(id).replaceChildren(...items.map((item, place) => {
    const line = element("li"), title = element("span", item.title, "title"), why = element("span", "…", "why");
    const other = others.indexOf(item.item_id);
    if (other < 0) title.append(element("span", word, "mark"));
    else if (id === "other" && other !== place) title.append(element("span", other > place ? `up ${other - place}` : `down ${place - other}`, "mark"));
    why.dataset.item = item.item_id;
    line.append(element("span", `${place + 1}.`, "place"), title, element("span", item.score.toFixed(3), "score"));
    if (item.genres.length) line.append(element("span", item.genres.join(", "), "genres"));
    line.append(why, words(item));
    return line;
  }));
  if (!items.length) $(id).append(element("li", "Nothing is left to offer."));
}

function words(item) {
  const button = element("button", "Words of its text", "words"), person = shown;
  button.type = "button";
  button.setAttribute("aria-label", `Words of its text that count: ${item.title}`);
  button.addEventListener("click", async () => {
    button.setAttribute("aria-busy", "true");
    try {
      const told = element("span", (await call("api/words", { ...person, item_id: item.item_id })).told, "told");
      told.setAttribute("role", "status");
      button.replaceWith(told);
    } catch (error) {
      button.removeAttribute("aria-busy");
      button.textContent = error.message;
    }
  });
  return button;
}

async function look() {
  const mine = ++looked, typed = $("title").value.trim();
  if (!typed) return close();
  let found;
  try {
    found = await call(`api/titles?q=${encodeURIComponent(typed)}`);
  } catch (error) {
    return fail(error.message, $("title"));
  }
  if (mine !== looked) return;
  const fresh = found.filter((item) => !chosen.has(item.item_id));
  $("found").replaceChildren(...fresh.map((item, place) => {
    const option = element("li", item.title);
    option.id = `found-${place}`;
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", "false");
    option.addEventListener("mousedown", (event) => { event.preventDefault(); take(item); });
    option.item = item;
    return option;
  }));
  say("fault", fresh.length ? "" : `No title has “${typed}” in it.`);
  $("found").hidden = !fresh.length;
  $("title").setAttribute("aria-expanded", String(fresh.length > 0));
  mark(-1);
}

function close() {
  looked++;
  $("found").hidden = true;
  $("title").setAttribute("aria-expanded", "false");
  mark(-1);
}

function mark(place) {
  active = place;
  [...$("found").children].forEach((option, at) => option.setAttribute("aria-selected", String(at === place)));
  const option = $("found").children[place];
  if (option) {
    $("title").setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  } else $("title").removeAttribute("aria-activedescendant");
}

function take(item) {
  chosen.set(item.item_id, item.title);
  $("title").value = "";
  close();
  drawChosen();
  $("title").focus();
}

function drawChosen() {
  $("chosen").replaceChildren(...[...chosen].map(([id, title]) => {
    const line = element("li", title), button = element("button", "×");
    button.type = "button";
    button.setAttribute("aria-label", `Take out ${title}`);
    button.addEventListener("click", () => { chosen.delete(id); drawChosen(); $("title").focus(); });
    line.append(button);
    return line;
  }));
}

function steer(event) {
  const options = $("found").hidden ? [] : [...$("found").children];
  if (event.key === "Escape") close();
  else if (event.key === "ArrowDown" && options.length) mark((active + 1) % options.length);
  else if (event.key === "ArrowUp" && options.length) mark(active <= 0 ? options.length - 1 : active - 1);
  else if (event.key === "Enter" && options.length) take(options[Math.max(active, 0)].item);
  else if (event.key === "Backspace" && !$("title").value && chosen.size) { chosen.delete([...chosen.keys()].pop()); drawChosen(); }
  else return;
  if (event.key !== "Backspace") event.preventDefault();
}

let timer = 0;
$("title").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(look, 120); });
$("title").addEventListener("keydown", steer);
$("title").addEventListener("blur", close);
$("way").addEventListener("change", choose);
$("strength").addEventListener("input", tell);
$("form").addEventListener("submit", show);
for (const radio of document.querySelectorAll("input[name=kind]")) {
  radio.addEventListener("change", () => {
    $("of-user").hidden = kind() !== "user";
    $("of-titles").hidden = kind() === "user";
    say("fault", "");
  });
}
addEventListener("hashchange", () => { if (location.hash.length > 1) location.reload(); });
begin();
