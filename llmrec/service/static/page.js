"use strict";
// Everything that comes from the service is put on the page as text, never as markup.

const HOUR = 3600, DAY = 86400;
const AFTER = [[HOUR, "an hour"], [DAY, "a day"], [7 * DAY, "a week"], [30 * DAY, "30 days"], [90 * DAY, "90 days"],
  [365 * DAY, "a year"]];
const $ = (id) => document.getElementById(id);

let about = null;      // what is served
let user = null;       // who is looked at, or null for a history of one's own
let events = [];       // {item, label, at} of the history, oldest first
let stops = [];        // {at, label} of the slider
let places = new Map();  // rank of each item at the stop before

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function showProblem(message) {
  $("problem").textContent = message;
  $("problem").hidden = !message;
}

async function ask(path, body) {
  const options = body === undefined ? {} :
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The service does not answer. Is it still running?");
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail || `status ${answer.status}`);
  showProblem("");
  return content;
}

// Of several answers to the same question, only the last is shown.
function latest(work) {
  let turn = 0;
  return async (...given) => {
    const number = ++turn;
    try {
      await work(() => number === turn, ...given);
    } catch (error) {
      if (number === turn) showProblem(error.message);
    }
  };
}

function later(work, wait) {
  let timer;
  return (...given) => { clearTimeout(timer); timer = setTimeout(() => work(...given), wait); };
}

const date = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
const percent = (share) => share >= 0.0995 ? `${Math.round(100 * share)}%`
  : share >= 0.00005 ? `${(100 * share).toPrecision(2)}%` : "under 0.01%";

// Words and color of a drift term.
function term(name) {
  const row = about.terms.find((one) => one.name === name);
  return { label: row?.caption ?? name, color: row?.color };
}

function bars(place, rows) {
  place.replaceChildren(...rows.map(({ label, share, value, color, sign }) => {
    const row = make("div", sign), line = make("div", "line"), bar = make("div", "bar"), fill = make("i");
    line.append(make("span", "", label), make("span", "", value ?? percent(share)));
    fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    if (color) fill.style.background = color;
    bar.append(fill);
    row.append(line, bar);
    return row;
  }));
}

// Summands with their signs, and the total in the last row.
function breakdown(place, rows) {
  const most = Math.max(...rows.map((row) => Math.abs(row.points)), Number.MIN_VALUE);
  bars(place, rows.map(({ label, points, text, color }) =>
    ({ label, share: Math.abs(points) / most, value: text, color, sign: points < 0 ? "minus" : "" })));
  place.lastElementChild.classList.add("total");
}

// --- who

function choose(tab) {
  for (const name of ["user", "history"]) {
    $(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    $(`panel-${name}`).hidden = name !== tab;
  }
}

const findUsers = latest(async (current, words) => {
  const found = await ask(`/page/users?words=${encodeURIComponent(words)}`);
  if (!current()) return;
  $("users").replaceChildren(...found.map((one) => {
    const row = make("li"), button = make("button");
    button.append(make("span", "", one.user), make("small", "", `${one.items.toLocaleString("en")} items`));
    button.setAttribute("aria-pressed", String(one.user === user));
    button.addEventListener("click", () => showUser(one.user));
    row.append(button);
    return row;
  }));
});

const showUser = latest(async (current, name) => {
  const known = await ask(`/users/${encodeURIComponent(name)}`);
  if (!current()) return;
  choose("user");
  user = name;
  events = known.events;
  for (const button of $("users").querySelectorAll("button"))
    button.setAttribute("aria-pressed", String(button.firstChild.textContent === name));
  begin(events.length);
});

const findItems = latest(async (current, words) => {
  const found = words.trim() ? await ask(`/page/items?words=${encodeURIComponent(words)}`) : [];
  if (!current()) return;
  $("found").replaceChildren(...found.map((one) => {
    const row = make("li"), button = make("button");
    button.append(make("span", "", one.label), make("small", "", "add"));
    button.addEventListener("click", () => { $("item-words").value = ""; $("found").replaceChildren(); add(one); });
    row.append(button);
    return row;
  }));
});

function add(item) {
  const at = events.length ? stops[$("now").value].at : about.newest + 1;
  events = [...events.filter((one) => one.item !== item.item), { ...item, at }].sort((a, b) => a.at - b.at);
  begin(events.findLastIndex((one) => one.at <= at) + 1);
}

function own() {
  choose("history");
  user = null;
  events = [];
  begin(0);
  $("item-words").focus();
}

function showHistory() {
  const now = stops.length ? stops[$("now").value].at : Infinity;
  $("history-head").textContent = user === null ? "Your history" : `Last events of user ${user}`;
  $("history").replaceChildren(...events.map((one) => {
    const row = make("li", one.at < now ? "" : "later");
    row.append(make("span", "", one.label), make("small", "", date(one.at).slice(0, 10)));
    if (user === null) {
      const button = make("button", "", "×");
      button.setAttribute("aria-label", `Remove ${one.label}`);
      button.addEventListener("click", () => { events = events.filter((other) => other !== one); begin(events.length); });
      row.append(button);
    }
    return row;
  }).reverse());
}

// --- now: a stop after each event, and some after the last

function begin(stop) {
  places = new Map();
  stops = events.map((one, place) => ({ at: one.at + 1, label: `after event ${place + 1} of ${events.length}` }));
  if (events.length) {
    const last = events.at(-1).at;
    stops.push(...AFTER.map(([wait, words]) => ({ at: last + wait, label: `${words} after the last event` })));
  }
  $("now").max = Math.max(stops.length - 1, 0);
  $("now").disabled = stops.length < 2;
  $("now").value = Math.max(0, Math.min(stop, stops.length) - 1);
  $("first").textContent = stops.length ? "first event" : "";
  $("last").textContent = stops.length ? "a year after the last" : "";
  moved();
}

function moved() {
  const stop = stops[$("now").value];
  $("when").textContent = stop ? `${date(stop.at)} · ${stop.label}` : "nothing done yet: what is popular";
  showHistory();
  look();
}

function query() {
  const stop = stops[$("now").value];
  if (user !== null) return { user, at: stop.at };
  return stop ? { history: events.map((one) => ({ item: one.item, at: one.at })), at: stop.at } : { history: [] };
}

const look = later(latest(async (current) => {
  const seen = await ask("/page/view", query());
  if (!current()) return;
  showItems(seen.items);
  showInterest(seen);
}), 60);

function showItems(items) {
  const best = items.length ? items[0].score : 0;
  $("items").replaceChildren(...items.map((one, rank) => {
    const row = make("li"), button = make("button"), label = make("span", "", one.label);
    const before = places.get(one.item), bar = make("div", "bar"), fill = make("i");
    if (one.shown) label.append(make("span", "shown", one.shown));
    if (places.size && before === undefined) label.append(make("span", "moved", "new"));
    else if (before > rank) label.append(make("span", "moved", `▲ ${before - rank}`));
    fill.style.width = `${100 * Math.exp(one.score - best)}%`;
    bar.append(fill);
    button.append(make("span", "rank", rank + 1), label, make("small", "", one.text), bar);
    button.addEventListener("click", () => explain(one));
    row.append(button);
    return row;
  }));
  places = new Map(items.map((one, rank) => [one.item, rank]));
}

function showInterest({ states, parts }) {
  $("interest").hidden = !states.length && !Object.keys(parts).length;
  const rows = states.map((share, state) => ({ share, label: about.states[state]?.join(" · ") ?? `state ${state + 1}` }));
  rows.sort((a, b) => b.share - a.share);
  const largest = rows.length ? rows[0].share : 1;
  bars($("states"), rows.slice(0, 8).map((row) => ({ ...row, share: row.share / largest, value: percent(row.share) })));
  bars($("parts"), Object.entries(parts).map(([name, share]) => ({ ...term(name), share })));
}

// --- why

const explain = latest(async (current, item) => {
  const why = await ask("/page/explain", { ...query(), ...(user !== null ? { user: undefined, history: history() } : {}), item: item.item });
  if (!current()) return;
  $("why-title").textContent = why.label;
  $("why-sentence").textContent = why.sentence;
  breakdown($("why-terms"), why.terms);
  breakdown($("why-events"), why.events);
  $("why").showModal();
});

const history = () => events.map((one) => ({ item: one.item, at: one.at }));

// --- a new item

const findAudience = latest(async (current, text) => {
  $("audience").replaceChildren(make("p", "note", "reading …"));
  const found = await ask("/page/audience", { text });
  if (!current()) return;
  const table = make("table"), head = make("tr");
  head.append(...["user", "× the mean chance", "its place for them", "events"].map((name) => make("th", "", name)));
  table.append(head, ...found.map((one) => {
    const row = make("tr"), who = make("td"), button = make("button", "", one.user);
    button.addEventListener("click", () => { showUser(one.user); scrollTo({ top: 0, behavior: "smooth" }); });
    who.append(button);
    row.append(who, make("td", "", one.lift.toFixed(1)), make("td", "", `${one.place.toLocaleString("en")} of ${one.of.toLocaleString("en")}`),
      make("td", "", one.events));
    return row;
  }));
  $("audience").replaceChildren(found.length ? table : make("p", "note", "No users are known yet."));
});

// --- the page

async function start() {
  $("tab-user").addEventListener("click", () => { choose("user"); $("user-words").focus(); });
  $("tab-history").addEventListener("click", own);
  $("user-words").addEventListener("input", later(() => findUsers($("user-words").value), 120));
  $("item-words").addEventListener("input", later(() => findItems($("item-words").value), 120));
  $("now").addEventListener("input", moved);
  $("audience-form").addEventListener("submit", (event) => { event.preventDefault(); findAudience($("text").value); });
  try {
    about = await ask("/page/about");
  } catch (error) {
    showProblem(error.message);
    return;
  }
  const count = (n) => n.toLocaleString("en");
  $("about").textContent = `${about.source} · ${count(about.items)} items · ${count(about.users)} users`;
  $("new").hidden = !about.reads_text;
  $("items-unit").textContent = about.unit;
  await findUsers("");
  const first = $("users").querySelector("button");
  if (first) first.click();
  else own();
}

start();
